"""Recorded replies: found by what they depend on and by nothing else, and never lost or shared."""

from __future__ import annotations

import pytest
from PIL import Image
from tests.models import random_vlm
from tests.scripted import ScriptedGenerator, completion

from foveate.context import Context, Sampled
from foveate.generators import LocalGenerator, RecordedGenerator, RecordError, Request, Sampling
from foveate.images import View
from foveate.jsonl import read_rows
from foveate.protocols.base import Completion, FinishReason, Usage
from foveate.regions import Box

DRAWN = Sampling(1.0, 16)


def view(shade: int = 0) -> View:
    return View(Image.new("RGB", (56, 56), (shade, 0, 0)), Box(0, 0, 56, 56), (56, 56))


class Named(ScriptedGenerator):
    name = "a"

    @property
    def identity(self) -> str:
        return self.name


def scripted() -> Named:
    """Replies that are all different."""
    return Named(lambda context, seed: f"reply {seed} to {len(context.messages)}")


def asked_by(path, requests, sampling=DRAWN, name="a") -> list[Request]:
    """What a new process has to ask."""
    inner = scripted()
    inner.name = name
    with RecordedGenerator(inner, path) as recorded:
        recorded.generate(requests, sampling)
    return inner.requests


def test_what_was_answered_is_answered_alike_and_not_asked_again(tmp_path):
    path = tmp_path / "new" / "replies.jsonl"
    requests = [Request(Context.user(view(i), "what?"), (1, 2, 3)) for i in range(4)]
    inner = scripted()
    with RecordedGenerator(inner, path) as recorded:
        first = recorded.generate(requests, DRAWN)
        assert len(recorded) == 12
        assert recorded.generate(requests[::-1], DRAWN) == first[::-1]
    assert first == inner.generate(requests, DRAWN)
    assert inner.requests == requests * 2  # the second time by this test
    assert asked_by(path, requests) == []
    more = Request(requests[1].context, (2, 9, 3))
    assert asked_by(path, [requests[0], more]) == [Request(more.context, (9,))]


def test_a_reply_is_that_of_its_messages_pixels_sampling_seed_and_model(tmp_path):
    path = tmp_path / "replies.jsonl"
    base = Context.user(view(1), "what?").replied(Sampled((), "this"), "sure?")
    asked_by(path, [Request(base, (1,))])
    others = [
        Context.user(view(2), "what?").replied(Sampled((), "this"), "sure?"),
        Context.user(view(1), "who?").replied(Sampled((), "this"), "sure?"),
        Context.user(view(1), "what?", "sure?"),
        Context.user(view(1), "what?", system="sure?"),
        Context.user("what?", view(1)).replied(Sampled((), "this"), "sure?"),
        Context.user(view(1), "what?").replied(Sampled((), "that"), "sure?"),
        Context.user(view(1), "what?").replied(Sampled((7,), "this"), "sure?"),
    ]
    requests = [Request(context, (1,)) for context in others]
    assert asked_by(path, requests) == requests
    again = Context.user(view(1), "what?").replied(Sampled((), "this"), "sure?")
    assert asked_by(path, [Request(again, (1,))]) == []
    for sampling, name in ((Sampling(0.5, 16), "a"), (Sampling(1.0, 17), "a"), (DRAWN, "b"), (Sampling(0.0, 16), "a")):
        assert asked_by(path, [Request(base, (1,))], sampling, name) == [Request(base, (1,))]
    assert asked_by(path, [Request(base, (99,))], Sampling(0.0, 16)) == []  # greedy: the seed decides nothing


def test_equal_requests_are_asked_once(tmp_path):
    requests = [Request(Context.user(view(1), "what?"), (1, 2)), Request(Context.user(view(1), "what?"), (2, 3))]
    inner = scripted()
    with RecordedGenerator(inner, tmp_path / "r.jsonl") as recorded:
        replies = recorded.generate(requests, Sampling(0.0, 9))
    assert [request.seeds for request in inner.requests] == [(1,)]
    assert len({c.text for completions in replies for c in completions}) == 1


def test_everything_of_a_completion_is_kept_but_failures_are_asked_again(tmp_path):
    path = tmp_path / "r.jsonl"
    said = [
        Completion((3, 1), (-0.5, -1e-9), "déjà \u2028 vu\n", FinishReason.END),
        Completion((), (), "cut", FinishReason.LENGTH, Usage(5, 6)),
        Completion((), (), "HTTP 500", FinishReason.FAILED),
    ]
    requests = [Request(Context.user(view(i), "what?"), (0,)) for i in range(3)]
    inner = Named(lambda context, seed: said[requests.index(Request(context, (0,)))])
    for expected in (requests, requests[2:]):
        inner.batches.clear()
        with RecordedGenerator(inner, path) as recorded:
            assert recorded.generate(requests, DRAWN) == [[one] for one in said]
        assert inner.requests == expected


def test_replies_are_on_disk_when_they_arrive(tmp_path):
    path = tmp_path / "r.jsonl"

    class Breaking(Named):
        def arriving(self, requests, sampling):
            for number, arrival in enumerate(super().arriving(requests, sampling)):
                assert len(read_rows(path)) == number
                if number == 2:
                    raise KeyboardInterrupt
                yield arrival

    requests = [Request(Context.user(view(i), "what?"), (0,)) for i in range(4)]
    with RecordedGenerator(Breaking(lambda context, seed: "x"), path) as recorded, pytest.raises(KeyboardInterrupt):
        recorded.generate(requests, DRAWN)
    assert asked_by(path, requests) == requests[2:]


def test_a_last_reply_that_was_cut_off_is_asked_again(tmp_path):
    path = tmp_path / "r.jsonl"
    requests = [Request(Context.user(view(i), "what?"), (0,)) for i in range(3)]
    asked_by(path, requests)
    path.write_bytes(path.read_bytes()[:-5])
    assert asked_by(path, requests) == requests[2:]
    assert asked_by(path, requests) == []


def test_a_file_is_used_by_one_at_a_time(tmp_path):
    path = tmp_path / "r.jsonl"
    with RecordedGenerator(scripted(), path), pytest.raises(RecordError, match="in use by another run"):
        RecordedGenerator(scripted(), path)
    RecordedGenerator(scripted(), path).close()


@pytest.mark.parametrize("content", ['{"step": 1}\n', "[1]\n", "x\n{}\n", '{"key": "k", "text": "", "finish": "no"}\n'])
def test_another_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "r.jsonl"
    path.write_text(content)
    for _ in range(2):  # the lock is let go
        with pytest.raises(RecordError, match="not a file of recorded replies"):
            RecordedGenerator(scripted(), path)
    assert path.read_text() == content


def test_a_local_model_is_recorded_batch_by_batch(tmp_path):
    path = tmp_path / "r.jsonl"
    local = LocalGenerator(random_vlm(), max_samples=2)
    requests = [Request(Context.user(view(i), "red"), (1, 2)) for i in range(3)]
    with RecordedGenerator(local, path) as recorded:
        arrivals = recorded.arriving(requests, DRAWN)
        next(arrivals)
        assert len(read_rows(path)) == 1
        arrivals.close()
        found = recorded.generate(requests, DRAWN)
    alone = local.generate(requests, DRAWN)
    assert [[c.token_ids for c in cs] for cs in found] == [[c.token_ids for c in cs] for cs in alone]
    assert len(read_rows(path)) == 6


def test_a_scripted_completion_is_not_changed_by_the_way(tmp_path):
    with RecordedGenerator(Named([completion("x")]), tmp_path / "r.jsonl") as recorded:
        assert recorded.generate([Request(Context.user("q"), (0,))], DRAWN) == [[completion("x")]]
