import json

import pytest
from tests.evaluation.folders import make_run

from foveate.evaluation.folder import EvaluationFolderError
from foveate.evaluation.records import read_runs


def _spoil(folder, line, text):
    file = folder / "questions.jsonl"
    lines = file.read_text().splitlines()
    lines[line - 1] = text
    file.write_text("\n".join(lines) + "\n")


def test_a_run_is_read_as_it_was_written(tmp_path):
    rows = make_run(tmp_path / "a", 9)
    [run] = read_runs([tmp_path / "a"])
    assert list(run.questions) == rows
    assert [question.seconds for question in run.questions] == [row.seconds for row in rows]
    assert run.scores.model == "base"
    assert not run.cut
    assert set(run.pictures()) == {row.id for row in rows}


def test_a_half_written_last_line_is_left_out_and_told(tmp_path):
    make_run(tmp_path / "a", 5)
    for name in ("questions.jsonl", "pictures.jsonl"):
        file = tmp_path / "a" / name
        file.write_bytes(file.read_bytes()[:-40])
    [run] = read_runs([tmp_path / "a"])
    assert len(run.questions) == 4
    assert run.cut
    assert len(run.pictures()) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: json.dumps(row)[:40], r"no JSON \(.*\)"),
        (lambda row: json.dumps({**row, "attempts": []}), "attempts: "),
        (lambda row: json.dumps({**row, "attempts": [{**row["attempts"][0], "right": "?"}]}), r"attempts\.0\.right: "),
        (lambda row: json.dumps({name: row[name] for name in row if name != "expected"}), "expected: "),
        (lambda row: json.dumps({**row, "seconds": float("nan")}), "no JSON"),
        (lambda row: "[" * 5000, "no JSON"),
    ],
)
def test_a_broken_line_is_named_with_its_mend(tmp_path, change, told):
    rows = make_run(tmp_path / "a", 5)
    _spoil(tmp_path / "a", 3, change(json.loads(json.dumps(rows[2].to_json()))))
    with pytest.raises(EvaluationFolderError, match=rf"questions\.jsonl, line 3: .*{told}.*Delete the line"):
        read_runs([tmp_path / "a"])


def test_what_a_later_version_writes_besides_is_passed_over(tmp_path):
    rows = make_run(tmp_path / "a", 5, mood="good")
    row = rows[2].to_json()
    more = {**row, "mood": "good", "attempts": [{**row["attempts"][0], "mood": "good"}]}
    _spoil(tmp_path / "a", 3, json.dumps(more))
    [run] = read_runs([tmp_path / "a"])
    assert list(run.questions) == rows


def test_a_question_that_stands_twice_is_named(tmp_path):
    rows = make_run(tmp_path / "a", 5)
    _spoil(tmp_path / "a", 4, json.dumps(rows[1].to_json()))
    with pytest.raises(EvaluationFolderError, match=r"line 4: question 'q00001' is on line 2 already"):
        read_runs([tmp_path / "a"])


def test_what_is_no_evaluation_is_told_apart(tmp_path):
    training = tmp_path / "training"
    training.mkdir()
    (training / "run.json").write_text("{}")
    empty = tmp_path / "empty"
    empty.mkdir()
    make_run(tmp_path / "bad", 3)
    (tmp_path / "bad" / "scores.json").write_text('{"model": "a",\n "summary": }')
    make_run(tmp_path / "less", 3)
    (tmp_path / "less" / "scores.json").write_text('{"model": "a"}')
    make_run(tmp_path / "bare", 3)
    (tmp_path / "bare" / "questions.jsonl").unlink()
    for folder, told in (
        (training, r"is a training run: evaluate it first: foveate eval --model .*training"),
        (empty, r"is not an evaluation folder, it has no scores\.json"),
        (tmp_path / "nowhere", "there is no such folder"),
        (tmp_path / "bad" / "scores.json", "is a file"),
        (tmp_path / "bad", r"scores\.json, line 2: no JSON"),
        (tmp_path / "less", r"scores\.json: summary"),
        (tmp_path / "bare", r"has no questions\.jsonl"),
    ):
        with pytest.raises(EvaluationFolderError, match=told):
            read_runs([folder])


def test_names_tell_runs_apart(tmp_path):
    for folder, model in (("one/x", "org/a"), ("two/x", "org/a"), ("two/y", "org/b")):
        make_run(tmp_path / folder, 2, model=model)
    paths = [tmp_path / name for name in ("one/x", "two/x", "two/y")]
    assert [run.name for run in read_runs(paths[1:])] == ["a", "b"]
    assert [run.name for run in read_runs(paths)] == [str(path) for path in paths]
    with pytest.raises(EvaluationFolderError, match="given twice"):
        read_runs([paths[0], tmp_path / "one/../one/x"])
