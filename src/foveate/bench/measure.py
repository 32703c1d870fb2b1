"""Time and memory of a piece of work."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

Work = Callable[[], object]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """That many CPU threads inside, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(work: Work, device: str) -> float:
    """Time of one run: of the processor where one CPU thread does all of it, by the clock otherwise.

    Processor time is what the clock would show on an idle machine: other processes do not add to it.
    """
    clock = time.perf_counter
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        clock = time.process_time
    start = clock()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return clock() - start


def alternating(sides: Mapping[str, Work], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each side, run in turns (A B C A B C ...), so that a slow spell of the machine hits all."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(seconds(work, device))
    return {name: statistics.median(values) for name, values in taken.items()}


def peak_bytes(work: Work, device: str) -> int:
    """The most memory that torch's allocator held during one run, above what it held before.

    On a CPU every allocation and release is recorded by torch's profiler, which is exact and the same in every run
    (the process's resident size is neither: it keeps what was freed, and rounds to what the system hands out).
    Weights, and gradients where there were some before, are not counted.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    recorder = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
    with _silent_stderr(), recorder:
        work()
    result: Any = recorder.profiler.kineto_results if recorder.profiler is not None else None
    events = [event for event in result.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler's native code writes a line there at each start and stop, and when memory of before is freed."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
