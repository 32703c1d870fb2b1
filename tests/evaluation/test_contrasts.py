from statistics import fmean

import pytest
from tests.evaluation.folders import make_run

from foveate.evaluation.contrasts import differences_of, lines_of, measured, warnings_of
from foveate.evaluation.records import read_runs


@pytest.fixture
def make(tmp_path):
    """Reads runs that are made of the keywords given for each."""

    def made(*runs):
        rows = [make_run(tmp_path / str(i), pictures=False, **keywords) for i, keywords in enumerate(runs)]
        return rows, read_runs([tmp_path / str(i) for i in range(len(runs))])

    return made


def test_differences_are_over_the_shared_questions_alone(make):
    (first, second), runs = make(
        {"count": 60, "model": "a", "skill": 0.2}, {"count": 60, "first": 20, "model": "b", "skill": 0.9}
    )
    [difference] = differences_of(runs)
    before = {row["id"]: row["attempts"][0] for row in first}
    pairs = [(before[row["id"]], row["attempts"][0]) for row in second if row["id"] in before]
    kept = [(was["right"], now["right"]) for was, now in pairs if "failed" not in (was["stop"], now["stop"])]
    assert difference.questions == len(pairs) == 40
    assert difference.figures["accuracy"].value == pytest.approx(fmean(now - was for was, now in kept))
    assert difference.better == sum(now > was for was, now in kept)
    assert difference.worse == sum(now < was for was, now in kept)
    low, high = difference.figures["accuracy"].interval
    assert 0 < low < difference.figures["accuracy"].value < high


def test_a_run_does_not_differ_from_itself(make):
    _, runs = make({"count": 50, "model": "a"}, {"count": 50, "model": "a"})
    [difference] = differences_of(runs)
    assert all((figure.value, figure.interval) == (0, (0, 0)) for figure in difference.figures.values())
    assert all(line.best is None for line in lines_of(runs))


def test_runs_without_a_shared_question_have_no_difference(make):
    _, runs = make({"count": 10, "model": "a"}, {"count": 10, "first": 10, "model": "b"})
    assert differences_of(runs) == []
    assert "0 in common" in " ".join(warnings_of(runs))


@pytest.mark.parametrize(("skills", "best"), [((0.1, 0.9), 1), ((0.9, 0.1), 0), ((0.5, 0.52), None)])
def test_best_is_marked_only_where_the_intervals_are_apart(make, skills, best):
    _, runs = make(*({"count": 150, "model": str(skill), "skill": skill} for skill in skills))
    lines = {line.measure.name: line for line in lines_of(runs)}
    assert lines["accuracy"].best == best
    assert lines["box_area"].best is None
    assert lines["seconds"].best is None
    if best is not None:
        assert lines["misplaced"].best == best  # less of it
        assert lines["visual_tokens"].best == 1 - best  # skill costs


def test_right_answers_from_the_wrong_place_are_those_of_the_scores(make):
    _, runs = make({"count": 80, "samples": 3})
    [figure] = next(line.figures for line in lines_of(runs) if line.measure.name == "misplaced")
    counts = [a for question in runs[0].questions for a in question.attempts if a.right and a.found is not None]
    assert figure.value == pytest.approx(fmean(not attempt.found for attempt in counts))
    assert figure.interval[0] < figure.value < figure.interval[1]


def test_what_got_no_reply_counts_for_nothing(make):
    _, [run] = make({"count": 120})
    failed = [question for question in run.questions if question.attempts[0].failed]
    assert failed
    assert {measured(question, "accuracy") for question in failed} == {None}


def test_care_is_asked_for_where_it_is_due(make):
    _, same = make({"count": 12, "model": "a"}, {"count": 12, "model": "b"})
    assert warnings_of(same) == []


def test_other_data_and_other_counts_are_told(make, tmp_path):
    _, runs = make(
        {"count": 12, "model": "a"}, {"count": 12, "model": "b", "setup": {"data_sha256": "other", "samples": 1}}
    )
    assert "different hashes" in " ".join(warnings_of(runs))
    (tmp_path / "1" / "questions.jsonl").write_text((tmp_path / "0" / "questions.jsonl").read_text()[:-20])
    said = " ".join(warnings_of(read_runs([tmp_path / "0", tmp_path / "1"])))
    assert "half written" in said
    assert "11 are in questions.jsonl" in said
