"""Runs of several stages: where they lie, what each starts from, and that they resume."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foveate import runs
from foveate.families import tiny
from foveate.questions.scenes import SceneConfig, export
from foveate.questions.schema import Question
from foveate.recipes import Recipe, RecipeError, dump_recipe, load_recipe, recipe_names
from foveate.runs import Standing, load_policy, recipe_for, start, starting
from foveate.training import SplitError, StepReport, TrainingError
from foveate.training.checkpoints import checkpoints
from foveate.training.limits import DiskFullError
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
        patched.setattr(starting, "load_policy", load_or_die)
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
    real = starting.load_data

    def fewer(*arguments, **options) -> list[Question]:
        return list(real(*arguments, **options))[1:]

    monkeypatch.setattr(starting, "load_data", fewer)
    with pytest.raises(TrainingError, match="other questions"):
        train(tmp_path, data, resume=True)


def test_a_disk_that_is_full_from_the_beginning_is_named(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(starting, "replace_json", fail)
    with pytest.raises(DiskFullError, match=str(tmp_path)):
        train(tmp_path, data, "rl")


@pytest.mark.parametrize("changed", ["weights", "questions"])
def test_what_was_changed_under_its_name_is_not_resumed_on(
    tmp_path: Path, data: str, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters would stand on other weights, the reference would be another, and the card would say the old hash."""
    model, questions = tmp_path / "model", tmp_path / "questions"
    shutil.copytree(tiny.path(), model, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(Path(data).parent, questions)
    chosen = recipe("rl").with_settings(["setup.lora.rank=2"])
    file = questions / Path(data).name

    def go(**options: Any) -> Standing:
        return start(chosen, str(model), str(file), tmp_path / "run", seed=0, **options)

    assert go(resume=False, observers=[Stop(monkeypatch, "rl", 0)]).step == 1
    if changed == "weights":
        tensors = load_file(model / "model.safetensors")
        tensors[max(tensors)].view(-1)[:8] += 0.5
        save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    else:
        file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(TrainingError, match=f"other {changed}"):
        go(resume=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["weights"]


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


# --- what a model is asked by -----------------------------------------------------------------------------------------


def trained(folder: Path, chosen: Recipe) -> str:
    """The folder of a stage with a checkpoint, as far as its recipe is looked for."""
    checkpoint = folder / "checkpoints" / "step-000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer.pt").touch()
    (folder / "recipe.yaml").write_text(dump_recipe(chosen))
    return str(folder)


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).stages == ["rl"]])
def test_a_run_of_one_stage_is_asked_by_its_own_recipe(tmp_path: Path, name: str) -> None:
    own = load_recipe(name, ["images.max_pixels=13000", "rollout.max_new_tokens=8"])
    run = trained(tmp_path / "run", own)
    assert recipe_for(run) == recipe_for(f"{run}/checkpoints/step-000001") == own
    assert recipe_for(run, None, ["images.max_pixels=9000"]) == own.with_settings(["images.max_pixels=9000"])
    assert recipe_for(run, "grpo", ["rollout.max_new_tokens=9"]) == load_recipe("grpo", ["rollout.max_new_tokens=9"])


def test_a_model_that_comes_from_no_run_is_asked_by_hart(tmp_path: Path) -> None:
    trained(tmp_path, load_recipe("mgpo"))
    (tmp_path / "elsewhere").mkdir()
    for model in ("tiny", "Qwen/Qwen2.5-VL-7B-Instruct", str(tmp_path / "elsewhere"), str(tmp_path / "checkpoints")):
        assert recipe_for(model) == load_recipe("hart")


def test_a_run_of_two_stages_is_asked_as_the_last_one_was_trained(tmp_path: Path, monkeypatch) -> None:
    kept = ["protocol.withhold_full_image=false", "protocol.without_region=full_image"]
    hart = load_recipe("hart-full", ["protocol.max_boxes=2"])
    run = tmp_path / "run"
    first = trained(run / "1-rl", hart)
    assert recipe_for(str(run)) == recipe_for(first) == hart
    second = trained(run / "2-sft", hart)
    monkeypatch.chdir(second)
    for model in (str(run), second, f"{second}/checkpoints/step-000001", "."):
        assert recipe_for(model) == hart.with_settings(kept)
    assert recipe_for(first) == hart
    again = recipe_for(str(run), None, ["protocol.withhold_full_image=true"])
    assert again.protocol.withhold_full_image, "what is asked for is done"


@pytest.mark.parametrize(
    ("name", "settings", "asked"),
    [
        ("hart-full", ["stages=sft,rl"], []),
        ("hart-full", ["sft.context=full_image"], ["protocol.name=direct"]),
        ("mgpo-sft", [], []),
        ("grpo-sft", [], []),
        ("lfpc-1", ["stages=rl,sft", "sft.context=full_image"], ["protocol.name=direct"]),
    ],
)
def test_what_fine_tuning_leaves_behind_is_asked_as_it_was_tuned(
    tmp_path: Path, name: str, settings: list[str], asked: list[str]
) -> None:
    own = load_recipe(name, settings)
    for number, stage in enumerate(own.stages, start=1):
        trained(tmp_path / f"{number}-{stage}", own)
    assert recipe_for(str(tmp_path)) == load_recipe(name, [*settings, *asked])


def test_a_stage_whose_folder_was_renamed_has_to_be_told_how_it_is_asked(tmp_path: Path) -> None:
    renamed = trained(tmp_path / "best", load_recipe("hart-full"))
    with pytest.raises(RecipeError, match=r"best no longer says by its name which stage of 'hart-full'.*--recipe"):
        recipe_for(renamed)
    assert recipe_for(renamed, "hart") == load_recipe("hart")


@pytest.mark.parametrize(
    ("name", "gap", "changes", "warned"),
    [
        ("lfpc-1", False, (), True),
        ("lfpc-1", True, (), False),
        ("lfpc-1", False, ("rewards.tool=0",), False),
        ("lfpc-2", False, (), False),
        ("hart", False, (), False),
    ],
)
def test_a_tool_that_is_rewarded_without_an_information_gap_is_warned_of(
    data: str, name: str, gap: bool, changes: tuple[str, ...], warned: bool
) -> None:
    questions = list(starting.load_data(data))
    if gap:
        questions[-1] = dataclasses.replace(questions[-1], view_pixels=13_000)
    said = starting.lacks_information_gap(load_recipe(name, changes), data, questions)
    assert (said is not None) == warned
    if said:
        assert "view_pixels" in said
        assert "foveate select-resolution" in said
        assert "\n" not in said


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        (["rollout.group_size=1", "objective.beta=0"], True),
        (["rollout.group_size=1", "objective.beta=0.04"], False),  # the KL term moves the weights
        (["rollout.group_size=2", "objective.beta=0"], False),
        (["rollout.group_size=1", "objective.beta=0", "stages=sft"], False),
    ],
)
def test_groups_of_one_are_said_to_teach_nothing(settings: list[str], warned: bool) -> None:
    assert bool(starting.lacks_advantages(load_recipe("hart", settings))) == warned


def test_the_warning_comes_before_the_training(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Trainer, "run", lambda trainer, *, resume: said.append("training"))
    chosen = load_recipe("lfpc-1", [name for name in SMALL if not name.startswith(("sft", "split"))])
    train(tmp_path / "alone", data, chosen=chosen, warn=said.append)
    assert len(said) == 2
    assert said[0].startswith("no question of ")
    assert said[1] == "training"


def test_the_moments_of_a_run_of_two_stages(tmp_path: Path, data: str) -> None:
    train(tmp_path / "run", data, save_every=1)
    found = runs.moments(str(tmp_path / "run"))
    assert found[0] == ("start", "tiny")
    assert [moment.name for moment in found[1:3]] == ["1-rl step-000001", "1-rl step-000002"]
    assert all(moment.name.startswith("2-sft step-") for moment in found[3:])
    assert found[-1].model == str(checkpoints(tmp_path / "run" / "2-sft" / "checkpoints")[-1])
    (tmp_path / "run" / "run.json").unlink()
    assert runs.moments(str(tmp_path / "run")) == found[1:]


def test_a_folder_without_a_checkpoint_has_no_moments(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has no checkpoint"):
        runs.moments(str(tmp_path))
