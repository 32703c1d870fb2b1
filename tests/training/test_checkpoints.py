"""What stays of a run's checkpoints, whatever happens while they are written and removed."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch
from tests.models import random_vlm

from foveate.families import load
from foveate.training import checkpoints as module
from foveate.training.checkpoints import (
    checkpoints,
    expected_bytes,
    load_checkpoint,
    resumable,
    save_checkpoint,
    steps_done,
)
from foveate.training.limits import DiskFullError

VLM = random_vlm()


def optimizer_of(vlm=VLM) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW(vlm.model.parameters(), lr=0.0)
    for parameter in vlm.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


OPTIMIZER = optimizer_of()


def save(folder: Path, *steps: int, **options) -> None:
    for step in steps:
        save_checkpoint(folder, step, VLM, OPTIMIZER.state_dict(), **options)


def names(paths: list[Path]) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in paths]


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_the_newest_stay_and_every_so_many_steps_one_for_good_without_its_optimizer(tmp_path: Path) -> None:
    save(tmp_path, *range(2, 15, 2), keep=2, keep_every=4)
    assert names(checkpoints(tmp_path)) == [4, 8, 12, 14]
    assert names(resumable(tmp_path)) == [12, 14]
    assert size(checkpoints(tmp_path)[0]) < size(checkpoints(tmp_path)[-1]) / 2
    kept = load(checkpoints(tmp_path)[0]).model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in VLM.model.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in checkpoints(tmp_path))


def test_only_the_newest_stay_without_that(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, keep=1)
    assert names(checkpoints(tmp_path)) == names(resumable(tmp_path)) == [3]


def test_nothing_is_removed_before_the_new_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1, 2)
    real, seen = module._remove, []
    monkeypatch.setattr(module, "_remove", lambda path: seen.append(names(checkpoints(tmp_path))) or real(path))
    save(tmp_path, 3)
    assert seen[-1] == [1, 2, 3]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_crash_within_a_removal_leaves_whole_ones_only(tmp_path: Path, monkeypatch, after: int) -> None:
    """The process ends when some of the old one's files are gone; the next save sweeps up what is left."""
    save(tmp_path, 1, 2)

    def crash(path: Path, **_) -> None:
        for file in sorted(path.iterdir())[:after]:
            file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(module.shutil, "rmtree", crash)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 3)
    assert names(checkpoints(tmp_path)) == [2, 3]
    for path in checkpoints(tmp_path):
        load(path)
    save(tmp_path, 4)
    assert names(checkpoints(tmp_path)) == [3, 4]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_checkpoint_will_take_is_known_before_the_first_and_after_it(tmp_path: Path) -> None:
    guessed = expected_bytes(tmp_path, VLM)
    save(tmp_path, 1)
    real = size(tmp_path)
    assert expected_bytes(tmp_path, VLM) == real
    parts = ("model.safetensors", module._OPTIMIZER)
    assert guessed == pytest.approx(sum((tmp_path / "step-000001" / name).stat().st_size for name in parts), rel=0.05)


def test_the_count_of_skipped_updates_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 7, skipped_in_a_row=3)
    assert load_checkpoint(tmp_path / "step-000007", VLM.model, OPTIMIZER) == (7, 3)


@pytest.mark.parametrize("part", ["safetensors", "torch", "system"])
def test_a_disk_that_fills_while_it_is_written_leaves_the_last_one_and_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Each writer says it in its own way; torch's not at all, so there the free space is looked at."""
    save(tmp_path, 1)
    said = {
        "safetensors": Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 417664 vs 417552"),
        "system": OSError(errno.ENOSPC, "No space left on device"),
    }[part]

    def fail(*_, **__):
        monkeypatch.setattr("foveate.training.limits.free_bytes", lambda folder: 10)
        raise said

    monkeypatch.setattr(module.torch, "save", fail)
    with pytest.raises(DiskFullError, match=r"MiB are needed and 0\.0 MiB are free.*setup\.keep_checkpoints") as caught:
        save(tmp_path, 2)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.__cause__ is said
    assert names(resumable(tmp_path)) == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_another_failure_is_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("failed writing a file")))
    with pytest.raises(RuntimeError, match="failed writing a file"):
        save(tmp_path, 2)
    assert not list(tmp_path.iterdir())


def test_on_a_small_disk_the_last_checkpoint_stays_whole(tmp_path: Path) -> None:
    """For real, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    one = size_of_one(tmp_path / "probe")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(one * 1.6)}", "none", disk], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        save(disk, 1)
        with pytest.raises(DiskFullError, match="are needed"):
            save(disk, 2)
        assert names(resumable(disk)) == [1]
        # What was guessed too small: it fails in the middle, and says the same.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "refuse_full_disk", lambda *_: None)
            with pytest.raises(DiskFullError, match="are needed"):
                save(disk, 2)
        assert [path.name for path in disk.iterdir()] == ["step-000001"]
        load_checkpoint(disk / "step-000001", VLM.model, OPTIMIZER)
        assert steps_done(disk) == 1
    finally:
        subprocess.run(["umount", "-l", os.fspath(disk)], check=True)


def size_of_one(folder: Path) -> int:
    save(folder, 1)
    return size(folder)
