"""`foveate data check FILE`: every row and every picture looked at, and what was found in plain words."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.images import header_size, open_image
from foveate.questions.benchmarks.reading import benchmark_named, scan_benchmark, where
from foveate.questions.problems import BadRow, list_rows
from foveate.questions.readers import Scanned, find_file, scan
from foveate.regions import Size


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a data file holds.

    Attributes:
        path: the file.
        rows: how many, good and bad.
        bad_rows: those that cannot be used, with the mends.
        warnings: those that can be used but look wrong.
        with_regions: good rows with true regions.
        with_points: good rows with true points, be it that there is none.
        with_choices: good rows with choices.
        with_view_pixels: good rows with a pixel budget of their own.
        categories: good rows by category, those without one left out.
        sizes: smallest, median and largest picture of the rows whose picture could be opened, by pixels (upright
            width and height); empty when there is none.
    """

    path: Path
    rows: int
    bad_rows: tuple[BadRow, ...]
    warnings: tuple[BadRow, ...]
    with_regions: int
    with_points: int
    with_choices: int
    with_view_pixels: int
    categories: dict[str, int]
    sizes: tuple[Size, ...]

    @property
    def good(self) -> int:
        """Rows that can be used."""
        return self.rows - len(self.bad_rows)

    @property
    def ok(self) -> bool:
        """Whether there are rows and all can be used."""
        return self.rows > 0 and not self.bad_rows

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "file": str(self.path),
            "rows": self.rows,
            "good": self.good,
            "bad": len(self.bad_rows),
            "with_regions": self.with_regions,
            "with_points": self.with_points,
            "with_choices": self.with_choices,
            "with_view_pixels": self.with_view_pixels,
            "categories": self.categories,
            "image_sizes": dict(zip(("min", "median", "max"), map(list, self.sizes), strict=False)),
            "bad_rows": [row.as_json() for row in self.bad_rows],
            "warnings": [row.as_json() for row in self.warnings],
        }

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.rows} rows, {self.good} good, {len(self.bad_rows)} bad"]
        if not self.rows:
            lines.append("  The file has no rows. Mend: write one question a row")
        if self.bad_rows:
            lines += ["", "Bad rows", list_rows(self.path, self.bad_rows)]
        if self.warnings:
            lines += ["", "Rows that can be used but look wrong", list_rows(self.path, self.warnings)]
        if self.good:
            lines += [
                "",
                f"{self.with_choices} with choices, {self.good - self.with_choices} open; "
                f"{self.with_regions} with true regions",
            ]
        if self.with_points:
            lines.append(f"{self.with_points} with true points")
        if self.with_view_pixels:
            lines.append(f"{self.with_view_pixels} with a pixel budget of their own for the full image")
        if self.categories:
            lines.append("categories: " + ", ".join(f"{name} {count}" for name, count in self.categories.items()))
        if self.sizes:
            smallest, median, largest = (f"{width} x {height}" for width, height in self.sizes)
            lines.append(f"pictures: {smallest} (smallest), {median} (median), {largest} (largest) pixels")
        return "\n".join(lines)


def check_file(
    path: str | os.PathLike[str], *, image_folder: str | os.PathLike[str] | None = None, decode: bool = True
) -> CheckReport:
    """Reads every row and opens every picture; nothing is raised for a bad row.

    Args:
        path: as for `load_questions`.
        image_folder: as for `load_questions`.
        decode: decode every picture in full, which finds truncated files; False looks at the headers only.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionFileError: the file as a whole cannot be read.
        ImportError: Parquet without pyarrow.
    """
    file = find_file(path)
    return _check_rows(file, scan(file, _looked_at(decode), image_folder))


def check_data(data: str, *, decode: bool = True) -> CheckReport:
    """As `check_file`, also for a benchmark: `NAME` or `NAME:PATH`."""
    if (named := benchmark_named(data)) is None:
        return check_file(data, decode=decode)
    root = where(*named)
    return _check_rows(root, scan_benchmark(named.benchmark, root, _looked_at(decode)))


def _looked_at(decode: bool) -> Callable[[Path | bytes], Size]:
    """How a picture is looked at: in full, or its header."""
    return _decoded_size if decode else header_size


def _check_rows(file: Path, scanned_rows: Iterable[Scanned]) -> CheckReport:
    """What scanned rows hold; `file` is what they are from."""
    rows, bad, warnings, sizes = 0, [], [], []
    regions = points = choices = view_pixels = 0
    categories: Counter[str] = Counter()
    for scanned in scanned_rows:
        rows += 1
        if scanned.bad:
            bad.append(scanned.bad)
        if scanned.warning:
            warnings.append(scanned.warning)
        if scanned.outcome.size:
            sizes.append(scanned.outcome.size)
        if question := scanned.outcome.question:
            regions += bool(question.regions)
            points += question.points is not None
            choices += question.choices is not None
            view_pixels += question.view_pixels is not None
            categories.update([question.category] if question.category is not None else [])
    sizes.sort(key=lambda size: size[0] * size[1])
    spread = (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else ()
    return CheckReport(
        path=file,
        rows=rows,
        bad_rows=tuple(bad),
        warnings=tuple(warnings),
        with_regions=regions,
        with_points=points,
        with_choices=choices,
        with_view_pixels=view_pixels,
        categories=dict(sorted(categories.items())),
        sizes=spread,
    )


def _decoded_size(source: Path | bytes) -> Size:
    return open_image(source).size
