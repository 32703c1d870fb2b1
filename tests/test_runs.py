"""Runs of several stages: where they lie, what each starts from, and that they resume."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from foveate import runs
from foveate.questions.scenes import SceneConfig, export
from foveate.questions.schema import Question
from foveate.recipes import Recipe, load_recipe, recipe_names
from foveate.runs import Standing, load_policy, start
from foveate.training import SplitError, StepReport, TrainingError
from foveate.training.checkpoints import checkpoints
from foveate.training.loop import Trainer

SMALL = (
    "images.max_pixels=13000",
    "rollout.max_new_tokens=8",
    "rollout.group_size=4",
    "optimisation.steps=2",
    "optimisation.questions_per_step=2",
    "optimisation.learning_rate=5e-4",
    "sft.questions_per_update=2",
    "sft.learning_rate=5e-4",
    "split.sft_count=4",
)
BOTH_ORDERS = ("rl,sft", "sft,rl")


def recipe(stages: str = "rl,sft", name: str = "hart-full") -> Recipe:
    return load_recipe(name, [*SMALL, f"stages={stages}"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(export(SceneConfig(size=448), 10, 0, tmp_path_factory.mktemp("data")))


def train(out: Path, data: str, stages: str = "rl,sft", *, resume: bool = False, **options) -> Standing:
    return start(options.pop("chosen", recipe(stages)), "tiny", data, out, seed=0, resume=resume, **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(folder / "checkpoints")[-1] / "model.safetensors")


def policy_in(run_dir: Path) -> dict[str, torch.Tensor]:
    return dict(load_policy(str(run_dir)).model.state_dict())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Stop:
    """Ends a run after some step of some stage, as Ctrl-C would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stage: str, step: int) -> None:
        self.at, self.trainers = (stage, step), []
        real = Trainer.run

        def run(trainer: Trainer, **options):
            self.trainers.append(trainer)
            return real(trainer, **options)

        monkeypatch.setattr(Trainer, "run", run)

    def __call__(self, report: StepReport) -> None:
        if (report.stage, report.step) == self.at:
            self.trainers[-1].stop_requested = True


@pytest.mark.parametrize("stages", BOTH_ORDERS)
def test_two_stages_train_on_disjoint_questions_each_from_the_one_before(
    tmp_path: Path, data: str, stages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, dict[str, torch.Tensor], dict[str, torch.Tensor] | None]] = []
    reports: list[StepReport] = []
    real = Trainer.run

    def run(trainer: Trainer, **options):
        policy = copy.deepcopy(trainer.learner.vlm.model.state_dict())
        reference = None
        if trainer.stage_name == "rl":
            reference = trainer.stage.updater._reference.model.state_dict()
        begun.append((trainer.stage_name, policy, reference))
        return real(trainer, **options)

    monkeypatch.setattr(Trainer, "run", run)
    standing = train(tmp_path, data, stages, observers=[reports.append])
    first, second = stages.split(",")
    assert standing == Standing(second, 2, 2, finished=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"1-{first}", f"2-{second}", "run.json", "split.json"]
    assert [name for name, *_ in begun] == [first, second]
    assert same(begun[1][1], policy_in(tmp_path / f"1-{first}"))
    assert not same(begun[1][1], begun[0][1])
    for name, policy, reference in begun:
        assert name == "sft" or same(policy, reference)  # after sft, the reference is the sft model
    record = json.loads((tmp_path / "split.json").read_text())
    assert (len(record["rl"]), len(record["sft"])) == (6, 4)
    for report in reports:
        assert {group.question.id for group in report.groups} <= set(record[report.stage])
    assert same(policy_in(tmp_path), policy_in(tmp_path / f"2-{second}"))


@pytest.mark.parametrize("stages", ["rl", "sft"])
def test_one_stage_lies_flat_and_is_not_split(tmp_path: Path, data: str, stages: str) -> None:
    assert train(tmp_path, data, stages).finished
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoints",
        "metrics.jsonl",
        "recipe.yaml",
        "rollouts.jsonl",
        "run.json",
    }
    assert train(tmp_path, data, stages, resume=True).finished


@pytest.mark.parametrize("stages", BOTH_ORDERS)
@pytest.mark.parametrize("where", ["in the first", "at the end of the first", "in the second"])
def test_a_run_stopped_anywhere_resumes_bit_for_bit(
    tmp_path: Path, data: str, stages: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(tmp_path / "whole", data, stages).finished
    first, second = stages.split(",")
    stage, step = {
        "in the first": (first, 0),
        "at the end of the first": (first, 1),
        "in the second": (second, 0),
    }[where]
    standing = train(tmp_path / "parts", data, stages, observers=[Stop(monkeypatch, stage, step)])
    assert standing == Standing(stage, step + 1, 2, finished=False)
    assert (tmp_path / "parts" / f"2-{second}").exists() == (stage == second)
    assert train(tmp_path / "parts", data, stages, resume=True).finished
    for folder in (f"1-{first}", f"2-{second}"):
        assert same(weights(tmp_path / "whole" / folder), weights(tmp_path / "parts" / folder))
        rollouts = [(tmp_path / run / folder / "rollouts.jsonl").read_text() for run in ("whole", "parts")]
        assert rollouts[0] == rollouts[1]


def test_killed_between_stages_it_resumes_with_the_second(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the second stage loads its model: the first is not run again, and its weights are found."""
    assert train(tmp_path / "whole", data).finished
    real = runs.load_policy

    def load_or_die(model: str):
        if model.endswith("1-rl"):
            raise KeyboardInterrupt
        return real(model)

    with monkeypatch.context() as patched:
        patched.setattr(runs, "load_policy", load_or_die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", data)
    assert same(policy_in(tmp_path / "killed"), policy_in(tmp_path / "killed" / "1-rl"))
    reports: list[StepReport] = []
    assert train(tmp_path / "killed", data, resume=True, observers=[reports.append]).finished
    assert {report.stage for report in reports} == {"sft"}
    assert same(weights(tmp_path / "whole/2-sft"), weights(tmp_path / "killed/2-sft"))


def test_the_questions_of_the_stages_may_come_from_two_files(tmp_path: Path, data: str) -> None:
    other = str(export(SceneConfig(size=448), 4, 7, tmp_path / "other"))
    assert train(tmp_path / "run", data, sft_data=other).finished
    record = json.loads((tmp_path / "run/split.json").read_text())
    assert (len(record["rl"]), len(record["sft"])) == (10, 4)
    with pytest.raises(TrainingError, match="sft_data"):
        train(tmp_path / "run", data, resume=True)
    with pytest.raises(SplitError, match="'scene-read-0-0' is in both D_RL and D_SFT"):
        train(tmp_path / "shared", data, sft_data=data)
    assert not (tmp_path / "shared").exists()
    with pytest.raises(TrainingError, match="two stages"):
        train(tmp_path / "one", data, "sft", sft_data=other)


def test_a_run_of_other_stages_is_neither_overwritten_nor_resumed(tmp_path: Path, data: str) -> None:
    train(tmp_path, data)
    for stages in ("rl", "sft", "rl,sft", "sft,rl"):
        with pytest.raises(TrainingError, match="--resume"):
            train(tmp_path, data, stages)
    with pytest.raises(TrainingError, match="begun with stages"):
        train(tmp_path, data, "sft", resume=True)


def test_a_resumed_run_keeps_its_settings_and_its_questions(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, data, observers=[Stop(monkeypatch, "rl", 1)])
    changed = load_recipe("hart-full", [*SMALL, "sft.epochs=2"])
    with pytest.raises(TrainingError, match="differs"):
        train(tmp_path, data, chosen=changed, resume=True)
    real = runs.load_data

    def fewer(*arguments, **options) -> list[Question]:
        return list(real(*arguments, **options))[1:]

    monkeypatch.setattr(runs, "load_data", fewer)
    with pytest.raises(SplitError, match="has changed since"):
        train(tmp_path, data, resume=True)


@pytest.mark.parametrize("name", [name for name in recipe_names() if "sft" in load_recipe(name).stages])
def test_recipes_with_fine_tuning_resume_bit_for_bit(
    tmp_path: Path, data: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = load_recipe(name, [*SMALL, "optimisation.questions_per_update=2"])
    assert train(tmp_path / "whole", data, chosen=chosen).finished
    stopped = train(tmp_path / "parts", data, chosen=chosen, observers=[Stop(monkeypatch, "sft", 0)])
    assert not stopped.finished
    assert train(tmp_path / "parts", data, chosen=chosen, resume=True).finished
    assert same(policy_in(tmp_path / "whole"), policy_in(tmp_path / "parts"))
