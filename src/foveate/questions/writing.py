"""Questions as an ordinary data set on disk, which `load_questions` reads back."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from foveate.images import ImageSource, open_image
from foveate.questions.schema import Question, row_of


def write_questions(questions: Iterable[Question], directory: str | os.PathLike[str]) -> Path:
    """Writes `questions.jsonl`, in order, with the pictures in `images/` beside it.

    A reader takes pictures from within the data folder only, and follows links that lie there: so a picture that is a
    file is linked to, relatively, and not copied (it is where links cannot be made). Other pictures (bytes, scenes,
    those inside data files) are written as PNG. An interrupted call leaves the `questions.jsonl` of before.

    Returns:
        The written `questions.jsonl`.

    Raises:
        ImageError: a picture that has to be written cannot be opened.
    """
    folder = Path(directory)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path, unfinished = folder / "questions.jsonl", folder / "questions.jsonl.tmp"
    linked: dict[Path, str] = {}
    with unfinished.open("w", encoding="utf-8") as lines:
        for question in questions:
            pictures = []
            for number, source in enumerate((question.image, *question.others), start=1):
                if callable(source) or isinstance(source, bytes):
                    further = None if number == 1 else f"{question.id}\0{number}"
                    pictures.append(f"images/{_name(question.id, further)}.png")
                    _write_png(source, folder / pictures[-1])
                else:
                    file = Path(os.path.abspath(source))
                    pictures.append(linked.setdefault(file, f"images/{_name(file.stem, str(file))}{file.suffix}"))
                    _link(file, folder / pictures[-1])
            lines.write(json.dumps(row_of(question, pictures[0], pictures[1:]), ensure_ascii=False) + "\n")
    unfinished.replace(path)
    return path


def _name(readable: str, whole: str | None = None) -> str:
    """A file name that any system takes, different for different texts."""
    digest = blake2b((whole or readable).encode(), digest_size=6).hexdigest()
    return f"{re.sub('[^A-Za-z0-9]+', '-', readable)[:40].strip('-')}-{digest}".lstrip("-")


def _write_png(source: ImageSource, target: Path) -> None:
    unfinished = target.with_name(target.name + ".tmp")
    open_image(source).save(unfinished, "PNG", compress_level=1)
    unfinished.replace(target)


def _link(file: Path, target: Path) -> None:
    unfinished = target.with_name(target.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    source = os.path.realpath(file)
    try:
        unfinished.symlink_to(os.path.relpath(source, os.path.realpath(target.parent)))
    except (OSError, ValueError):  # no right to make links (Windows), none on this file system, or another drive
        shutil.copyfile(source, unfinished)
    unfinished.replace(target)
