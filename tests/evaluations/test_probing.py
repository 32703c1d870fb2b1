"""Whether a model looks, as the command line asks it."""

import json

import pytest

from foveate.evaluations import probe_at_moments
from foveate.families import load
from foveate.generators import LocalGenerator
from foveate.recipes import load_recipe

DEMO = load_recipe("demo")


def test_a_model_is_probed_in_a_folder_and_nothing_is_asked_twice(tmp_path, monkeypatch):
    look, _ = probe_at_moments(DEMO, "tiny", "scenes", limit=4, out=tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["gain_harm"] == json.loads(json.dumps(look.gains.to_json()))
    assert scores["probes"] == json.loads(json.dumps(look.looking.to_json()["probes"]))
    direct = json.loads((tmp_path / "direct" / "scores.json").read_text())
    assert direct["setup"]["protocol"]["name"] == "Direct"
    monkeypatch.setattr(LocalGenerator, "_run", lambda *arguments: pytest.fail("asked again"))
    again, _ = probe_at_moments(DEMO, "tiny", "scenes", limit=4, out=tmp_path)
    assert again.to_json() == look.to_json()


def test_a_run_is_probed_over_its_checkpoints_in_a_folder_that_is_gone_on_with(tmp_path, monkeypatch):
    run, out = tmp_path / "run", tmp_path / "out"
    for step in (1, 2):
        load("tiny").save(run / "checkpoints" / f"step-{step:06}")
        (run / "checkpoints" / f"step-{step:06}" / "trainer.pt").touch()
    first = probe_at_moments(DEMO, str(run), "scenes", limit=3, out=out, every_checkpoint=True)
    assert [one.name for one in first[1]] == ["step-000001", "step-000002"]
    written = json.loads((out / "scores.json").read_text())
    assert [one["name"] for one in written["checkpoints"]] == ["step-000001", "step-000002"]
    assert written["gain_harm"] == json.loads(json.dumps(first[0].gains.to_json()))
    for way in ("own", "direct"):
        assert json.loads((out / "earlier" / "step-000001" / way / "scores.json").read_text())["failed"] == 0
    monkeypatch.setattr(LocalGenerator, "_run", lambda *arguments: pytest.fail("asked again"))
    again = probe_at_moments(DEMO, str(run), "scenes", limit=3, out=out, every_checkpoint=True)
    assert again[1] == first[1]
