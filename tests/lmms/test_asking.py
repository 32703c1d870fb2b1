"""Requests of tasks become episodes: in order, under each task's sampling, with crops from the task's own pixels."""

import pytest
from tests.scripted import ScriptedGenerator, picture

from foveate.jsonl import read_rows
from foveate.lmms.asking import Asker, Reply
from foveate.lmms.requests import TaskError, TaskRequest
from foveate.protocols import Completion, Direct, FinishReason, LocateThenAnswer

BOX = '[{"bbox_2d": [112, 56, 168, 112]}]'  # of the small view, 448 x 336 for 1120 x 840


def request(doc_id=0, words="What is it?", task="vstar", **gen_kwargs):
    content = [{"type": "image", "url": picture()}, {"type": "text", "text": words}]
    return TaskRequest(task, "test", doc_id, lambda: [{"role": "user", "content": content}], gen_kwargs)


class Recording(ScriptedGenerator):
    """Notes how each batch was sampled."""

    samplings = ()

    def generate(self, requests, sampling):
        self.samplings = (*self.samplings, sampling)
        return super().generate(requests, sampling)


def said(context):
    return context.messages[-1].parts[-1]


def echo(context, seed):
    """A box where one is asked for, else the question's words."""
    return BOX if "Do not answer yet" in said(context) else said(context).splitlines()[-1]


def decoded(ids):
    return "".join(map(chr, ids))


def asker(script=echo, protocol=None, **options):
    generator = Recording(script)
    made = Asker(generator, decoded, protocol or LocateThenAnswer(), **{"max_new_tokens": 64, **options})
    return made, generator


def test_the_crop_is_of_the_tasks_own_pixels():
    asking, generator = asker()
    asking.ask([request()])
    located, answered = (asked.context for asked in generator.requests)
    assert located.views[0].size == (448, 336)
    [crop] = answered.views
    assert crop.original_size == (1120, 840)
    assert crop.source.corners == (280, 140, 420, 280)
    assert crop.image.getpixel((70, 70)) == (200, 30, 40)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_replies_come_in_the_order_of_the_requests(batch_size):
    """Though tasks that sample alike are asked together."""
    requests = [request(i, f"number {i}", temperature=i % 2) for i in range(5)]
    asking, generator = asker(batch_size=batch_size)
    done = []
    replies = asking.ask(requests, on_progress=done.append)
    assert [reply.text for reply in replies] == [f"number {i}" for i in range(5)]
    assert sum(done) == 5
    assert max(done) == min(batch_size, 3)
    assert {sampling.temperature for sampling in generator.samplings} == {0.0, 1.0}


def test_pictures_are_asked_for_a_batch_at_a_time():
    loaded = []

    def lazily(i):
        def messages():
            loaded.append(i)
            return request(i).messages()

        return TaskRequest("vstar", "test", i, messages, {})

    at_first_reply = []
    asking, _ = asker(lambda context, seed: at_first_reply.append(len(loaded)) or echo(context, seed), batch_size=2)
    asking.ask([lazily(i) for i in range(4)])
    assert at_first_reply[0] == 2
    assert loaded == [0, 1, 2, 3]


@pytest.mark.parametrize(("limit", "longest"), [(16, 64), (None, 64), (200, 200)])
def test_a_tasks_limit_never_shortens_the_locating_turn(limit, longest):
    asking, generator = asker()
    asking.ask([request(max_new_tokens=limit)])
    assert [sampling.max_new_tokens for sampling in generator.samplings] == [longest, longest]


def test_a_tasks_limit_cuts_the_answer_and_the_tokens_of_all_turns_are_counted():
    def script(context, seed):
        text = echo(context, seed)
        return Completion(tuple(map(ord, text)), (), text, FinishReason.END)

    asking, _ = asker(script)
    words = "What is on the red card?"
    assert asking.ask([request(words=words, max_new_tokens=4)]) == [Reply("What", len(BOX) + len(words))]


def test_repeats_of_a_question_are_other_episodes_whatever_the_batch():
    seeds = []
    for batch_size in (1, 3):
        asking, generator = asker(lambda context, seed: "B", Direct(), batch_size=batch_size)
        asking.ask([request(temperature=1.0)] * 3)
        seeds.append([seed for asked in generator.requests for seed in asked.seeds])
    assert len(set(seeds[0])) == 3
    assert seeds[0] == seeds[1]


def test_traces_hold_the_episode_and_what_the_task_got(tmp_path):
    asking, _ = asker(traces=tmp_path / "traces")
    asking.ask([request(3, max_new_tokens=10), request(4, task="mme")])
    asking.ask([request(5)])
    rows = read_rows(tmp_path / "traces" / "vstar.jsonl")
    assert [(row["task"], row["split"], row["doc_id"]) for row in rows] == [("vstar", "test", 3), ("vstar", "test", 5)]
    assert rows[0]["returned"] == rows[0]["turns"][1]["text"] == "What is it?"
    assert rows[0]["turns"][0]["boxes"] == [[280, 140, 420, 280]]
    assert "expected" not in rows[0]
    assert [row["doc_id"] for row in read_rows(tmp_path / "traces" / "mme.jsonl")] == [4]


def test_a_task_with_a_name_of_several_parts_is_traced_in_one_file(tmp_path):
    asking, _ = asker(traces=tmp_path)
    asking.ask([request(task="group/part")])
    assert [path.name for path in tmp_path.iterdir()] == ["group-part.jsonl"]


def test_a_request_that_cannot_be_asked_is_named():
    asking, _ = asker()
    with pytest.raises(TaskError, match="mmlu/test/9"):
        asking.ask([TaskRequest("mmlu", "test", 9, lambda: [], {})])
