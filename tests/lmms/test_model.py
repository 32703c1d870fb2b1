"""The class that lmms-eval makes.

Where lmms-eval is not installed, its three modules that the class imports are stood in for. That its requests and base
class are as they are here is what `test_lmms_eval.py` shows, with the real one.
"""

import dataclasses
import importlib
import importlib.util
import sys
import types

import pytest
from tests.scripted import picture

from foveate.evaluations import evaluate_model
from foveate.jsonl import read_rows
from foveate.lmms import manifest
from foveate.lmms.options import OptionsError
from foveate.lmms.requests import TaskError
from foveate.questions.scenes import SceneConfig, export, scene
from foveate.runs import recipe_for


@dataclasses.dataclass
class TokenCounts:
    output_tokens: int | None = None


@dataclasses.dataclass
class GenerationResult:
    text: str
    token_counts: TokenCounts | None = None


@dataclasses.dataclass(frozen=True)
class ModelManifest:
    model_id: str
    chat_class_path: str


class Base:
    def __init__(self):
        self._rank, self._world_size, self.task_dict = 0, 1, {}

    @property
    def rank(self):
        return self._rank


def stood_in(**modules):
    made = {name: types.ModuleType(name) for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.models")}
    for name, contents in modules.items():
        module = types.ModuleType(f"lmms_eval.{name.replace('__', '.')}")
        vars(module).update(contents)
        made[module.__name__] = module
    return made


@pytest.fixture
def model_class(monkeypatch):
    if importlib.util.find_spec("lmms_eval") is None:
        results = {"GenerationResult": GenerationResult, "TokenCounts": TokenCounts, "Instance": object}
        stubs = stood_in(
            api__instance=results, api__model={"lmms": Base}, models__registry_v2={"ModelManifest": ModelManifest}
        )
        for name, module in stubs.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "foveate.lmms.model", raising=False)
    made = manifest()
    assert made.model_id == "foveate"
    module, _, name = made.chat_class_path.rpartition(".")
    yield getattr(importlib.import_module(module), name)
    sys.modules.pop("foveate.lmms.model", None)  # it must not outlive the base class that it was made with


def instances(model, documents, **gen_kwargs):
    """As a task of lmms-eval makes them of (picture, words)."""
    model.task_dict["scenes"] = {"test": documents}

    def doc_to_messages(document):
        shown, words = document
        pictures = [{"type": "image", "url": shown}] if shown else []
        return [{"role": "user", "content": [*pictures, {"type": "text", "text": words}]}]

    return [
        types.SimpleNamespace(args=("ctx", doc_to_messages, gen_kwargs, i, "scenes", "test"))
        for i in range(len(documents))
    ]


def test_it_answers_as_eval_does(model_class, tmp_path):
    questions = [scene(SceneConfig(), 5, i) for i in range(12)]
    model = model_class(pretrained="tiny", recipe="demo", batch_size=4, device="cpu", traces=str(tmp_path))
    assert not model_class.is_simple
    documents = [(question.image(), question.text) for question in questions]
    results = model.generate_until(instances(model, documents, max_new_tokens=16, temperature=0))
    rows = read_rows(tmp_path / "scenes.jsonl")

    recipe = recipe_for("tiny", "demo")
    export(SceneConfig(), 12, 5, tmp_path / "data")
    ours = evaluate_model(recipe, "tiny", str(tmp_path / "data")).evaluation.scored
    assert [result.text for result in results] == [one.attempts[0].texts[-1] for one in ours]
    assert [result.token_counts.output_tokens for result in results] == [one.attempts[0].tokens for one in ours]
    assert [[tuple(box) for turn in row["turns"] for box in turn["boxes"]] for row in rows] == [
        list(one.attempts[0].boxes) for one in ours
    ]
    assert len({result.text for result in results}) > 1


def test_dtype_and_device_are_those_that_were_asked_for(model_class):
    model = model_class(dtype="bfloat16", device="cpu", **{"protocol": "direct"})
    assert model.device.type == "cpu"
    [result] = model.generate_until(instances(model, [(picture(), "Which digit is on the card coloured red?")]))
    assert result.token_counts.output_tokens > 0


def test_what_it_cannot_do_is_refused_with_a_reason(model_class):
    model = model_class()
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="rounds"):
        model.generate_until_multi_round([])
    with pytest.raises(TaskError, match="scenes/test/0: holds no picture"):
        model.generate_until(instances(model, [(None, "What is 1 + 1?")]))
    with pytest.raises(OptionsError, match="no argument max_pixel;"):
        model_class(max_pixel=1)


@pytest.mark.parametrize(("processes", "folder"), [("1", "."), ("2", "rank-1")])
def test_each_of_several_processes_has_its_own_traces(model_class, tmp_path, monkeypatch, processes, folder):
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setenv("RANK", "1")
    model = model_class(traces=str(tmp_path), protocol="direct")
    model.generate_until(instances(model, [(picture(), "Which digit is on the card coloured red?")]))
    assert len(read_rows(tmp_path / folder / "scenes.jsonl")) == 1
