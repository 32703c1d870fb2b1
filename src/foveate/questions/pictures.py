"""Where the picture of a row is: a file in the data folder, or bytes in the row, read again when they are needed."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from PIL import Image

from foveate.images import ImageError, open_image
from foveate.questions.problems import Problem

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{256,}={0,2}\s*\Z")
_PLAIN = bytes.maketrans(b"-_", b"+/")
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


def image_source(value: str | bytes | Mapping[str, Any], folder: Path) -> Path | bytes | Problem:
    """Where a row's picture is: a file inside `folder`, or the bytes it carries.

    Symbolic links that lie in the folder are followed; a path that leads out of it is refused.
    """
    if isinstance(value, Mapping):  # the Image feature of Hugging Face's datasets
        value = value.get("bytes") or value.get("path") or b""
    if isinstance(value, bytes):
        return value or Problem("image", "holds neither bytes nor a path", "write the picture's bytes, or its path")
    if (embedded := decode_base64(value)) is not None:
        return embedded
    return _image_path(value, folder)


def decode_base64(text: str) -> bytes | None:
    """The bytes of a picture written as base64 (plain or urlsafe, with or without a `data:` prefix), or None."""
    prefix = _DATA_URL.match(text)
    if prefix:
        text = text[prefix.end() :]
    elif not _BASE64.match(text):
        return None
    try:
        return base64.b64decode(text.strip().encode().translate(_PLAIN) + b"==")
    except (binascii.Error, ValueError):
        return b"" if prefix else None


def _image_path(written: str, folder: Path) -> Path | Problem:
    mend = f"write the picture's path, relative to {folder}"
    quoted = repr(written if len(written) <= 200 else written[:200] + "...")
    if not written.strip() or "\0" in written:
        return Problem("image", f"{quoted} is not a path", mend)
    if re.match(r"[a-z][a-z0-9+.-]+://", written, re.IGNORECASE):
        return Problem("image", f"{quoted} is an address", "download it, and write the file's path")
    if PureWindowsPath(written).drive:
        return Problem("image", f"{quoted} is a Windows path", mend)
    # Cut to its end in words, not by following links: a data folder may link to pictures kept elsewhere.
    inside = os.path.relpath(os.path.join(os.path.abspath(folder), written), os.path.abspath(folder))
    if inside.split(os.sep)[0] == os.pardir:
        return Problem("image", f"{quoted} is not in the folder {folder}", "put it there, or name the folder it is in")
    path = folder / inside
    try:
        if path.is_file():
            return path
        what = "is a folder" if path.is_dir() else "does not exist"
    except OSError as error:
        what = f"cannot be opened ({error.strerror})"
    if "\\" in written and (folder / written.replace("\\", "/")).is_file():
        return Problem("image", f"{quoted} {what}", f"write {written.replace(chr(92), '/')!r}")
    return Problem("image", f"{quoted} {what}", f"put it in {path.parent}, or {mend}")


class EmbeddedImage(ABC):
    """A picture inside a data file: holds its place, and reads it again whenever it is needed."""

    __slots__ = ()

    def __call__(self) -> Image.Image:
        """Reads the picture from its file and decodes it.

        Raises:
            ImageError: it cannot be decoded, or the file has changed.
        """
        content = self.encoded()
        try:
            return open_image(content)
        except ImageError as error:
            raise ImageError(f"{self.place}: {error}") from None

    def encoded(self) -> bytes:
        """Its bytes as they were embedded (PNG, JPEG, ...), not decoded.

        Raises:
            ImageError: there is none at its place: the file has changed.
        """
        if (content := embedded_bytes(self.written())) is None:
            raise ImageError(f"{self.place}: no picture there now: the file was changed after its questions were read")
        return content

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, in words."""

    @abstractmethod
    def written(self) -> Any:
        """What stands at its place now, as it is written there; None where the file has no such place."""


@dataclass(frozen=True, slots=True)
class LineImage(EmbeddedImage):
    """A picture written as base64 into a file of lines.

    Attributes:
        line: where its row begins, from 1.
        offset: the same, in bytes.
    """

    file: Path
    line: int
    offset: int

    @property
    def place(self) -> str:
        """The file and the line."""
        return f"{self.file}, line {self.line}"

    @contextmanager
    def row(self) -> Iterator[BinaryIO]:
        """The file, from where the row begins."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            yield stream


@dataclass(frozen=True, slots=True)
class JsonlImage(LineImage):
    """A picture in a line of a JSONL file."""

    key: str = "image"

    def written(self) -> Any:
        """The value of its key."""
        with self.row() as stream:
            line = stream.readline()
        try:
            return json.loads(line)[self.key]
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class ParquetImage(EmbeddedImage):
    """A picture in a row of a Parquet file."""

    file: Path
    row: int
    group: int
    index: int
    column: str = "image"

    @property
    def place(self) -> str:
        """The file and the row."""
        return f"{self.file}, row {self.row}"

    def written(self) -> Any:
        """The value of its column, from the row group's (kept until another group is asked for)."""
        images = _parquet_images(self.file, self.file.stat().st_mtime_ns, self.group, self.column)
        return images[self.index].as_py() if self.index < len(images) else None


@lru_cache(maxsize=1)
def _parquet_images(file: Path, changed: int, group: int, column: str) -> Any:
    with open_parquet(file) as table:
        return table.read_row_group(group, columns=[column]).column(column)


def open_parquet(file: Path) -> Any:
    """A Parquet file of pictures: read page by page, without holding a row group twice (a third less memory).

    Raises:
        ImportError: pyarrow is not installed.
        pyarrow.ArrowException, OSError: it cannot be read.
    """
    return import_pyarrow().parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20)


def import_pyarrow() -> Any:
    """The pyarrow package, with its parquet part.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install 'foveate[parquet]'") from error
    return pyarrow


def embedded_bytes(value: Any) -> bytes | None:
    """A picture's bytes from what a row holds for it: bytes, base64, or `{"bytes": ...}`; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    content = decode_base64(value) if isinstance(value, str) else value
    return content if isinstance(content, bytes) else None
