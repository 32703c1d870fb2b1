"""Checkpoints that a crash cannot spoil: written aside, then renamed; the newest whole one is what a run resumes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from foveate.errors import FoveateError
from foveate.families.adapters import has_adapters, put_adapters
from foveate.families.base import VLM

_STATE = "trainer.pt"


class CheckpointError(FoveateError, RuntimeError):
    """A checkpoint that cannot be resumed; the message says what is wrong with which."""


def save_checkpoint(folder: Path, step: int, vlm: VLM, optimizer: torch.optim.Optimizer, *, keep: int = 2) -> Path:
    """Writes `folder/step-NNNNNN` (save_pretrained layout, tokenizer, processor, optimizer, random states).

    Older checkpoints beyond the newest `keep` are removed, after the new one stands.

    Args:
        folder: of all checkpoints of the run.
        step: the number of steps done.
    """
    final = folder / f"step-{step:06d}"
    aside = folder / f".writing-{final.name}"
    shutil.rmtree(aside, ignore_errors=True)
    vlm.save(aside)
    # Questions and samples are drawn from the seed and the step; torch's state is what dropout would draw from.
    torch.save({"step": step, "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}, aside / _STATE)
    for file in aside.rglob("*"):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    _sync_folder(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / _STATE).is_file())


def steps_done(folder: Path) -> int:
    """How many steps the newest whole checkpoint of a run has; 0 without one."""
    found = checkpoints(folder)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def forget_optimizer(folder: Path) -> None:
    """Makes the checkpoints of a run that has ended small: they load and count as before, and cannot be resumed.

    An optimizer's state is twice the size of the weights.
    """
    for path in checkpoints(folder):
        state = torch.load(path / _STATE, weights_only=True, map_location="cpu")
        aside = path / f".writing-{_STATE}"
        torch.save({name: value for name, value in state.items() if name != "optimizer"}, aside)
        aside.replace(path / _STATE)


def load_checkpoint(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> int:
    """Puts weights, optimizer and random states back as they were, and returns the number of steps done.

    Raises:
        CheckpointError: a file of it is missing or spoilt, or it belongs to another model.
    """
    try:
        state: dict[str, Any] = torch.load(path / _STATE, weights_only=True, map_location="cpu")
        if "optimizer" not in state:
            raise ValueError("its optimizer was thrown away when the run had ended")
        # Into the model that stands, so that the optimizer keeps its parameters.
        if has_adapters(model):
            put_adapters(model, path)
        else:
            # float32 holds every weight as it is, whichever precision each one of the model's has.
            saved = type(model).from_pretrained(path, dtype=torch.float32, use_safetensors=True)
            model.load_state_dict(saved.state_dict())
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be resumed ({type(error).__name__}: {error}); remove it to resume from the one before"
        ) from error
    torch.set_rng_state(state["random"])
    return int(state["step"])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
