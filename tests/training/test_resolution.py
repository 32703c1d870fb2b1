"""Selecting resolutions: the level chosen, the order kept, nothing asked twice, and the same after any interruption."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.scripted import ScriptedGenerator, Traits

from foveate.families import load
from foveate.generators import LocalGenerator
from foveate.images import ImageError, PixelBudget, fit_size
from foveate.questions.readers import load_questions
from foveate.questions.scenes import SceneConfig, Scenes, export
from foveate.questions.schema import Question
from foveate.regions import Box
from foveate.training.resolution import SelectionError, halving, select_resolutions

TOKEN = 28 * 28
BUDGET = Traits().budget  # 1 to 192 visual tokens


def asked_about(name, size, *, choices=None, **changes):
    image = Image.new("RGB", size)
    made = {"id": name, "image": lambda: image, "text": f"What, {name}?", "answer": "7", "choices": choices}
    return Question(**{**made, **changes})


def generator_that_sees(limits):
    """Answers 7 to question q as long as the view has `limits[q]` visual tokens, else how many it has."""

    def script(context, seed):
        [view], [_, text] = context.views, context.messages[0].parts
        tokens = view.size[0] * view.size[1] // TOKEN
        limit = next(limit for name, limit in limits.items() if f"What, {name}?" in text)
        return "\\boxed{7}" if tokens >= limit else f"\\boxed{{{tokens}}}"

    return ScriptedGenerator(script)


def rows(folder):
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]


def chosen(folder):
    return {row["id"]: row["view_pixels"] for row in rows(folder)}


def asked(generator):
    return sum(len(batch) for batch in generator.batches)


SIZES = st.tuples(st.integers(20, 700), st.integers(20, 700))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(SIZES, st.integers(0, 200)), min_size=1, max_size=9),
    st.sets(st.integers(1, BUDGET.max_pixels - 1), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_the_level_chosen_is_the_highest_at_which_the_answer_differs(tmp_path_factory, drawn, levels, at_once):
    folder = tmp_path_factory.mktemp("selection")
    questions = [asked_about(f"q{i}", size) for i, (size, _) in enumerate(drawn)]
    limits = {f"q{i}": limit for i, (_, limit) in enumerate(drawn)}
    generator, seen = generator_that_sees(limits), []
    selection = select_resolutions(
        questions, generator, folder, levels=levels, unchanged="keep", at_once=at_once, on_progress=seen.append
    )

    def answer(name, size, pixels):
        shown = fit_size(size, BUDGET.at_most(pixels), 28)
        tokens = shown[0] * shown[1] // TOKEN
        return "7" if tokens >= limits[name] else str(tokens)

    for i, (size, _) in enumerate(drawn):
        first = answer(f"q{i}", size, BUDGET.max_pixels)
        different = [level for level in levels if answer(f"q{i}", size, level) != first]
        assert chosen(folder)[f"q{i}"] == max(different, default=min(levels))
    assert [row["id"] for row in rows(folder)] == [question.id for question in questions]
    assert sum(seen) == len(questions)
    assert max(map(len, generator.batches)) <= at_once
    views = [(r.context.messages[0].parts[1], r.context.views[0].key) for r in generator.requests]
    assert len(views) == len(set(views))  # no view is asked about twice
    assert selection.summary["cost"]["answers"] == asked(generator)
    assert sum(level["asked"] for level in selection.summary["levels"]) == asked(generator)


LIMITS = {"a": 150, "b": 0, "c": 20, "d": 80, "é": 40, "f": 6, "g": 0}
SIZE = (420, 336)


def few():
    return [asked_about(name, SIZE) for name in LIMITS]


def test_levels_are_halves_down_to_four_visual_tokens():
    assert halving(16 * TOKEN, 28) == (8 * TOKEN, 4 * TOKEN)
    assert halving(13_000, 28) == (6500, 3250)
    levels = halving(16_384 * TOKEN, 28)
    assert levels[0] == 8192 * TOKEN
    assert levels[-1] == 4 * TOKEN


def test_decided_questions_leave_and_others_take_their_place(tmp_path):
    generator = generator_that_sees(LIMITS)
    selection = select_resolutions(few(), generator, tmp_path, at_once=3)
    assert all(len(batch) == 3 for batch in generator.batches[:-4])
    levels = selection.summary["levels"]
    counts = [level["asked"] for level in levels]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == len(LIMITS)
    assert sum(level["chosen"] for level in levels) == selection.summary["kept"] == 5
    assert selection.summary["cost"]["share_of_all_levels"] == asked(generator) / (len(LIMITS) * len(levels))
    assert selection.summary["cost"]["generated_tokens"] == asked(generator)
    assert selection.summary["cost"]["visual_tokens"] == sum(
        view.size[0] * view.size[1] // TOKEN for request in generator.requests for view in request.context.views
    )
    assert json.loads((tmp_path / "summary.json").read_text()) == selection.summary


def test_further_pictures_cost_visual_tokens_too(tmp_path):
    generator = ScriptedGenerator(lambda context, seed: str(context.views[0].size))
    second = Image.new("RGB", (280, 196))
    select_resolutions([asked_about("q", SIZE, others=(lambda: second,))], generator, tmp_path)
    views = [request.context.views for request in generator.requests]
    assert all(len(shown) == 2 for shown in views)
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["visual_tokens"] for answer in answers] == [
        sum(view.size[0] * view.size[1] // TOKEN for view in shown) for shown in views
    ]


def test_unchanged_questions_are_dropped_or_kept_and_counted(tmp_path):
    questions = [*few(), asked_about("wrong", SIZE, answer="1"), asked_about("small", (28, 28))]
    generator = generator_that_sees({**LIMITS, "wrong": 0, "small": 0})
    dropped = select_resolutions(questions, generator, tmp_path)
    assert dropped.summary["unchanged"] == {"questions": 4, "right": 3, "handling": "drop"}
    assert list(chosen(tmp_path)) == ["a", "c", "d", "é", "f"]
    before = asked(generator)
    kept = select_resolutions(questions, generator, tmp_path, unchanged="keep", resume=True)
    assert asked(generator) == before
    assert kept.summary["unchanged"]["handling"] == "keep"
    assert list(chosen(tmp_path)) == [question.id for question in questions]
    lowest = kept.summary["levels"][-1]["pixels"]
    assert [chosen(tmp_path)[name] for name in ("b", "g", "wrong", "small")] == [lowest] * 4


def test_a_picture_that_no_level_shrinks_is_asked_about_once(tmp_path):
    generator = generator_that_sees({"small": 0})
    with pytest.raises(SelectionError, match="no level changed the answer"):
        select_resolutions([asked_about("small", (56, 56))], generator, tmp_path)
    assert asked(generator) == 1


def test_after_any_crash_the_result_is_the_same_and_what_is_known_is_not_asked(tmp_path):
    whole = generator_that_sees(LIMITS)
    select_resolutions(few(), whole, tmp_path / "whole", at_once=3)
    answers = (tmp_path / "whole" / "answers.jsonl").read_bytes()
    settings_ = (tmp_path / "whole" / "selection.json").read_bytes()
    ends = [i + 1 for i, byte in enumerate(answers) if byte == ord("\n")]
    cuts = {cut for end in ends[::3] for cut in (end - 1, end, end + 1, end + 20)} | {0}
    accent = answers.index("é".encode())
    for cut in sorted({*cuts, accent + 1}):  # also within a character
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / "selection.json").write_bytes(settings_)
        (folder / "answers.jsonl").write_bytes(answers[:cut])
        generator = generator_that_sees(LIMITS)
        selection = select_resolutions(few(), generator, folder, at_once=3, resume=True)
        assert (folder / "questions.jsonl").read_bytes() == (tmp_path / "whole" / "questions.jsonl").read_bytes()
        assert asked(generator) == asked(whole) - sum(end <= cut + 1 for end in ends)
        again = generator_that_sees(LIMITS)
        select_resolutions(few(), again, folder, resume=True)  # what was written after the cut is whole
        assert asked(again) == 0
        assert selection.summary["cost"]["answers"] == asked(whole)


@pytest.mark.parametrize("after", range(1, 12))
def test_a_selection_that_was_killed_while_it_asked_goes_on(tmp_path, after):
    class Killed(ScriptedGenerator):
        def generate(self, requests, sampling):
            if len(self.batches) == after:
                raise KeyboardInterrupt
            return super().generate(requests, sampling)

    whole = generator_that_sees(LIMITS)
    select_resolutions(few(), whole, tmp_path / "whole", at_once=3)
    killed = Killed(whole.script)
    with pytest.raises(KeyboardInterrupt):
        select_resolutions(few(), killed, tmp_path / "killed", at_once=3)
    later = generator_that_sees(LIMITS)
    select_resolutions(few(), later, tmp_path / "killed", at_once=3, resume=True)
    assert asked(killed) + asked(later) == asked(whole)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_more_levels_and_more_questions_ask_only_what_is_new(tmp_path):
    generator = generator_that_sees({**LIMITS, "new": 90})
    select_resolutions(few(), generator, tmp_path, levels=[TOKEN * 16])
    before = asked(generator)
    more = [asked_about("new", SIZE), *few()]
    select_resolutions(more, generator, tmp_path, levels=[TOKEN * 16, TOKEN * 80], resume=True)
    assert asked(generator) == before + 2 + len(few())  # the new one at two levels, the others at the new level


def test_a_question_that_was_rewritten_is_asked_again(tmp_path):
    select_resolutions(few(), generator_that_sees(LIMITS), tmp_path)
    changed = [replace(few()[0], text="What, a? Say."), *few()[1:]]
    generator = generator_that_sees(LIMITS)
    select_resolutions(changed, generator, tmp_path, resume=True)
    assert {request.context.messages[0].parts[1].split("\n")[0] for request in generator.requests} == {
        "Question: What, a? Say."
    }


def test_true_boxes_choose_nothing_and_stay_in_the_data(tmp_path):
    region = ((Box(1, 2, 30, 40),),)
    questions = [replace(question, regions=region) for question in few()]
    select_resolutions(questions, generator_that_sees(LIMITS), tmp_path / "boxes")
    select_resolutions(few(), generator_that_sees(LIMITS), tmp_path / "none")
    assert chosen(tmp_path / "boxes") == chosen(tmp_path / "none")
    assert all(question.regions == region for question in load_questions(tmp_path / "boxes"))


def test_no_answer_is_an_answer_of_its_own(tmp_path):
    def script(context, seed):
        tokens = context.views[0].size[0] * context.views[0].size[1] // TOKEN
        return "\\boxed{B}" if tokens > 45 else "I cannot tell."

    question = asked_about("a", SIZE, choices={"A": "7", "B": "8"}, answer="B")
    select_resolutions([question], ScriptedGenerator(script), tmp_path, levels=[TOKEN * 60, TOKEN * 40])
    assert chosen(tmp_path) == {"a": TOKEN * 40}


def test_the_same_answer_in_other_words_is_the_same(tmp_path):
    replies = iter(["\\boxed{The 7.}", "\\boxed{7.0}", "\\boxed{8}"])
    generator = ScriptedGenerator(lambda context, seed: next(replies))
    select_resolutions([asked_about("a", SIZE)], generator, tmp_path, levels=[TOKEN * 60, TOKEN * 40])
    assert chosen(tmp_path) == {"a": TOKEN * 40}


def test_the_original_may_be_shown_under_another_budget(tmp_path):
    generator = generator_that_sees({"a": 300})
    questions = [asked_about("a", (2800, 2800), view_pixels=784)]  # chosen earlier: does not matter now
    select_resolutions(questions, generator, tmp_path, original_pixels=TOKEN * 400, levels=[TOKEN * 200, TOKEN * 350])
    assert generator.requests[0].context.views[0].size == (560, 560)
    assert chosen(tmp_path) == {"a": TOKEN * 200}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"levels": [0]}, "level 0 is not between 1 and"),
        ({"levels": [BUDGET.max_pixels]}, "raise the original"),
        ({"original_pixels": 784}, "no level below the original's 784 pixels"),
        ({"unchanged": "burn"}, "choose one of drop, keep"),
        ({"at_once": 0}, "at_once is 0"),
    ],
)
def test_settings_without_sense_are_refused(tmp_path, options, told):
    with pytest.raises(SelectionError, match=told):
        select_resolutions(few(), generator_that_sees(LIMITS), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_no_questions_are_refused(tmp_path):
    with pytest.raises(SelectionError, match="no questions"):
        select_resolutions([], generator_that_sees({}), tmp_path)


def test_other_work_in_the_folder_is_not_overwritten(tmp_path):
    select_resolutions(few(), generator_that_sees(LIMITS), tmp_path, model="one")
    for options, told in (({}, "resume it"), ({"resume": True, "model": "two"}, "begun with model 'one', not 'two'")):
        with pytest.raises(SelectionError, match=told):
            select_resolutions(few(), generator_that_sees(LIMITS), tmp_path, **options)
    data = export(SceneConfig(size=448), 1, 0, tmp_path / "data")
    with pytest.raises(SelectionError, match="holds other questions"):
        select_resolutions(few(), generator_that_sees(LIMITS), data.parent, resume=True)
    assert len(load_questions(data)) == 1


def test_a_broken_picture_is_named_and_what_was_answered_is_kept(tmp_path):
    questions = [*few(), asked_about("broken", SIZE, image=b"no picture")]
    with pytest.raises(ImageError, match="question broken"):
        select_resolutions(questions, generator_that_sees(LIMITS), tmp_path, at_once=2)
    later = generator_that_sees(LIMITS)
    select_resolutions(few(), later, tmp_path, at_once=2, resume=True)
    known = (tmp_path / "answers.jsonl").read_text().count("\n")
    assert asked(later) < known


def test_the_embedded_model_on_scenes(tmp_path: Path) -> None:
    scenes = Scenes(SceneConfig(size=448), length=12)
    generator = LocalGenerator(load())
    selection = select_resolutions(scenes, generator, tmp_path / "one", unchanged="keep", at_once=5)
    select_resolutions(scenes, generator, tmp_path / "two", unchanged="keep", at_once=12)
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    read = load_questions(selection.path)
    assert [question.id for question in read] == [question.id for question in scenes]
    assert [question.regions for question in read] == [question.regions for question in scenes]
    assert {question.view_pixels for question in read} <= {6500, 3250}
    assert selection.summary["levels"][0]["asked"] == 12
    assert PixelBudget(3136, 13_000) == generator.family.budget
