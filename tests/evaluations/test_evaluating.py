"""A model's evaluation, as the command line starts it."""

import json
import shutil

import pytest
import torch
from tests.questions.benchmarks import published

from foveate.evaluation import official
from foveate.evaluation.folder import EvaluationFolder, EvaluationFolderError
from foveate.evaluations import Models, NamedModel, asking, evaluate_model, probe_at_moments
from foveate.families import checkpoint_digest, load
from foveate.generators import Endpoint, LocalGenerator, RecordedGenerator, RecordError, Sampling
from foveate.questions.data import load_data
from foveate.questions.problems import QuestionFileError
from foveate.questions.scenes import SceneConfig, export
from foveate.recipes import load_recipe

DEMO = load_recipe("demo")


def test_scenes_that_are_evaluated_on_are_none_that_were_trained_on() -> None:
    for seed in (0, 3):
        asked = evaluate_model(load_recipe("hart", ["rollout.max_new_tokens=8"]), "tiny", "scenes", limit=2, seed=seed)
        trained_on = {load_data("scenes", seed=other, length=1)[0].id.split("-")[-2] for other in range(10)}
        assert not {one.id.split("-")[-2] for one in asked.evaluation.scored} & trained_on


def test_a_folder_holds_the_evaluation_and_nothing_is_asked_twice(tmp_path, monkeypatch):
    first = evaluate_model(DEMO, "tiny", "scenes", limit=5, out=tmp_path / "run", probed=True).evaluation
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["summary"] == json.loads(json.dumps(first.summary.to_json()))
    assert scores["setup"]["data_sha256"] == first.setup["data_sha256"]
    assert (scores["model"], scores["recipe"], scores["data"], scores["failed"]) == ("tiny", "demo", "scenes", 0)
    assert set(scores["probes"]) == set(first.probes_of_all or {})
    assert len((tmp_path / "run" / "questions.jsonl").read_text().splitlines()) == 5

    monkeypatch.setattr(LocalGenerator, "_run", lambda *arguments: pytest.fail("asked again"))
    again = evaluate_model(DEMO, "tiny", "scenes", limit=5, out=tmp_path / "run", probed=True).evaluation
    assert again.scored == first.scored
    (tmp_path / "run" / "questions.jsonl").unlink()  # as if it was ended before the first chunk was whole
    recorded = evaluate_model(DEMO, "tiny", "scenes", limit=5, out=tmp_path / "run", probed=True).evaluation
    assert recorded.scored == first.scored


def test_a_folder_is_of_one_model_and_one_process(tmp_path):
    out = tmp_path / "run"
    evaluate_model(DEMO, "tiny", "scenes", limit=1, out=out)
    with pytest.raises(EvaluationFolderError, match="another protocol"):
        evaluate_model(load_recipe("grpo"), "tiny", "scenes", limit=1, out=out)
    with pytest.raises(EvaluationFolderError, match="another seed"):
        evaluate_model(DEMO, "tiny", "scenes", limit=1, seed=1, out=out)
    half = (out / "questions.jsonl").open("a")
    half.write('{"id": "the other process is just writ')
    half.close()
    before = (out / "questions.jsonl").read_bytes()
    with (
        RecordedGenerator(NamedModel("tiny").generator(), out / "replies.jsonl"),
        pytest.raises(RecordError, match="in use"),
    ):
        evaluate_model(DEMO, "tiny", "scenes", limit=1, out=out)
    assert (out / "questions.jsonl").read_bytes() == before
    with pytest.raises(EvaluationFolderError, match="another command"):
        probe_at_moments(DEMO, "tiny", "scenes", limit=1, out=out)


def test_boxes_of_two_frames_never_meet_in_a_folder(tmp_path):
    one, other = (
        Models.of(DEMO, NamedModel("m", Endpoint.of("http://localhost:1/v1", [f"family={family}"]))).inputs(
            "eval", Sampling(0.0, 8), seed=0
        )
        for family in ("generic", "qwen2.5-vl")
    )
    EvaluationFolder(tmp_path, one).open()
    with pytest.raises(EvaluationFolderError, match="another family"):
        EvaluationFolder(tmp_path, other)


def test_the_record_is_the_one_of_the_folder_with_official_figures_made_once(tmp_path, monkeypatch):
    file = published.write_tsv(tmp_path / "TreeBench.tsv", [published.tree_row(n) for n in range(2)])
    made = []
    monkeypatch.setattr(asking, "official", lambda *asked: made.append(asked) or official(*asked))
    asked = evaluate_model(DEMO, "tiny", f"treebench:{file}", out=tmp_path / "run")
    assert len(made) == 1
    name, figures = asked.reported
    assert asked.record["official"] == {"benchmark": "treebench", **figures.to_json()}
    assert name == "treebench"
    written = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert written == json.loads(json.dumps(asked.record, default=str))
    assert written["identity"] == checkpoint_digest(load("tiny"))


def test_a_checkpoint_is_told_by_its_weights(tmp_path):
    vlm = load("tiny")
    vlm.save(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with torch.no_grad():
        next(vlm.model.parameters()).add_(1e-3)
    vlm.save(tmp_path / "c")
    same, copied, trained = (checkpoint_digest(load(tmp_path / name)) for name in "abc")
    assert same == copied != trained
    vlm.model.name_or_path = "nowhere"
    assert checkpoint_digest(vlm) == ""


def test_bad_rows_may_be_left_out_and_are_counted_and_listed(tmp_path):
    file = export(SceneConfig(size=256), 3, 0, tmp_path / "data")
    with file.open("a") as rows:
        rows.write('{"id": "no picture", "question": "?", "answer": "1"}\n')
    with pytest.raises(QuestionFileError, match="1 of 4 rows"):
        evaluate_model(DEMO, "tiny", str(file))
    result = evaluate_model(DEMO, "tiny", str(file), quarantine=True, out=tmp_path / "run")
    assert result.evaluation.summary.questions == 3
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["rows_left_out"] == 1
    assert scores["identity"] == checkpoint_digest(load("tiny"))
    [row] = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(row)["row"] == 4
