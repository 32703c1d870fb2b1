"""The engine of a run: given weights when there are new ones, corrected for, and stopped when it is not the policy."""

import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from tests.engines import CopyEngine
from tests.training.test_loop import SCENES, SMALL, weights

from foveate.episodes import run_episodes
from foveate.families import load
from foveate.generators import LocalGenerator
from foveate.recipes import RecipeError, load_recipe
from foveate.training import Trainer, processes
from foveate.training import sampler as sampler_module
from foveate.training.sampler import FLOAT32_BOUND, LARGEST, Sampler, SamplerMismatch, refuse_uncounted

VLLM = "setup.engine.name=vllm"


def recipe(*overrides: str):
    return load_recipe("demo", [*SMALL, *overrides])


@pytest.fixture
def engines(monkeypatch):
    """What was built in the place of vLLM."""
    built: list[CopyEngine] = []

    def build(self, recipe):
        if recipe.setup.engine.name == "local":
            return LocalGenerator(self._vlm)
        built.append(CopyEngine(self._vlm))
        return built[-1]

    monkeypatch.setattr(Sampler, "_build", build)
    return built


def trained(path, *overrides: str) -> list[dict[str, float]]:
    return Trainer(recipe(*overrides), load(), SCENES, path).run()


def test_a_run_by_another_engine_is_the_run_by_the_trainers_own_model(tmp_path, engines) -> None:
    own = trained(tmp_path / "own", "optimisation.steps=2")
    other = trained(tmp_path / "other", VLLM, "objective.importance_sampling_cap=1e9", "optimisation.steps=2")
    assert [row["reward"] for row in own] == [row["reward"] for row in other]
    (engine,) = engines
    assert engine.updates == len(other)
    assert engine.slept == len(other)
    assert all(row["sampler_difference"] <= row["sampler_difference_max"] < 1e-4 for row in other)
    for name, tensor in weights(tmp_path / "own").items():
        torch.testing.assert_close(tensor, weights(tmp_path / "other")[name], rtol=0, atol=1e-4)


def test_weights_are_sent_when_they_are_news(engines) -> None:
    sampler = Sampler(recipe(VLLM), load(), Accelerator())
    for updates, sent in ((0, 1), (0, 1), (1, 2), (3, 3), (3, 3)):
        sampler.wake(updates)
        assert sampler.generator.updates == sent
    sampler.generator.loaded = False  # it slept, and forgot
    sampler.wake(3)
    assert sampler.generator.updates == 4


def test_weights_that_the_main_process_cannot_give_end_all_processes(engines, monkeypatch) -> None:
    accelerator = Accelerator()
    sampler = Sampler(recipe(VLLM), load(), accelerator)
    monkeypatch.setattr(type(accelerator), "num_processes", 2)
    monkeypatch.setattr(type(accelerator), "is_main_process", False)
    monkeypatch.setattr(processes, "gather_object", lambda own: ["RolloutError: the server is gone", *own])
    with pytest.raises(processes.ProcessError, match=r"process 0 has failed .*the server is gone"):
        sampler.wake(0)
    assert not sampler.generator.loaded
    assert sampler.generator.updates == 0


def test_stale_weights_stop_the_run(tmp_path, engines) -> None:
    trainer = Trainer(recipe(VLLM), load(), SCENES, tmp_path)
    engines[0].deaf = True
    with pytest.raises(SamplerMismatch, match=r"vllm.*float32 explains.*weights of an earlier update"):
        trainer.run()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1  # the first step had the right ones


def test_importance_weights_correct_another_engine_unless_told_otherwise(tmp_path, engines) -> None:
    assert recipe().importance_cap is None
    assert recipe(VLLM).importance_cap == 2.0
    assert recipe(VLLM, "objective.importance_sampling_cap=1.5").importance_cap == 1.5
    trainer = Trainer(recipe(VLLM, "setup.engine.difference_bound=9", "optimisation.steps=1"), load(), SCENES, tmp_path)
    engines[0].off = -1.0  # each token is e times as likely to the trainer as to the engine
    (row,) = trainer.run()
    assert row["sampler_difference"] == pytest.approx(1.0, abs=1e-4)
    assert row["sampler_difference_max"] == pytest.approx(1.0, abs=1e-4)
    assert row["importance_weight"] == 2.0
    assert row["importance_capped"] == 1.0


def test_the_bound_follows_the_precision_and_what_is_set(engines) -> None:
    vlm, accelerator = load(), Accelerator()
    bounds = [
        Sampler(recipe(VLLM, *more), vlm, accelerator).bound
        for more in ((), ("setup.precision=bfloat16",), ("setup.engine.difference_bound=0.3",))
    ]
    assert bounds[0] == FLOAT32_BOUND < 1e-3 < bounds[1] < bounds[2] == 0.3


@pytest.mark.parametrize(("mean", "largest"), [(2, 2), (0.5, 2 * LARGEST), (math.nan, 1), (0.5, math.nan)])
def test_over_either_bound_or_no_number_at_all_stops(engines, mean: float, largest: float) -> None:
    sampler = Sampler(recipe(VLLM), load(), Accelerator())
    sampler.refuse_difference(0.9 * FLOAT32_BOUND, 0.9 * LARGEST * FLOAT32_BOUND)
    with pytest.raises(SamplerMismatch, match="difference_bound"):
        sampler.refuse_difference(mean * FLOAT32_BOUND, largest * FLOAT32_BOUND)
    Sampler(recipe(), load(), Accelerator()).refuse_difference(mean, largest)  # the trainer's own model


def test_log_probs_that_belong_to_no_token_stop_the_run() -> None:
    vlm, chosen = load(), recipe()
    protocol = chosen.build_protocol(vlm.family.budget)
    episode = run_episodes(SCENES[:1], protocol, LocalGenerator(vlm))[0].episodes[0]
    turn = episode.turns[0]
    for kept in (len(turn.completion.logprobs), 0):
        reply = replace(turn.completion, logprobs=turn.completion.logprobs[:kept])
        refuse_uncounted([replace(episode, turns=(replace(turn, completion=reply),))])
    short = replace(turn.completion, logprobs=turn.completion.logprobs[:-1])
    with pytest.raises(SamplerMismatch, match=rf"{episode.question.id}, turn 1"):
        refuse_uncounted([replace(episode, turns=(replace(turn, completion=short),))])


def test_a_colocated_engine_is_for_one_process(monkeypatch) -> None:
    accelerator = Accelerator()
    monkeypatch.setattr(type(accelerator), "num_processes", 2)
    with pytest.raises(sampler_module.RolloutError, match="vllm_server"):
        Sampler(recipe(VLLM), load(), accelerator)


def test_a_server_must_be_somewhere() -> None:
    with pytest.raises(RecipeError, match=r"setup.engine.url and setup.engine.shared_folder"):
        recipe("setup.engine.name=vllm_server")


def test_the_largest_picture_of_a_recipe() -> None:
    own = load().family.budget
    assert recipe().images.largest(own) == own.max_pixels
    chosen = recipe("images.max_pixels=5000", "images.crop_max_pixels=9000")
    assert chosen.images.largest(own) == 9000
