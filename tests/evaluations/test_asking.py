"""One model that locates and another that answers: here, or at an endpoint, in either part."""

import json
from dataclasses import replace

import pytest
from tests.generators.chat_server import ChatServer, completion, serving
from tests.models import random_vlm

from foveate.evaluation.folder import EvaluationFolderError
from foveate.evaluations import Models, NamedModel, evaluate_model, probe_at_moments
from foveate.families import checkpoint_digest, load
from foveate.generators import Endpoint, EndpointGenerator, LocalGenerator
from foveate.protocols.base import SharedContextError
from foveate.recipes import load_recipe

DEMO = load_recipe("demo")
TINY = NamedModel("tiny")


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> NamedModel:
    """Another model of the embedded one's family, which cannot answer."""
    folder = tmp_path_factory.mktemp("random")
    random_vlm().save(folder)
    return NamedModel(str(folder))


def rows(evaluated):
    """Without what only two models have."""
    return [
        replace(scored, attempts=tuple(replace(attempt, by_model=None) for attempt in scored.attempts))
        for scored in evaluated.evaluation.scored
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_answers_for_itself_is_one_model_row_by_row(temperature):
    how = {"limit": 6, "samples": 2, "temperature": temperature, "probed": True}
    alone = evaluate_model(DEMO, "tiny", "scenes", **how)
    together = evaluate_model(DEMO, "tiny", "scenes", answering=TINY, **how)
    assert rows(together) == rows(alone)
    assert together.evaluation.summary == alone.evaluation.summary
    assert any(attempt.right for scored in alone.evaluation.scored for attempt in scored.attempts)


def test_boxes_are_the_locators_and_answers_the_answerers(other):
    alone = evaluate_model(DEMO, "tiny", "scenes", limit=8)
    told = evaluate_model(DEMO, "tiny", "scenes", limit=8, answering=other)
    lost = evaluate_model(DEMO, other.name, "scenes", limit=8, answering=TINY)

    def of(evaluated):
        return [(one.attempts[0].boxes, one.attempts[0].texts) for one in evaluated.evaluation.scored]

    assert [boxes for boxes, _ in of(told)] == [boxes for boxes, _ in of(alone)]
    assert [texts[0] for _, texts in of(told)] == [texts[0] for _, texts in of(alone)]
    assert [texts[1:] for _, texts in of(told)] != [texts[1:] for _, texts in of(alone)]
    assert of(lost) != of(alone)
    assert told.record["answerer"] == {"model": other.name, "identity": checkpoint_digest(load(other.name))}
    assert (told.record["model"], told.record["identity"]) == ("tiny", checkpoint_digest(load("tiny")))


def test_a_folder_is_of_both_models_and_nothing_is_asked_twice(tmp_path, other, monkeypatch):
    out = tmp_path / "run"
    first = evaluate_model(DEMO, "tiny", "scenes", limit=4, out=out, answering=other)
    assert json.loads((out / "scores.json").read_text())["by_model"].keys() == {"locator", "answerer"}
    for swapped in ({"answering": None}, {"answering": TINY}):
        with pytest.raises(EvaluationFolderError, match="was begun with another answerer"):
            evaluate_model(DEMO, "tiny", "scenes", limit=4, out=out, **swapped)
    with pytest.raises(EvaluationFolderError, match="was begun with another model"):
        evaluate_model(DEMO, other.name, "scenes", limit=4, out=out, answering=other)
    evaluate_model(DEMO, "tiny", "scenes", limit=1, out=tmp_path / "alone")
    with pytest.raises(EvaluationFolderError, match="was begun with another answerer"):
        evaluate_model(DEMO, "tiny", "scenes", limit=1, out=tmp_path / "alone", answering=other)

    monkeypatch.setattr(LocalGenerator, "_run", lambda *arguments: pytest.fail("asked again"))
    assert rows(evaluate_model(DEMO, "tiny", "scenes", limit=4, out=out, answering=other)) == rows(first)
    (out / "questions.jsonl").unlink()  # as if it was ended before the first chunk was whole
    recorded = evaluate_model(DEMO, "tiny", "scenes", limit=4, out=out, answering=other)
    assert recorded.evaluation.scored == first.evaluation.scored
    assert recorded.evaluation.seconds_per_question is None, "a recorded reply took no time"


def test_one_here_and_one_at_an_endpoint_in_either_part(tmp_path):
    """What the endpoint counts and costs is of its own turns alone."""
    box, word = completion("0 0 40 40"), completion("7")
    server = ChatServer(answer=lambda body, attempt: box if "locate" in json.dumps(body["messages"]) else word)
    with serving(server):
        there = Endpoint.of(server.url, ["family=tiny", "prompt_price=2"])
        answered = evaluate_model(DEMO, "tiny", "scenes", limit=5, answering=NamedModel("m", there), out=tmp_path / "a")
        asked = len(server.log)
        reached = sum(len(scored.attempts[0].texts) == 2 for scored in answered.evaluation.scored)
        assert 0 < reached == asked
        assert not any("locate" in text for text, _ in server.log)
        located = evaluate_model(DEMO, "m", "scenes", limit=5, endpoint=there, answering=TINY, out=tmp_path / "b")
        assert len(server.log) == asked + 5
        evaluate_model(DEMO, "tiny", "scenes", limit=5, answering=NamedModel("m", there), out=tmp_path / "a")
        assert len(server.log) == asked + 5
    assert "endpoint" not in answered.record
    assert answered.record["answerer"]["endpoint"] == {
        "url": server.url,
        "refused_parameters": (),
        "prompt_tokens": 10 * reached,
        "completion_tokens": 3 * reached,
        "cost": pytest.approx(20 * reached / 1e6),
    }
    assert located.record["endpoint"]["prompt_tokens"] == 50
    assert "endpoint" not in located.record["answerer"]
    assert {scored.attempts[0].texts[0] for scored in located.evaluation.scored} == {"0 0 40 40"}


def test_both_are_asked_with_the_pixels_of_their_own_families():
    there = Endpoint.of("http://localhost:1/v1", ["family=qwen3-vl", "max_pixels=400000", "concurrency=30"])
    models = Models.of(load_recipe("hart"), TINY, NamedModel("m", there))
    assert models.locator.protocol.view_budget == models.locator.generator.family.budget
    assert models.answerer.protocol.crop_budget.max_pixels == 400_000
    assert isinstance(models.answerer.generator, EndpointGenerator)
    assert (models.at_once, Models.of(load_recipe("hart"), TINY).at_once) == (120, 64)


@pytest.mark.parametrize("recipe", ["grpo", "mgpo", "mgpo-grpo", "lfpc-1", "counting"])
def test_a_recipe_of_one_model_is_refused_before_any_is_loaded(recipe):
    with pytest.raises(SharedContextError, match="by the protocol locate"):
        Models.of(load_recipe(recipe), NamedModel("no/such/model"), NamedModel("nor/this/one"))


def test_where_another_answers_the_probes_and_the_direct_way_are_asked_of_it(tmp_path, other):
    look, _ = probe_at_moments(DEMO, other.name, "scenes", limit=4, out=tmp_path, answering=TINY)
    itself, _ = probe_at_moments(DEMO, "tiny", "scenes", limit=4)
    assert look.direct == itself.direct
    assert look.own.scored != itself.own.scored
    direct = json.loads((tmp_path / "direct" / "scores.json").read_text())
    assert direct["model"] == "tiny"
    assert "answerer" not in direct
    assert json.loads((tmp_path / "scores.json").read_text())["answerer"]["model"] == "tiny"
    same, _ = probe_at_moments(DEMO, "tiny", "scenes", limit=4, answering=TINY)
    assert same.to_json() == itself.to_json()
    with pytest.raises(ValueError, match="checkpoints are of one model"):
        probe_at_moments(DEMO, "tiny", "scenes", answering=TINY, every_checkpoint=True)
