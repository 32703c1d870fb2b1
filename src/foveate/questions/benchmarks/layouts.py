"""From a row as a benchmark publishes it to a row with our own keys: one function a benchmark."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeGuard

from foveate.questions.benchmarks.tables import Record
from foveate.questions.pictures import embedded_bytes
from foveate.questions.problems import Problem
from foveate.questions.schema import choice_letters

Row = Mapping[str, Any]
"""Values by column; None (and NaN) where there is none."""
Translate = Callable[[Row, Record], dict[str, Any]]
"""The keys of a `QuestionRow`, without `image` and `other_images`: `pictures` names the columns that hold them."""
BoxFormat = Literal["xyxy", "xywh"]

_OPTION = re.compile(r"\s*\(([A-Z])\)[ \t]*(.*)", re.DOTALL)
_OPTION_LINE = re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*(.*)$", re.MULTILINE)
_INSTRUCTION = re.compile(r"\n\s*(?:please\s+)?answer\b[^\n]*\s*\Z", re.IGNORECASE)


_OTHER_FILE = "is it another benchmark's file? `foveate data benchmarks` lists the names"


class LayoutError(Exception):
    """A row that is not in the published layout."""

    def __init__(self, field: str, what: str, mend: str = "download the file again, or mend the row") -> None:
        super().__init__(what)
        self.problem = Problem(field, what, mend)


def vstar(row: Row, record: Record) -> dict[str, Any]:
    """V* Bench: the hub's rows (`text` with its options in it), or a file of the original folders."""
    if "options" in row:
        return _vstar_original(row)
    text = str(row.get("text") or "")
    marks = list(_OPTION_LINE.finditer(text))
    if not marks:
        raise LayoutError("text", 'has no lines "(A) ..." with options')
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    parts = [_INSTRUCTION.sub("", text[mark.start(2) : end]).strip() for mark, end in zip(marks, ends, strict=True)]
    return {
        "id": row.get("question_id"),
        "question": text[: marks[0].start()].strip(),
        "choices": _by_letter("text", [(mark[1], part) for mark, part in zip(marks, parts, strict=True)]),
        "answer": row.get("label"),
        "category": row.get("category"),
        "pictures": ["image"],
    }


def _vstar_original(row: Row) -> dict[str, Any]:
    """The right option comes first there: the options are put in an order that the question's id decides."""
    options = row["options"]
    if not isinstance(options, list) or len(options) < 2:
        raise LayoutError("options", "is not a list of options, the right one first")

    def place(number: int) -> bytes:
        return hashlib.sha256(f"{row['id']}\0{number}".encode()).digest()

    order = sorted(range(len(options)), key=place)
    letters = choice_letters(len(options))
    boxes = row.get("bbox") or []
    return {
        "id": row["id"],
        "question": row.get("question"),
        "choices": {letter: str(options[number]) for letter, number in zip(letters, order, strict=True)},
        "answer": letters[order.index(0)],
        "category": row["category"],
        "regions": [corners_of(box) for box in boxes] or None,
        "pictures": ["image"],
    }


def vstar_folders(root: Path) -> Iterator[Record]:
    """The original layout of V*: a folder a category, in it pictures with a .json of the same name each."""
    number = 0
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        pictures = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() not in (".json", "")}
        for file in sorted(folder.glob("*.json")):
            number += 1
            name = f"{folder.name}/{file.stem}"
            picture = pictures.get(file.stem, folder / f"{file.stem}.jpg")
            yield Record(file, number, _vstar_file(file, name, folder, picture, root), lambda column: b"")


def _vstar_file(file: Path, name: str, folder: Path, picture: Path, root: Path) -> Row | Problem:
    try:
        row = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        return Problem(None, f"is not JSON ({error})", "download it again")
    if not isinstance(row, dict):
        return Problem(None, "is no JSON object", "download it again")
    image = picture.relative_to(root).as_posix()
    return {"options": None, **row, "id": name, "category": folder.name, "image": image}


def hr_bench(row: Row, record: Record) -> dict[str, Any]:
    """HR-Bench: each question in four rotations of its options (`cycle`); what they share is the tag `base`."""
    cycle = _text(row.get("cycle_category"))
    if cycle not in ("0", "1", "2", "3"):
        raise LayoutError("cycle_category", f"is {cycle or 'missing'}, not a rotation from 0 to 3", _OTHER_FILE)
    choices = _columns(row, "ABCD")
    shared = [str(row.get("question")).strip(), *sorted(text.strip() for text in choices.values())]
    picture = embedded_bytes(row.get("image")) or str(row.get("image")).encode()
    base = hashlib.sha256("\0".join(shared).encode() + b"\0" + picture)
    return {
        "id": row.get("index"),
        "question": row.get("question"),
        "choices": choices,
        "answer": _letter(row.get("answer")),
        "category": row.get("category"),
        "tags": {"cycle": cycle, "base": base.hexdigest()[:16]},
        "pictures": ["image"],
    }


def mme_realworld(row: Row, record: Record) -> dict[str, Any]:
    """MME-RealWorld and its Lite subset: the hub's rows, or the original JSON; five options, of which (E) is none.

    `category` is `task/subtask`, for example `Perception/OCR with Complex Context`.
    """
    if "Question_id" in row:
        task, subtask, level_2 = (_text(row.get(key)) for key in ("Task", "Subtask", "Category"))
        names = ("Question_id", "Text", "Answer choices", "Ground truth")
        picture = "Image"
    else:
        task, _, subtask = str(row.get("category") or "").partition("/")
        level_2 = _text(row.get("l2-category"))
        names = ("index", "question", "multi-choice options", "answer")
        picture = "bytes" if not _absent(row.get("bytes")) else "image"
    name, question, options, answer = names
    written = _listed(options, row.get(options))
    marked = [_OPTION.fullmatch(str(option)) for option in written]
    if not marked or None in marked:
        raise LayoutError(options, 'are not all written "(A) ..."')
    return {
        "id": row.get(name),
        "question": row.get(question),
        "choices": _by_letter(options, [(mark[1], mark[2].strip()) for mark in marked if mark]),
        "answer": _letter(row.get(answer)),
        "category": f"{task}/{subtask}" if subtask else task,
        "tags": {"task": task, "subtask": subtask, "l2_category": level_2},
        "pictures": [picture],
    }


def treebench(row: Row, record: Record) -> dict[str, Any]:
    """TreeBench: up to six options, and `target_instances`, the text of a list of [x1, y1, x2, y2]."""
    if "target_instances" not in row:
        raise LayoutError("target_instances", "is no column of the file", _OTHER_FILE)
    targets = row["target_instances"]
    boxes = [] if _absent(targets) else _listed("target_instances", targets)
    return {
        "id": row.get("index"),
        "question": row.get("question"),
        "choices": _columns(row, "ABCDEF"),
        "answer": _letter(row.get("answer")),
        "category": row.get("category"),
        "regions": boxes or None,
        "pictures": ["image"],
    }


def mmstar(row: Row, record: Record) -> dict[str, Any]:
    """MMStar: the options stand in the question, behind "Options:".

    Where they cannot be told apart the question stays whole, and the choices are bare letters.
    """
    question = str(row.get("question") or "")
    asked, choices = inline_options(question)
    answer = _letter(row.get("answer"))
    if answer not in choices:
        asked, choices = question, {letter: letter for letter in "ABCD"}
    return {
        "id": row.get("index"),
        "question": asked,
        "choices": choices,
        "answer": answer,
        "category": row.get("category"),
        "tags": {"l2_category": _text(row.get("l2_category"))},
        "pictures": ["image"],
    }


def inline_options(text: str) -> tuple[str, dict[str, str]]:
    """A question and its options from a text that ends in `Options: A: ..., B: ..., C: ...`.

    Returns:
        The text as it is, and no options, where there are not at least two in the order of the alphabet.
    """
    question, mark, rest = text.rpartition("Options:")
    starts: list[tuple[int, int]] = []
    for letter in "ABCDEFGH":
        before = r"\s*" if not starts else r"(?:[,;]\s*|\s*\n\s*)"
        found = re.compile(rf"{before}\(?{letter}\s*[:.)]\s*").search(rest, starts[-1][1] if starts else 0)
        if not found or (not starts and found.start()):
            break
        starts.append(found.span())
    if not mark or len(starts) < 2:
        return text, {}
    ends = [start for start, _ in starts[1:]] + [len(rest)]
    options = [rest[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True)]
    return question.strip(), dict(zip(choice_letters(len(options)), options, strict=True))


def blink(row: Row, record: Record) -> dict[str, Any]:
    """BLINK: one to four pictures; the category is the configuration (`sub_task`, or the folder's name)."""
    config = row.get("sub_task") or record.file.parent.name
    options = _listed("choices", row.get("choices"))
    return {
        "id": row.get("idx") or f"{config}/{record.number}",
        "question": row.get("question"),
        "choices": dict(zip(choice_letters(len(options)), map(str, options), strict=True)),
        "answer": _letter(row.get("answer")),
        "category": config,
        "tags": {"config": config},
        "pictures": [
            name for name in (f"image_{n}" for n in range(1, 5)) if name == "image_1" or not _absent(row.get(name))
        ],
    }


def pope(row: Row, record: Record) -> dict[str, Any]:
    """POPE: open questions that are answered by yes or no; ids count anew in each of the three categories."""
    answer = str(row.get("answer") or "").strip().lower()
    if answer not in ("yes", "no"):
        raise LayoutError("answer", f"{row.get('answer')!r} is neither yes nor no")
    number = row.get("question_id") if not _absent(row.get("question_id")) else row.get("id")
    return {
        "id": f"{row.get('category')}/{number}",
        "question": row.get("question"),
        "answer": answer,
        "category": row.get("category"),
        "pictures": ["image"],
    }


def visual_cot(row: Row, record: Record) -> dict[str, Any]:
    """Visual CoT: open questions, with the boxes of what has to be seen; the category is the source (`dataset`)."""
    source = row.get("dataset") or record.file.stem
    number = row.get("question_id")
    boxes = row.get("bboxs")
    return {
        "id": f"{source}/{record.file.stem}-{record.number}" if _absent(number) else f"{source}/{number}",
        "question": row.get("question"),
        "answer": row.get("answer"),
        "category": source,
        "regions": boxes or None,
        "tags": {"split": _text(row.get("split"))},
        "pictures": ["image"],
    }


def box_format(rows: Iterable[Row]) -> BoxFormat:
    """Whether the boxes of a Visual CoT file are corners, or corner and size, told by all of its rows together.

    Corners, as the data set says, unless there is a box that cannot be (not inside `width` x `height`, or without an
    area) and every box could be [x, y, width, height]. It is never told by one row alone: most of one kind could be of
    the other.
    """
    corners = sizes = True
    for row in rows:
        width, height, boxes = row.get("width"), row.get("height"), row.get("bboxs")
        if not (_number(width) and _number(height) and isinstance(boxes, list)):
            continue
        for x, y, a, b in filter(_four_numbers, boxes):
            corners &= 0 <= x < a <= width + 1 and 0 <= y < b <= height + 1
            sizes &= min(x, y) >= 0 < min(a, b) and x + a <= width + 1 and y + b <= height + 1
    return "xywh" if sizes and not corners else "xyxy"


def corners_of(box: Any) -> Any:
    """[x, y, width, height] as [x1, y1, x2, y2]; what is no such box stays as it is, for the schema to refuse."""
    if _four_numbers(box):
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    return box


def _four_numbers(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_number, box))


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _absent(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _text(value: object) -> str | None:
    """A grouping as text: 0, 0.0 (a column with gaps) and "0" are the same."""
    if _absent(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _columns(row: Row, letters: str) -> dict[str, str]:
    """The options of the columns A, B, ...; those without a value are not options of this question."""
    return {letter: str(row[letter]) for letter in letters if not _absent(row.get(letter))}


def _letter(answer: object) -> object:
    """`(A)` and `A.` are A."""
    return answer.strip().strip("().:").strip() if isinstance(answer, str) else answer


def _by_letter(field: str, options: list[tuple[str, str]]) -> dict[str, str]:
    choices = dict(options)
    if len(choices) < len(options):
        raise LayoutError(field, "name a letter twice")
    return choices


def _listed(field: str, value: object) -> list[Any]:
    """A list, or the text of one as JSON or Python writes it."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise LayoutError(field, "is no text of a list") from None
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, list):
        raise LayoutError(field, "is missing" if _absent(value) else "is not a list")
    return value
