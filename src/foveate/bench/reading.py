"""What reading large pictures costs: one decode a question, and memory that stays flat over a thousand of them.

No model is involved. The locating turn and the crops of an evaluation are made as always, from 8K pictures in files,
and a script answers: three boxes, then a letter.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image, ImageFile
from rich.console import Console
from rich.progress import track

from foveate.bench.results import show
from foveate.evaluation.runner import evaluate
from foveate.families.presets import EndpointFamily
from foveate.generators.base import Generator, Request, Sampling
from foveate.images import PixelBudget
from foveate.protocols import Completion, FinishReason, LocateThenAnswer
from foveate.questions.schema import Question
from foveate.regions import Frame

SIZE = (7680, 4320)
PICTURES = 4
"""Files that the questions share: reading is what is measured, not the disk."""
VIEW_PIXELS = 1280 * 28 * 28
BOXES = "[[100, 100, 300, 300], [500, 200, 620, 330], [700, 640, 980, 900]]"


@dataclass(frozen=True)
class Row:
    """How things stand after so many questions.

    Attributes:
        decodes: of whole pictures, so far.
        resident_mib: memory of the process now.
        peak_mib: the most that it was since the row before.
    """

    questions: int
    decodes: int
    seconds: float
    resident_mib: float
    peak_mib: float


class _Script(Generator):
    family = EndpointFamily("script", Frame.THOUSAND, "json", 28, PixelBudget(28 * 28, VIEW_PIXELS))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        return [[self._said(request)] for request in requests]

    def _said(self, request: Request) -> Completion:
        crops = sum(view.cropped for view in request.context.views)
        return Completion((), (), "A" if crops else BOXES, FinishReason.END)


def main(*, quick: bool, json_path: Path | None) -> None:
    """Runs it, prints a table and writes the rows."""
    total = 60 if quick else 1000
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, _counted_decodes() as decoded:
        questions = _questions(_draw(Path(folder)), total)
        started, step = time.perf_counter(), max(1, total // 10)
        _reset_peak()
        seen = 0

        def look(count: int) -> None:
            nonlocal seen
            seen += count
            if seen >= step * (len(rows) + 1) or seen == total:
                rows.append(Row(seen, len(decoded), time.perf_counter() - started, *_memory()))
                _reset_peak()

        evaluate(
            track(questions, "reading", total, console=Console(stderr=True), transient=True),
            LocateThenAnswer(max_boxes=3),
            _Script(),
            keep=0,
            on_progress=look,
        )
    show(
        f"Pictures of {SIZE[0]} x {SIZE[1]} pixels: a locating turn and three crops of each",
        "questions|decodes|seconds|resident MiB|peak MiB",
        lambda row: (
            str(row.questions),
            str(row.decodes),
            f"{row.seconds:.0f}",
            f"{row.resident_mib:.0f}",
            f"{row.peak_mib:.0f}",
        ),
        rows,
        "As many originals are held at a time as `episodes.HELD_PIXELS` allows.",
        json_path,
    )


def _draw(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(PICTURES):
        coarse_HWC = rng.integers(0, 256, (SIZE[1] // 40, SIZE[0] // 40, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(coarse_HWC).resize(SIZE, Image.Resampling.BICUBIC).save(paths[-1], quality=85)
    return paths


def _questions(paths: Sequence[Path], count: int) -> Iterator[Question]:
    for number in range(count):
        yield Question(str(number), paths[number % len(paths)], "Which?", "A", {"A": "this", "B": "that"})


@contextmanager
def _counted_decodes() -> Iterator[list[int]]:
    """Counts the decodes of the picture files inside."""
    decoded: list[int] = []
    load = ImageFile.ImageFile.load

    def counting(image: ImageFile.ImageFile) -> object:
        if image.tile:  # a file of which nothing was decoded yet
            decoded.append(image.width * image.height)
        return load(image)

    with patch.object(ImageFile.ImageFile, "load", counting):
        yield decoded


def _memory() -> tuple[float, float]:
    """Resident memory of this process and its peak since `_reset_peak`, in MiB; Linux tells."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    now, most = (int(values[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
