"""What ends for want of memory or disk says where, and what to change."""

import errno
from pathlib import Path

import pytest
import torch

from foveate.families import load
from foveate.jsonl import read_rows
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import load_recipe
from foveate.training import Trainer, loop
from foveate.training.checkpoints import checkpoints
from foveate.training.limits import DiskFullError, OutOfMemoryError, disk_warning, enough_memory, memory_metrics

SCENES = Scenes(SceneConfig(size=448), seed=3, length=64)
SMALL = (
    "optimisation.questions_per_step=2",
    "rollout.group_size=2",
    "optimisation.steps=3",
    "images.max_pixels=13000",
    "rollout.max_new_tokens=4",
)


def trainer(run_dir: Path, *overrides: str, name: str = "demo", **options) -> Trainer:
    return Trainer(load_recipe(name, [*SMALL, *overrides]), load(), SCENES, run_dir, **options)


ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


def failing(error: BaseException):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_whoever_finds_no_memory_it_is_said_with_what_to_change(error: Exception) -> None:
    with (
        pytest.raises(
            OutOfMemoryError, match=r"out of memory while updating the weights \(.*(MiB|GiB).*sft\.tokens"
        ) as told,
        enough_memory("update", "sft"),
    ):
        raise error
    assert told.value.__cause__ is error


@pytest.mark.parametrize(
    ("phase", "setting"), [("rollout", r"rollout\.max_new_tokens"), ("update", r"optimisation\.tokens_per_batch")]
)
def test_memory_that_does_not_suffice_is_said_with_the_phase_and_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, setting: str
) -> None:
    one, error = trainer(tmp_path), ERRORS["cpu"]
    monkeypatch.setattr(one.stage, {"rollout": "roll_out", "update": "update"}[phase], failing(error))
    doing = {"rollout": "sampling rollouts", "update": "updating the weights"}[phase]
    with pytest.raises(OutOfMemoryError, match=rf"out of memory while {doing} \(.*(MiB|GiB).*{setting}") as told:
        one.run()
    assert told.value.__cause__ is error


def test_the_references_pass_is_told_apart_from_the_update(tmp_path: Path) -> None:
    one = trainer(tmp_path, "objective.beta=0.01", name="grpo")
    one.stage.updater._reference.forward = failing(ERRORS["cuda"])
    with pytest.raises(OutOfMemoryError, match=r"while scoring with the reference .*objective\.beta=0"):
        one.run()


def test_other_failures_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"), enough_memory("update", "rl"):
        raise RuntimeError("shapes do not fit")


def test_memory_is_logged_at_every_step(tmp_path: Path) -> None:
    rows = trainer(tmp_path).run()
    assert all(50 < row["memory/resident_mib"] < 1_000_000 for row in rows)
    before = memory_metrics()["memory/resident_mib"]
    held = torch.ones(256 * 2**20 // 4)  # more than the allocator has lying about
    assert memory_metrics()["memory/resident_mib"] > before + 100
    del held


def test_a_disk_that_fills_under_the_rows_ends_the_run_and_leaves_it_resumable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(tmp_path / "whole", save_every=1)
    whole.run()
    real, calls = loop.append_rows, []

    def append(path: Path, rows) -> None:
        calls.append(path)
        if len(calls) == 4:  # the metrics of the second step, after half a line
            with path.open("a") as file:
                file.write('{"step": 1, "rew')
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, rows)

    with monkeypatch.context() as context:
        context.setattr(loop, "append_rows", append)
        with pytest.raises(DiskFullError, match=r"no room in .*parts: .*--resume"):
            trainer(tmp_path / "parts", save_every=1).run()
    trainer(tmp_path / "parts", save_every=1).run(resume=True)
    assert [row["step"] for row in read_rows(tmp_path / "parts" / "metrics.jsonl")] == [0, 1, 2]
    rollouts = [(tmp_path / name / "rollouts.jsonl").read_text() for name in ("whole", "parts")]
    assert rollouts[0] == rollouts[1]


def test_a_disk_too_small_for_one_checkpoint_ends_the_run_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveate.training.limits.free_bytes", lambda folder: 2**20)
    one = trainer(tmp_path)
    monkeypatch.setattr(one.stage, "roll_out", failing(AssertionError("a step was begun")))
    with pytest.raises(DiskFullError, match=r"MiB are needed and 1\.0 MiB are free"):
        one.run()


def test_a_disk_too_small_for_what_comes_later_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    trainer(tmp_path / "roomy", warn=said.append).run()
    assert said == []
    [*_, one] = checkpoints(tmp_path / "roomy" / "checkpoints")
    size = sum(file.stat().st_size for file in one.rglob("*"))
    monkeypatch.setattr("foveate.training.limits.free_bytes", lambda folder: 2 * size)
    trainer(tmp_path / "tight", warn=said.append).run()
    assert [warning.split(":")[-1] for warning in said] == [
        " make room, or lower setup.keep_checkpoints, or raise setup.keep_every"
    ]
    assert disk_warning(tmp_path, size, more=2, for_good=0) is None
    assert disk_warning(tmp_path, size, more=2, for_good=1) is not None
