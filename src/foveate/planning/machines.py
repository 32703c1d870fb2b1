"""GPUs by their memory or name: what they hold, how fast they compute and read. Vendors' figures, dense, per device."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from foveate.planning.models import PlanError

GIB = 1 << 30


@dataclass(frozen=True)
class Chip:
    """One device.

    Attributes:
        gib: memory, as its name has it.
        bf16: TFLOP/s of bfloat16 products.
        fp32: TFLOP/s of float32 products, without TF32.
        bandwidth: GB/s from its memory.
        link: GB/s between devices of one machine, in one direction.
    """

    name: str
    gib: int
    bf16: float
    fp32: float
    bandwidth: float
    link: float


_CHIPS = {
    chip.name: chip
    for chip in (
        Chip("T4", 16, 65, 8.1, 320, 12),
        Chip("L4", 24, 121, 30, 300, 25),
        Chip("A10", 24, 125, 31, 600, 25),
        Chip("RTX3090", 24, 71, 36, 936, 25),
        Chip("RTX4090", 24, 165, 83, 1008, 25),
        Chip("RTX5090", 32, 210, 105, 1792, 50),
        Chip("A100-40GB", 40, 312, 19.5, 1555, 300),
        Chip("L40S", 48, 362, 92, 864, 25),
        Chip("A6000", 48, 155, 39, 768, 25),
        Chip("A100", 80, 312, 19.5, 2039, 300),
        Chip("H100", 80, 989, 67, 3350, 450),
        Chip("H200", 141, 989, 67, 4800, 450),
        Chip("B200", 180, 2250, 75, 7700, 900),
    )
}
_BY_SIZE = {16: "T4", 24: "A10", 32: "RTX5090", 40: "A100-40GB", 48: "A6000", 80: "A100", 141: "H200", 180: "B200"}
"""A size alone stands for a slow one of those that have it."""
_WRITTEN = re.compile(r"(?:(\d+)\s*[xX*]\s*)?(\d+)\s*(?:GB|GiB|G)", re.IGNORECASE)
_NAMED = re.compile(r"(?:(\d+)\s*[xX*]\s*)?([A-Za-z][\w-]*)")

_CPU = Chip("CPU", 0, 0.1, 0.1, 20, 1)


@dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes:
        assumed: whether the chip was concluded from its memory alone.
    """

    count: int
    chip: Chip
    memory: int
    assumed: bool

    @property
    def is_gpu(self) -> bool:
        """Or the CPU."""
        return self.chip is not _CPU

    def __str__(self) -> str:
        if not self.is_gpu:
            return f"CPU with {self.memory / GIB:.0f} GiB"
        return f"{self.count} x {self.memory / GIB:.0f} GiB ({self.chip.name}{' assumed' if self.assumed else ''})"


def chip_called(name: str) -> Chip | None:
    """The chip that a driver calls so, such as `NVIDIA H100 80GB HBM3`; None where it is not known here."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower())
    found = [chip for known, chip in _CHIPS.items() if re.search(rf"\b{known.lower().split('-')[0]}\b", words)]
    return max(found, key=lambda chip: len(chip.name), default=None)


def machine_of(written: str) -> Machine:
    """Reads `8x80GB`, `24GB`, `2xH100` or `cpu`.

    Raises:
        PlanError: it is none of these.
    """
    text = written.strip()
    if text.lower() == "cpu":
        return Machine(1, _CPU, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), assumed=True)
    if match := _WRITTEN.fullmatch(text):
        count, size = int(match[1] or 1), int(match[2])
        nearest = min(_BY_SIZE, key=lambda known: abs(known - size))
        if count and size:
            return Machine(count, _CHIPS[_BY_SIZE[nearest]], size * GIB, assumed=True)
    elif match := _NAMED.fullmatch(text):
        known = {name.lower(): chip for name, chip in _CHIPS.items()}
        chip = known.get(match[2].lower())
        if chip and int(match[1] or 1):
            return Machine(int(match[1] or 1), chip, chip.gib * GIB, assumed=False)
    raise PlanError(f"--gpus {written!r}: write 8x80GB, 24GB, cpu, or a name ({', '.join(_CHIPS)}) such as 2xH100")
