"""A loss or gradient that is not finite: nothing moves, it is counted, and too many in a row end the run."""

import copy
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tests.models import group, random_vlm

from foveate.families import load
from foveate.jsonl import read_rows
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import AdamW, Recipe, load_recipe
from foveate.training import StepReport, Trainer, TrainingError
from foveate.training import update as update_module
from foveate.training.checkpoints import checkpoints
from foveate.training.learner import Learner
from foveate.training.packing import batch_logprobs, pack
from foveate.training.skips import SpoiltWeightsError

SCENES = Scenes(SceneConfig(size=448), seed=3, length=64)
SMALL = (
    "optimisation.questions_per_step=2",
    "rollout.group_size=4",
    "rollout.max_new_tokens=4",
    "images.max_pixels=13000",
)


def recipe(*overrides: str, name: str = "demo") -> Recipe:
    return load_recipe(name, [*SMALL, "optimisation.steps=4", *overrides])


def trainer(run_dir: Path, *overrides: str, name: str = "demo", **options) -> Trainer:
    return Trainer(recipe(*overrides, name=name), load(), SCENES, run_dir, **options)


def plant(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> list[dict]:
    """Makes the loss of some updates, by their number, no number; says of each whether anything moved."""
    real, seen = Learner.descend, []

    def descend(self: Learner, batches, loss_of):
        number, before = len(seen), state(self)
        seen.append({})
        norm = real(self, batches, lambda batch: loss_of(batch) * (math.nan if bad(number) else 1.0))
        seen[number] = {"norm": norm, "moved": not same(before, state(self))}
        return norm

    monkeypatch.setattr(Learner, "descend", descend)
    return seen


def state(learner: Learner) -> list[torch.Tensor]:
    moments = [value for one in learner.optimizer.state.values() for value in one.values()]
    return copy.deepcopy([*learner.vlm.model.state_dict().values(), *moments])


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_weights_and_optimizer_stay_bit_for_bit_and_each_update_is_judged_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = plant(monkeypatch, lambda number: number in (2, 4, 5))
    said: list[str] = []
    rows = trainer(tmp_path, "optimisation.questions_per_update=1", warn=said.append).run()
    assert said == [
        f"step {n}: {count} update(s) skipped, loss nan, gradient norm nan" for n, count in ((1, 1), (2, 2))
    ]
    assert [one["moved"] for one in seen] == [number not in (2, 4, 5) for number in range(8)]
    assert [row["skipped_updates"] for row in rows] == [0, 1, 2, 0]
    assert [("loss" in row, "grad_norm" in row) for row in rows] == [
        (True,) * 2,
        (True,) * 2,
        (False,) * 2,
        (True,) * 2,
    ]
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_a_gradient_that_is_not_finite_under_a_loss_that_is(tmp_path: Path) -> None:
    one = trainer(tmp_path, "optimisation.steps=1")
    parameter = one.learner.vlm.model.get_output_embeddings().weight
    parameter.register_hook(lambda gradient: gradient * math.inf)
    before = state(one.learner)
    [row] = one.run()
    assert same(before, state(one.learner))
    assert row["skipped_updates"] == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_reward_that_is_no_number_is_an_error(tmp_path: Path, monkeypatch, place: int) -> None:
    """Of the term that gave it; wherever in the group it stands, where `max` and `min` may overlook it."""
    one = trainer(tmp_path, "optimisation.steps=1")
    real = one.stage._score

    def score(group):
        scored = real(group)
        rewards = [0.0] * len(scored.rewards)
        rewards[place] = math.nan
        return update_module.Scored(scored.group, scored.terms, tuple(rewards))

    monkeypatch.setattr(one.stage, "_score", score)
    with pytest.raises(ValueError, match="rewards must be finite"):
        one.run()


def test_supervised_steps_are_skipped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = plant(monkeypatch, lambda number: number == 1)
    questions = SCENES[:6]
    chosen = recipe("sft.questions_per_update=2", name="sft")
    rows = Trainer(chosen, load(), questions, tmp_path).run()
    assert [one["moved"] for one in seen] == [True, False, True]
    assert [("loss" in row, row["skipped_updates"]) for row in rows] == [(True, 0), (False, 1), (True, 0)]


def test_too_many_in_a_row_end_the_run_with_a_sound_checkpoint_and_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda number: number >= 1)
    one = trainer(tmp_path, "setup.max_skipped_updates=2", "optimisation.steps=6")
    with pytest.raises(
        TrainingError, match=r"step 2: 2 updates in a row .*loss nan.*optimisation\.learning_rate"
    ) as told:
        one.run()
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 3
    [newest] = checkpoints(tmp_path / "checkpoints")
    assert newest.name == "step-000003"
    assert str(newest) in str(told.value)
    saved = load(newest).model.state_dict()
    assert all(torch.isfinite(value).all() for value in saved.values())
    assert same(list(saved.values()), list(one.learner.vlm.model.state_dict().values()))


def test_an_update_that_deepspeed_has_made_is_not_called_skipped_and_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda number: number == 1)
    one = trainer(tmp_path)

    def launched(report: StepReport) -> None:  # after the first step, as if DeepSpeed made the next ones
        monkeypatch.setattr(AcceleratorState, "deepspeed_plugin", object())

    one.observers = [launched]
    with pytest.raises(SpoiltWeightsError, match=r"loss nan.*not saved.*DDP or FSDP2"):
        one.run()
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 1
    assert not checkpoints(tmp_path / "checkpoints")


def test_the_count_goes_on_after_a_resume_and_begins_again_after_a_good_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("setup.max_skipped_updates=3", "optimisation.steps=6")
    with monkeypatch.context() as context:
        plant(context, lambda number: number in (0, 1))
        whole = trainer(tmp_path, *settings, observers=[lambda report: stop(whole, report.step == 1)])
        whole.run()
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-000002"
    with monkeypatch.context() as context:
        plant(context, lambda number: number == 0)
        with pytest.raises(TrainingError, match="step 2: 3 updates in a row"):
            trainer(tmp_path, *settings).run(resume=True)
    with monkeypatch.context() as context:  # the third step's checkpoint says 3; a good update, then two bad ones
        plant(context, lambda number: number in (1, 2))
        rows = trainer(tmp_path, *settings).run(resume=True)
    assert [row["skipped_updates"] for row in rows] == [0, 1, 1]


def stop(one: Trainer, now: bool) -> None:
    one.stop_requested = now


def one_of_two(rank: int, meeting: str, told: str) -> None:
    """A process of two, of which the second has a loss that is no number, then neither has."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    vlm = random_vlm()
    learner = Learner(vlm, AdamW(learning_rate=1e-3), 2, Accelerator(cpu=True))
    assert learner.accelerator.num_processes == 2
    batches, found = pack(vlm.family, group([3, 4])), []
    for factor in (math.nan if rank else 1.0, 1.0):
        before = state(learner)

        def loss_of(batch, factor=factor):
            return -batch_logprobs(learner.scorer, vlm.family, batch).mean() * factor

        found.append((learner.descend(batches, loss_of) is None, same(before, state(learner)), learner.skips.in_a_row))
    Path(told, str(rank)).write_text(repr(found))
    os._exit(0)  # now and then a thread of gloo's aborts the interpreter on its way out


def test_processes_skip_together(tmp_path: Path) -> None:
    """Also the one whose own loss is sound."""
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path / "meeting"), str(tmp_path)), nprocs=2)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == [repr([(True, True, 1), (False, False, 0)])] * 2
