"""`load_benchmark`: a benchmark's published files as questions."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

from foveate.images import ImageSource, header_size
from foveate.questions.benchmarks.hub import downloaded
from foveate.questions.benchmarks.layouts import BoxFormat, LayoutError, corners_of
from foveate.questions.benchmarks.registry import BENCHMARKS, Benchmark
from foveate.questions.benchmarks.tables import SUFFIXES, Record, records
from foveate.questions.files import RawRow
from foveate.questions.pictures import EmbeddedImage, decode_base64
from foveate.questions.problems import Problem, QuestionFileError, row_unit
from foveate.questions.readers import Questions, Scanned, find_file, gather, load_questions, scan_rows
from foveate.regions import Size

logger = logging.getLogger(__name__)

_LONGEST_PATH = 1000
_PICTURE_COLUMNS = ("image", "bytes")
"""Where published files have pictures as text."""


class Named(NamedTuple):
    """A benchmark that was asked for by name, and where its files lie; None for the hub."""

    benchmark: Benchmark
    path: Path | None


def benchmark_named(data: str) -> Named | None:
    """What `NAME` or `NAME:PATH` asks for; None where it names no benchmark, or is the path of an existing file."""
    name, colon, path = data.partition(":")
    if name not in BENCHMARKS or (colon and Path(data).exists()):
        return None
    if colon and not path:
        raise QuestionFileError(f"{data}: write where the files of {name} lie behind the colon, or leave it out")
    return Named(BENCHMARKS[name], Path(path) if path else None)


def load_named(data: str, *, on_bad: Literal["error", "quarantine"] = "error") -> Questions:
    """Questions of a benchmark, `NAME` (from the hub) or `NAME:PATH`, or of a data file or folder of ours.

    Args:
        data: as it is typed.
        on_bad: as for `load_questions`.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionFileError: as `load_benchmark` and `load_questions`.
        ImportError: Parquet without pyarrow.
    """
    named = benchmark_named(data)
    if named:
        return load_benchmark(named.benchmark.name, named.path, on_bad=on_bad)
    return load_questions(data, on_bad=on_bad)


def find_data(data: str) -> Path:
    """The file or folder that `load_named` would read; a benchmark's is downloaded where no path is given.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionFileError: there is no data file in the folder, or a benchmark could not be downloaded.
    """
    named = benchmark_named(data)
    return where(*named) if named else find_file(data)


def load_benchmark(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    image_folder: str | os.PathLike[str] | None = None,
    boxes: BoxFormat | None = None,
    on_bad: Literal["error", "quarantine"] = "error",
) -> Questions:
    """Reads a benchmark in one of the layouts in which it is published. Embedded pictures stay where they are.

    A number of questions other than the published one is logged, and no error: parts of benchmarks are used too.

    Args:
        name: as in `BENCHMARKS`.
        path: its file, or a folder with its files; None downloads them from the hub, or takes them from its cache.
        image_folder: where paths to pictures start; by default the folder of the file or a usual one beside it.
        boxes: how boxes are written where published files differ in it (Visual CoT); None goes by the evidence of the
            whole file (`layouts.box_format`).
        on_bad: as for `load_questions`.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionFileError: an unknown name; no file in a layout that is read; nothing could be downloaded; bad rows, as
            for `load_questions`.
        ImportError: Parquet without pyarrow.
    """
    if name not in BENCHMARKS:
        raise QuestionFileError(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    if boxes and not benchmark.boxes:
        raise ValueError(f"the boxes of {name} are always written in the same way: leave `boxes` out")
    root = where(benchmark, path)
    rows = scan_benchmark(benchmark, root, header_size, image_folder=image_folder, boxes=boxes)
    questions = gather(root, rows, on_bad)
    if benchmark.questions is not None and len(questions) != benchmark.questions:
        said = f"{root}: {len(questions):,} questions, where {name} as published has {benchmark.questions:,}"
        logger.warning("%s: figures are of these, and not of the whole", said)
    return questions


def where(benchmark: Benchmark, path: str | os.PathLike[str] | None) -> Path:
    """The file or folder with a benchmark's files; downloaded where no path is given.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionFileError: it could not be downloaded.
    """
    if path is None:
        return downloaded(benchmark, choose)
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return Path(path)


def choose(benchmark: Benchmark, names: list[str]) -> list[str]:
    """Of the names of files, those that hold the benchmark's questions, in order; empty where there are none."""
    for pattern in benchmark.files:
        if chosen := sorted(name for name in names if fnmatchcase(name.lower(), pattern)):
            return chosen
    return []


def scan_benchmark(
    benchmark: Benchmark,
    root: Path,
    size_of: Callable[[Path | bytes], Size],
    *,
    image_folder: str | os.PathLike[str] | None = None,
    boxes: BoxFormat | None = None,
) -> Iterator[Scanned]:
    """Every row of a benchmark, good or bad, in order; arguments as for `load_benchmark` and `readers.scan`."""
    images = Path(image_folder) if image_folder is not None else _image_root(root)
    rows = _rows(benchmark, root, images, boxes)
    return scan_rows(rows, images, size_of, row_unit(root))


def _image_root(root: Path) -> Path:
    """The data's folder: for Visual CoT's `metadata/textvqa.jsonl` the one that holds the pictures' folder too."""
    folder = root if root.is_dir() else root.parent
    return folder.parent if folder.name == "metadata" else folder


def _rows(benchmark: Benchmark, root: Path, images: Path, boxes: BoxFormat | None) -> Iterator[RawRow]:
    if root.is_dir() and benchmark.folders:
        names, read = benchmark.folders
        if any((root / name).is_dir() for name in names):
            for record in read(root):
                yield _row(benchmark, record, images, record.file.relative_to(root).as_posix(), None, {})
            return
    files = [root]
    if root.is_dir():
        inside = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix.lower() in SUFFIXES]
        files = [root / name for name in choose(benchmark, inside)]
        if not files:
            raise QuestionFileError(
                f"{root} holds no file of {benchmark.name} ({benchmark.read}): name the file itself"
            )
    for file in files:
        written = boxes or (_box_format(benchmark, file) if benchmark.boxes else None)
        inner = file.relative_to(root).as_posix() if root.is_dir() else None
        seen: dict[str, ImageSource] = {}
        for record in records(file):
            yield _row(benchmark, record, images, inner, written, seen)


def _box_format(benchmark: Benchmark, file: Path) -> BoxFormat:
    assert benchmark.boxes
    told = benchmark.boxes(record.content for record in records(file) if not isinstance(record.content, Problem))
    if told == "xywh":
        logger.warning("%s: boxes are taken as [x, y, width, height]: not all of them can be corners", file)
    return told


def _row(
    benchmark: Benchmark,
    record: Record,
    images: Path,
    inner: str | None,
    boxes: BoxFormat | None,
    seen: dict[str, ImageSource],
) -> RawRow:
    """A record as a row with our own keys.

    Args:
        seen: the pictures of the rows before, by `index`; this row's is added.
    """
    if isinstance(record.content, Problem):
        return RawRow(record.number, record.content, b"", file=inner)
    content = dict(record.content)
    try:
        _decode(content)
        places = _resolve(content, record, seen)
        row = benchmark.translate(content, record)
        columns = row.pop("pictures")
        values = [_picture(benchmark, content, column, images) for column in columns]
    except LayoutError as error:
        return RawRow(record.number, error.problem, record.content, file=inner)
    if boxes == "xywh" and isinstance(regions := row.get("regions"), list):
        row["regions"] = [corners_of(box) for box in regions]
    row |= {"image": values[0], "other_images": values[1:]}
    embedded = tuple(places.get(column) or record.picture(column) for column in columns if column in content)
    return RawRow(record.number, row, record.content, embedded, file=inner)


def _decode(content: dict[str, Any]) -> None:
    """Pictures as base64 become bytes, once: an 8K picture is 30 MB and more."""
    for column in _PICTURE_COLUMNS:
        text = content.get(column)
        if isinstance(text, str) and len(text) > _LONGEST_PATH:
            content[column] = decode_base64(text)
            if not content[column]:
                raise LayoutError(column, "is base64 that cannot be read", "download the file again")


def _resolve(content: dict[str, Any], record: Record, seen: dict[str, ImageSource]) -> dict[str, ImageSource]:
    """Puts the picture itself where a TSV row gives the `index` of a row before instead, as some tools write them."""
    if record.file.suffix.lower() != ".tsv" or "image" not in content:
        return {}
    written = content["image"]
    if not (isinstance(written, str) and written.isdecimal()):
        seen[str(content.get("index"))] = record.picture("image")
        return {}
    place = seen.get(written)
    if not isinstance(place, EmbeddedImage):
        raise LayoutError("image", f"is that of row {written}, which is not before this one")
    content["image"] = place.encoded()
    return {"image": place}


def _picture(benchmark: Benchmark, content: Mapping[str, Any], column: str, images: Path) -> Any:
    """What a row holds for a picture: bytes, or a path under `images`."""
    value = content.get(column)
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, str):
        return value
    for folder in benchmark.image_folders:
        path = Path(folder.format(dataset=content.get("dataset"))) / value
        if (images / path).is_file():
            return path.as_posix()
    return value
