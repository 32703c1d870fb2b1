r"""What a reply marks as its final answer: in `\boxed{}`, in `<answer>`, or under the key "answer"."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from foveate.protocols.notation import Entry, entries_of
from foveate.protocols.tree import Group, Text, plain, spoken, tree_of

_BOXED = re.compile(
    r"\\{0,2}(?:[b\x08]oxed|fbox)\s{0,3}(?:\{|(?<=d)\s([A-Za-z0-9])(?![A-Za-z0-9]))"
)  # "\b" may be \x08
_BOXED_LONGEST = 1000
_WRAPPED = re.compile(r"\\(?:text\w*|math\w*|mbox|bf|rm)\s?\{([^{}]*)\}")
_TAG = re.compile(r"<(?:(final_)?answer|\|begin_of_box\|)>", re.IGNORECASE)
_TAG_END = re.compile(r"</(?:final_)?answer>|<\|end_of_box\|>", re.IGNORECASE)
_RIGHT_KEYS = ("correct", "iscorrect", "right", "isright")
"""Beside an answer: false says that it is another's."""
_ANSWER_KEYS = ("answer", "finalanswer", "correctanswer")


class Marked(NamedTuple):
    """A marked answer: what it says, and where in the reply its mark begins and ends."""

    said: str
    start: int
    end: int


def final_answer(text: str) -> str | None:
    r"""What stands in the last `\boxed{}` of a text, or else in its last `<answer>`; None without either."""
    marked = marked_answers(text)
    return marked[-1].said if marked else None


def marked_answers(text: str) -> list[Marked]:
    r"""What stands in every `\boxed{}` that is closed and not empty, or else in every `<answer>`, in order."""
    return list(_boxed(text)) or list(_tagged(text))


def _boxed(text: str) -> Iterator[Marked]:
    """Braces within a box are allowed."""
    done = 0
    for match in _BOXED.finditer(text):
        if match.start() < done:
            continue
        if match[1]:
            yield Marked(match[1], match.start(), match.end())
            continue
        depth = 1
        for brace in re.finditer(r"[{}]", text[match.end() : match.end() + _BOXED_LONGEST]):
            depth += 1 if brace.group() == "{" else -1
            if depth == 0:
                done = match.end() + brace.end()
                inside = without_wraps(text[match.end() : done - 1]).strip(" $")
                if inner := list(_boxed(inside)):
                    inside = inner[-1].said
                if inside:
                    yield Marked(inside, match.start(), done)
                break


def _tagged(text: str) -> Iterator[Marked]:
    r"""A tag ends at its end, at the next one, or with the text."""
    starts = list(_TAG.finditer(text))
    limits = [start.start() for start in starts[1:]] + [len(text)]
    for start, limit in zip(starts, limits, strict=False):
        end = _TAG_END.search(text, start.end(), limit)
        if said := text[start.end() : end.start() if end else limit].strip():
            yield Marked(said, start.start(), end.end() if end else limit)


def without_wraps(text: str) -> str:
    r"""The text without `\text{...}` and the like, two deep."""
    return _WRAPPED.sub(r"\1", _WRAPPED.sub(r"\1", text))


def keyed_answer(text: str) -> str | None:
    """What objects give under the key "answer"; empty where two of them differ, None where there is none."""
    if "answer" not in text.lower():
        return None
    said = set(_under_key(tree_of(plain(spoken(text)))))
    return (said.pop() if len(said) == 1 else "") if said else None


def _under_key(group: Group) -> Iterator[str]:
    entries = entries_of(group) if group.kind == "{" else []
    if any(entry.key in _RIGHT_KEYS and _value(entry, closed=True) == "false" for entry in entries):
        yield ""
        return
    for entry in entries:
        if entry.key in _ANSWER_KEYS and (value := _value(entry, closed=group.closed)) is not None:
            yield value
    for item in group.items:
        if isinstance(item, Group):
            yield from _under_key(item)


def _value(entry: Entry, *, closed: bool) -> str | None:
    """Its words or its number; empty where it lists several, None for anything else and for what may be cut off."""
    items = [item for item in entry.items if not (isinstance(item, str) and item in ",\n")]
    if len(items) == 1 and isinstance(items[0], Group) and items[0].kind == "[":
        items = [item for item in items[0].items if not (isinstance(item, str) and item in ",\n")]
        if len(items) != 1:
            return "" if items else None
    words = []
    for item in items:
        if isinstance(item, Text) and (item.quoted or (closed and item.name not in ("null", "none"))):
            words.append(item.text)
        elif isinstance(item, float) and closed and math.isfinite(item):
            words.append(str(int(item) if item.is_integer() else item))
        else:
            return None
    return " ".join(" ".join(words).split()) or None
