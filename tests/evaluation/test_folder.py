"""An evaluation folder: whatever moment the program was ended at, every question is asked and written down once."""

import json
import re
from dataclasses import replace

import pytest
from tests.scripted import BriefGenerator as FakeGenerator

from foveate.evaluation.folder import EvaluationFolder, EvaluationFolderError
from foveate.evaluation.probes import EVERY
from foveate.evaluation.runner import EvaluationError, evaluate
from foveate.generators.base import Sampling
from foveate.protocols import Completion, FinishReason, LocateThenAnswer
from foveate.questions.scenes import SceneConfig, Scenes

QUESTIONS = Scenes(SceneConfig(size=256, view_pixels=56 * 56), seed=3, length=11)[:]


class KilledError(Exception):
    pass


class Asked:
    """Answers by the seed; ends the program after so many samples, and knows what it was asked."""

    def __init__(self, until=10**9):
        self.until, self.locating = until, []

    def __call__(self, context, seed):
        text = str(context.messages[0].parts[-1])
        if text.startswith("locate"):
            self.locating.append(seed)
            if len(self.locating) > self.until:
                raise KilledError
            return ("0, 0, 112, 112", "0, 0, 56, 56", "none")[seed % 3]
        return str(seed % 10)


def run(folder, script, questions=QUESTIONS, *, probed=False, **options):
    generator = FakeGenerator(script)
    if probed:
        options["probes"] = EVERY
    return evaluate(
        questions,
        LocateThenAnswer(),
        generator,
        sampling=Sampling(1.0, 32),
        samples=2,
        at_once=2,
        folder=folder,
        **options,
    )


def rows_of(path):
    return [json.loads(line) for line in (path / "questions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("cut", [0, 1, 40])
@pytest.mark.parametrize("probed", [False, True])
def test_a_run_that_was_ended_goes_on_with_what_is_left(tmp_path, cut, probed):
    whole = run(None, Asked(), probed=probed)
    path, ends = tmp_path / "run", 0
    while True:
        script = Asked(until=7)
        folder = EvaluationFolder(path, {"seed": 0})
        folder.open()
        before = set(folder.finished)
        try:
            result = run(folder, script, probed=probed)
            break
        except KilledError:
            ends += 1
        assert len(folder.finished) > len(before)
        if cut:  # the machine stopped while the last line was being written
            text = (path / "questions.jsonl").read_bytes()
            (path / "questions.jsonl").write_bytes(text[:-cut])
    assert ends >= 3
    assert result.scored == whole.scored
    assert result.to_json() | {"seconds_per_question": 0} == whole.to_json() | {"seconds_per_question": 0}
    assert sorted(row["id"] for row in rows_of(path)) == sorted(question.id for question in QUESTIONS)


def test_a_question_that_failed_is_probed_later_as_it_would_have_been_then(tmp_path):
    """Probes show crops of earlier questions: those that are finished are recalled in their places."""
    texts = [question.text for question in QUESTIONS]
    place = next(place for place in range(3, 8) if texts.count(texts[place]) == 1)
    failing = texts[place]

    class Seeing(FakeGenerator):
        """Keeps what it is shown with the question that may fail."""

        def __init__(self, fails):
            self.shown = set()
            super().__init__(lambda context, seed: self.says(context, fails))

        def says(self, context, fails):
            text = str(context.messages[0].parts[-1])
            if failing in text:
                self.shown.update(view.image.tobytes() for view in context.views)
            if fails and failing in text:
                return Completion((), (), "no", FinishReason.FAILED)
            return "0, 0, 56, 56" if text.startswith("locate") else "7"

    def one(folder, *, fails):
        generator = Seeing(fails)
        folder = EvaluationFolder(tmp_path / folder, {})
        return generator, evaluate(QUESTIONS, LocateThenAnswer(), generator, at_once=3, folder=folder, probes=EVERY)

    _, first = one("late", fails=True)
    assert list(first.failed) == [QUESTIONS[place].id]
    late, again = one("late", fails=False)
    never, whole = one("never", fails=False)
    assert late.shown == never.shown
    assert len(late.shown) > 5
    assert again.scored == whole.scored


def test_what_is_finished_is_not_asked_again(tmp_path):
    first = run(EvaluationFolder(tmp_path, {}), Asked())
    silent, seen = Asked(until=0), []
    again = run(EvaluationFolder(tmp_path, {}), silent, on_progress=seen.append)
    assert silent.locating == []
    assert again.scored == first.scored
    assert again.setup == first.setup
    assert sum(seen) == len(QUESTIONS)
    assert again.seconds_per_question == first.seconds_per_question > 0


def test_more_questions_may_follow_and_fewer_may_not(tmp_path):
    run(EvaluationFolder(tmp_path, {}), Asked(), QUESTIONS[:4])
    script = Asked()
    assert len(run(EvaluationFolder(tmp_path, {}), script).scored) == 11
    assert len(script.locating) == 2 * 7
    with pytest.raises(EvaluationError, match=r"7 question\(s\) that are not among these"):
        run(EvaluationFolder(tmp_path, {}), Asked(), QUESTIONS[:4])


def test_a_failed_question_is_in_no_figure_and_is_asked_again(tmp_path):
    whole = run(None, Asked())

    class Failing(Asked):
        def __call__(self, context, seed):
            said = super().__call__(context, seed)
            fails = not str(context.messages[0].parts[-1]).startswith("locate") and seed % 4 == 0
            return Completion((), (), "the server is on fire", FinishReason.FAILED) if fails else said

    folder = EvaluationFolder(tmp_path, {})
    result = run(folder, Failing())
    assert 0 < len(result.failed) < len(QUESTIONS)
    assert set(result.failed.values()) == {"the server is on fire"}
    left = [scored for scored in whole.scored if scored.id not in result.failed]
    assert list(result.scored) == left
    assert result.summary.questions + len(result.failed) == len(QUESTIONS)
    assert result.setup == whole.setup  # the data is what was asked, whatever became of it
    folder.finish(result.to_json(), result.failed)
    failed = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert [row["id"] for row in failed] == list(result.failed)
    assert json.loads((tmp_path / "scores.json").read_text())["failed"] == len(failed)

    script = Asked()
    again = run(EvaluationFolder(tmp_path, {}), script)
    assert len(script.locating) == 2 * len(failed)
    assert again.scored == whole.scored
    assert again.failed == {}


def test_a_picture_that_cannot_be_read_is_a_failed_question_too(tmp_path):
    broken = tmp_path / "broken.png"
    QUESTIONS[1].image().save(broken)
    broken.write_bytes(broken.read_bytes()[:300])
    asked = [QUESTIONS[0], replace(QUESTIONS[1], image=broken), QUESTIONS[2]]
    result = run(None, Asked(), asked)
    assert [scored.id for scored in result.scored] == [QUESTIONS[0].id, QUESTIONS[2].id]
    assert "truncated or broken" in result.failed[QUESTIONS[1].id]
    with pytest.raises(EvaluationError, match=r"every one failed; the first: .*broken\.png"):
        run(None, Asked(), asked[1:2])


def test_other_questions_under_the_same_ids_are_noticed(tmp_path):
    run(EvaluationFolder(tmp_path, {}), Asked(), QUESTIONS[:3])
    changed = [QUESTIONS[0], replace(QUESTIONS[1], answer="no"), QUESTIONS[2]]
    with pytest.raises(EvaluationError, match=f"question {QUESTIONS[1].id} is not what it was"):
        run(EvaluationFolder(tmp_path, {}), Asked(), changed)


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("evaluation.json", lambda text: text[:50], r"evaluation\.json, line \d+: no JSON .*Name another folder"),
        ("evaluation.json", lambda text: "{}", r"evaluation\.json: inputs: .*Name another folder"),
        (
            "questions.jsonl",
            lambda text: text.replace('"right": ', '"right": "perhaps", "left": ', 1),
            r"questions\.jsonl, line 1: attempts\.0\.right: .*Delete the line",
        ),
        ("questions.jsonl", lambda text: text.replace("\n", "}\n", 1), r"questions\.jsonl, line 1: no JSON"),
        ("questions.jsonl", lambda text: text.replace("\n", "\n" + text, 1), r"line 2: .* is on line 1 already"),
    ],
)
def test_a_broken_file_is_named_with_its_mend(tmp_path, file, change, told):
    run(EvaluationFolder(tmp_path, {}), Asked(), QUESTIONS[:2])
    (tmp_path / file).write_text(change((tmp_path / file).read_text()))
    with pytest.raises(EvaluationFolderError, match=told):
        EvaluationFolder(tmp_path, {}).open()


def test_what_a_later_version_wrote_besides_is_passed_over(tmp_path):
    first = run(EvaluationFolder(tmp_path, {}), Asked(), QUESTIONS[:3], probed=True)
    rows = tmp_path / "questions.jsonl"
    rows.write_text(re.sub(r'"(right|id)":', r'"mood": "good", "\1":', rows.read_text()))
    assert run(EvaluationFolder(tmp_path, {}), Asked(until=0), QUESTIONS[:3], probed=True).scored == first.scored


def test_a_folder_is_of_one_evaluation(tmp_path):
    EvaluationFolder(tmp_path / "a", {"model": "tiny", "sampling": {"temperature": 0.0}}).open()
    EvaluationFolder(tmp_path / "a", {"model": "tiny", "sampling": {"temperature": 0.0}})
    with pytest.raises(EvaluationFolderError, match=r"another model \(tiny, now large\): name another folder"):
        EvaluationFolder(tmp_path / "a", {"model": "large", "sampling": {"temperature": 0.0}})
    with pytest.raises(EvaluationFolderError, match="another probes"):
        EvaluationFolder(tmp_path / "a", {"model": "tiny", "sampling": {"temperature": 0.0}, "probes": ["noise"]})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("all of it")
    with pytest.raises(EvaluationFolderError, match="holds something that is no evaluation"):
        EvaluationFolder(tmp_path / "b", {})


def test_what_a_run_leaves_that_is_ended_while_it_begins_is_no_hindrance(tmp_path):
    for name in ("replies.jsonl", "evaluation.tmp"):
        (tmp_path / name).touch()
    EvaluationFolder(tmp_path, {"model": "tiny"}).open()
    assert (tmp_path / "evaluation.json").exists()


def test_other_data_are_refused_before_anything_is_asked(tmp_path):
    run(EvaluationFolder(tmp_path, {}), Asked(), QUESTIONS[:3])
    before, script = (tmp_path / "questions.jsonl").read_bytes(), Asked()
    with pytest.raises(EvaluationError, match=r"3 question\(s\) that are not among these"):
        run(EvaluationFolder(tmp_path, {}), script, QUESTIONS[5:8])
    assert script.locating == []
    assert (tmp_path / "questions.jsonl").read_bytes() == before
