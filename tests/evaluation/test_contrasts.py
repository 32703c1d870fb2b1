import json
from statistics import fmean

import pytest
from tests.evaluation.folders import make_run

from foveate.evaluation.contrasts import COMPARED, differences_of, lines_of, warnings_of
from foveate.evaluation.records import read_runs
from foveate.evaluation.statistics import bootstrap_interval, paired_interval


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
    before = {one.id: one for one in first}
    pairs = [(before[one.id], one) for one in second if one.id in before]
    assert difference.questions == len(pairs) == 40
    assert set(difference.figures) == set(COMPARED)
    for name, figure in difference.figures.items():
        read = [(was.figure(name), now.figure(name)) for was, now in pairs]
        changes = [now - was for was, now in read if was is not None and now is not None]
        assert figure.value == pytest.approx(fmean(changes))
        of = bootstrap_interval if name in ("mean_iou", "box_area") else paired_interval
        assert figure.interval == of(changes)
    right = [(was.attempts[0].right, now.attempts[0].right) for was, now in pairs]
    assert difference.better == right.count((False, True))
    assert difference.worse == right.count((True, False))
    low, high = difference.figures["accuracy"].interval
    assert 0 < low < difference.figures["accuracy"].value < high


def test_a_run_does_not_differ_from_itself(make):
    _, runs = make({"count": 50, "model": "a"}, {"count": 50, "model": "a"})
    [difference] = differences_of(runs)
    for name in ("accuracy", "iog30", "valid_boxes"):
        low, high = difference.figures[name].interval
        assert -0.15 < low < 0 < high < 0.15  # that no answer changed says nothing of questions that were not asked
    assert {figure.value for figure in difference.figures.values()} == {0}
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


def test_the_figures_are_those_of_the_scores(make, tmp_path):
    _, runs = make({"count": 80, "samples": 3})
    scores = json.loads((tmp_path / "0" / "scores.json").read_text())
    figures = {line.measure.name: line.figures[0] for line in lines_of(runs)}
    for name in COMPARED:
        assert figures[name].value == scores["summary"][name]
        assert list(figures[name].interval) == scores["summary"]["intervals"][name]
    assert figures["misplaced"].value == scores["answers_and_places"]["wrong_place_among_right_answers"]
    assert figures["misplaced"].interval[0] < figures["misplaced"].value < figures["misplaced"].interval[1]
    assert figures["unparsed"].value == pytest.approx(scores["unparsed"] / 240)
    assert scores["unparsed"] > 0
    for name in ("tokens", "visual_tokens"):
        assert figures[name].value == pytest.approx(scores[f"{name}_per_question"])
    assert figures["seconds"].value == scores["seconds_per_question"]


def test_questions_without_a_reply_are_counted_where_there_are_any(make):
    _, runs = make({"count": 18, "model": "a"}, {"count": 18, "model": "b", "failed": 0})
    [line] = [line for line in lines_of(runs) if line.measure.name == "failed"]
    assert [figure.value for figure in line.figures] == [0.1, 0]
    assert "failed" not in {line.measure.name for line in lines_of(runs[1:])}


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
