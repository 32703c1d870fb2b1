"""Checkpoints that a crash cannot spoil: written aside, then renamed; the newest one with its optimizer is resumed.

The newest few hold the optimizer's state, which is twice the size of the weights. Those that are kept for good, so that
the course of a run can be looked at, lose it when newer ones stand: they load and can be asked, and are not resumed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foveate.errors import FoveateError
from foveate.families.adapters import has_adapters, put_adapters
from foveate.families.base import VLM
from foveate.training.limits import disk_full, refuse_full_disk
from foveate.training.sharding import load_optimizer, load_weights

_STATE, _OPTIMIZER = "trainer.pt", "optimizer.pt"
_WRITING, _REMOVING = ".writing-", ".removing-"


class CheckpointError(FoveateError, RuntimeError):
    """A checkpoint that cannot be resumed; the message says what is wrong with which."""


class Resumed(NamedTuple):
    """Where a run goes on: the steps done, and how many updates in a row had been skipped by then."""

    step: int
    skipped_in_a_row: int


def save_checkpoint(
    folder: Path,
    step: int,
    vlm: VLM,
    optimizer: Mapping[str, Any] | None,
    *,
    weights: Mapping[str, Tensor] | None = None,
    keep: int = 2,
    keep_every: int | None = None,
    skipped_in_a_row: int = 0,
) -> Path:
    """Writes `folder/step-NNNNNN` (save_pretrained layout, tokenizer, processor, optimizer, random states).

    Only when the new one stands, older ones beyond the newest `keep` are removed; of those at every `keep_every`-th
    step, the optimizer's state alone.

    Args:
        folder: of all checkpoints of the run.
        step: the number of steps done.
        optimizer: its state dict; the checkpoint cannot be resumed without.
        weights: where the model holds a part of them only.
        skipped_in_a_row: updates that were skipped just before; a resumed run counts on from there.

    Raises:
        DiskFullError: it has no room, or had none left on the way. The older ones are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    final = folder / f"step-{step:06d}"
    aside = folder / f"{_WRITING}{final.name}"
    needed = expected_bytes(folder, vlm)
    refuse_full_disk(folder, needed)
    try:
        vlm.save(aside, weights)
        # Questions and samples are drawn from the seed and the step; torch's state is what dropout would draw from.
        state = {"step": step, "random": torch.get_rng_state(), "skipped_in_a_row": skipped_in_a_row}
        torch.save(state, aside / _STATE)
        if optimizer is not None:
            torch.save(dict(optimizer), aside / _OPTIMIZER)
        for file in aside.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
    except Exception as error:
        full = disk_full(error, folder, needed, written=_size(aside))  # before what was written goes
        shutil.rmtree(aside, ignore_errors=True)
        if full:
            raise full from error
        raise
    _remove(final)
    aside.rename(final)
    _sync_folder(folder)
    for old in checkpoints(folder)[:-keep]:
        if keep_every and step_of(old) % keep_every == 0:
            (old / _OPTIMIZER).unlink(missing_ok=True)
        else:
            _remove(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first; not all of them can be resumed."""
    return sorted(path for path in folder.glob("step-*") if (path / _STATE).is_file())


def resumable(folder: Path) -> list[Path]:
    """Those that still have their optimizer, oldest first."""
    return [path for path in checkpoints(folder) if (path / _OPTIMIZER).is_file()]


def step_of(checkpoint: Path) -> int:
    """The number of steps done, as a checkpoint's name says it."""
    return int(checkpoint.name.removeprefix("step-"))


def steps_done(folder: Path) -> int:
    """How many steps the newest whole checkpoint of a run has; 0 without one."""
    found = checkpoints(folder)
    return step_of(found[-1]) if found else 0


def expected_bytes(folder: Path, vlm: VLM) -> int:
    """The size of the next checkpoint: that of the newest one, or what weights and optimizer should come to."""
    if found := resumable(folder):
        return _size(found[-1])
    trained = sum(int(value.nbytes) for value in vlm.model.parameters() if value.requires_grad)
    if has_adapters(vlm.model):
        return 3 * trained
    return sum(int(value.nbytes) for value in vlm.model.parameters()) + 2 * trained


def forget_optimizer(folder: Path) -> None:
    """Makes the checkpoints of a run that has ended small: they load and count as before, and cannot be resumed.

    An optimizer's state is twice the size of the weights.
    """
    for path in checkpoints(folder):
        (path / _OPTIMIZER).unlink(missing_ok=True)


def load_checkpoint(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Resumed:
    """Puts weights, optimizer and random states back as they were, and says where the run goes on.

    Raises:
        CheckpointError: a file of it is missing or spoilt, or it belongs to another model.
    """
    try:
        state: Mapping[str, Any] = torch.load(path / _STATE, weights_only=True, map_location="cpu")
        if not (path / _OPTIMIZER).is_file():
            raise ValueError("its optimizer was thrown away, when the run had ended or newer ones stood")
        # Mapped: a process reads what it needs of it.
        moments = torch.load(path / _OPTIMIZER, weights_only=True, map_location="cpu", mmap=True)
        # Into the model that stands, so that the optimizer keeps its parameters.
        if has_adapters(model):
            put_adapters(model, path)
        else:
            # float32 holds every weight as it is, whichever precision each one of the model's has.
            saved = type(model).from_pretrained(path, dtype=torch.float32, use_safetensors=True)
            load_weights(model, saved.state_dict())
        load_optimizer(optimizer, moments)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be resumed ({type(error).__name__}: {error}); remove it to resume from the one before"
        ) from error
    torch.set_rng_state(state["random"])
    return Resumed(int(state["step"]), int(state["skipped_in_a_row"]))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _remove(checkpoint: Path) -> None:
    """Renamed first: a crash in the middle must not leave one that looks whole."""
    if checkpoint.exists():
        away = checkpoint.with_name(f"{_REMOVING}{checkpoint.name}")
        checkpoint.rename(away)
        shutil.rmtree(away)


def _sweep(folder: Path) -> None:
    """What a crash left half-written or half-removed."""
    for prefix in (_WRITING, _REMOVING):
        for left in folder.glob(f"{prefix}*"):
            shutil.rmtree(left)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
