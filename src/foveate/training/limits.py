"""Memory and disk: what a run takes of them, and what to change when there is no more."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psutil
import torch

from foveate.errors import FoveateError
from foveate.recipes import StageName
from foveate.sizes import in_words

Phase = Literal["setting up", "rollout", "update", "reference"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_SAID = ("no space left", "os error 28", "disk quota exceeded", "os error 122")
_NO_MEMORY_SAID = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
_DOING: Mapping[Phase, str] = {
    "setting up": "setting up model, reference and optimizer",
    "rollout": "sampling rollouts",
    "update": "updating the weights",
    "reference": "scoring with the reference",
}
_MENDS: Mapping[Phase, str] = {
    "setting up": "Train adapters instead of all weights (setup.lora.rank=16), which also does without a copy for the "
    "reference; or set objective.beta=0, which needs no reference",
    "rollout": "Lower setup.engine.prefill_tokens and setup.engine.samples, which changes no method; then "
    "rollout.group_size, rollout.max_new_tokens or images.max_pixels",
    "update": "Lower {settings}.tokens_per_batch, then images.max_pixels; set setup.gradient_checkpointing=true, or "
    "train adapters instead of all weights (setup.lora.rank=16)",
    "reference": "Lower {settings}.tokens_per_batch, then images.max_pixels; or set objective.beta=0, which needs no "
    "reference",
}
SETTINGS_OF: Mapping[StageName, str] = {"rl": "optimisation", "sft": "sft"}
"""The section of a recipe that has a stage's optimizer."""


class OutOfMemoryError(FoveateError, RuntimeError):
    """Memory did not suffice; the message names the phase and what to change.

    Linux may end a process without a word instead (status 137): then the last rows of metrics.jsonl show how
    `memory/resident_mib` grew.
    """


class DiskFullError(FoveateError, RuntimeError):
    """There is no room for what has to be written; the message names the folder, what is needed, and what to change."""


@contextmanager
def enough_memory(phase: Phase, stage: StageName) -> Iterator[None]:
    """Whatever runs out of memory inside ends with what to change.

    Raises:
        OutOfMemoryError: in place of torch's and Python's own errors, which it has as its cause.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, FoveateError) or not _lacks_memory(error):
            raise
        mend = _MENDS[phase].format(settings=SETTINGS_OF[stage])
        raise OutOfMemoryError(f"out of memory while {_DOING[phase]} ({_memory_said()}). {mend}") from error


@contextmanager
def enough_disk(folder: Path) -> Iterator[None]:
    """A write inside that finds the disk full ends with what to change.

    Raises:
        DiskFullError: in place of the system's own error, which it has as its cause.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, DiskFullError) and (full := disk_full(error, folder)):
            raise full from error
        raise


def disk_full(error: Exception, folder: Path, needed: int | None = None, *, written: int = 0) -> DiskFullError | None:
    """What to say where an error comes of a full disk, and None where it does not.

    Args:
        error: of a write.
        needed: bytes in all, where that is known. torch does not say why it could not write a file: the disk is full
            then where the rest is more than what is free.
        written: of them already.
    """
    said = f"{error}".lower()
    full = isinstance(error, OSError) and error.errno in _FULL
    full = full or any(words in said for words in _FULL_SAID)
    if needed is not None and isinstance(error, RuntimeError):
        full = full or free_bytes(folder) < max(needed - written, 2**20)
    return _no_room(folder, needed) if full else None


def refuse_full_disk(folder: Path, needed: int) -> None:
    """Stops before anything is written that would not fit.

    Raises:
        DiskFullError: it would not.
    """
    if free_bytes(folder) < needed:
        raise _no_room(folder, needed)


def disk_warning(folder: Path, checkpoint: int, *, more: int, for_good: int) -> str | None:
    """What to say where a run will fill the disk later; None where it will not.

    Args:
        checkpoint: bytes of one.
        more: checkpoints that will stand at a time beside those that do.
        for_good: of which the weights will be kept; an optimizer is two thirds of a checkpoint.
    """
    takes, free = checkpoint * more + checkpoint // 3 * for_good, free_bytes(folder)
    if takes <= free:
        return None
    return (
        f"the checkpoints of this run will take about {in_words(takes)} more in {folder}, where {in_words(free)} are "
        "free: make room, or lower setup.keep_checkpoints, or raise setup.keep_every"
    )


def free_bytes(folder: Path) -> int:
    """Of the file system that a folder is or will be in."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def memory_metrics() -> dict[str, float]:
    """What the process holds now, and on a GPU the most that it has held since the last call."""
    metrics = {"memory/resident_mib": psutil.Process().memory_info().rss / 2**20}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        metrics["memory/cuda_peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
    return metrics


def _no_room(folder: Path, needed: int | None) -> DiskFullError:
    need = f"{in_words(needed)} are needed and " if needed is not None else ""
    return DiskFullError(
        f"no room in {os.fspath(folder)}: {need}{in_words(free_bytes(folder))} are free. Make room there, then go on "
        "with --resume: the last checkpoint is whole. Checkpoints take less with setup.keep_checkpoints=1 and "
        "without setup.keep_every"
    )


def _lacks_memory(error: BaseException) -> bool:
    said = f"{error}".lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in said for words in _NO_MEMORY_SAID)


def _memory_said() -> str:
    resident, free = psutil.Process().memory_info().rss, psutil.virtual_memory().available
    said = f"the process holds {in_words(resident)}, {in_words(free)} are available"
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        held, total = torch.cuda.memory_reserved(), torch.cuda.get_device_properties(torch.cuda.current_device())
        said += f"; on the GPU {in_words(held)} of {in_words(total.total_memory)}"
    return said
