r"""A reply that holds both coordinates and an answer: what of it may be read as the answer.

Coordinates are never the answer, nor is the label of a box or a point. What a reply says in `\boxed{}` or `<answer>`
is the answer, wherever it stands, or else what an object has under the key "answer"; otherwise the answer is read from
what is left when the coordinates are taken out.
"""

from __future__ import annotations

import re

from foveate.protocols.final import final_answer, keyed_answer
from foveate.protocols.notation import written_boxes
from foveate.protocols.tree import after_thoughts, spoken

_SPANS = (r"\{[^{}]*\}", r"\[[^\[\]]*\]", r"\([^()]*\)")
"""Innermost brackets; objects first, since the list of a box stands in one, beside its label."""
_CUT_OFF = re.compile(r"[\[{(][^\[\]{}()]*\Z")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_TAG_OR_FENCE = re.compile(r"<[/|]{0,2}[a-zA-Z][^<>\n]{0,60}>|```\w*")


def divided(text: str, box_style: str) -> tuple[str, str]:
    """The part of a reply that boxes are read from, and the part that the answer is read from; either may be empty.

    In the short style a reply is `x1 y1 x2 y2 answer`: up to four leading numbers are the box, unless the reply is a
    single number.
    """
    if box_style != "short":
        return text, beside_coordinates(text)
    words = text.split()
    leading = next((i for i, word in enumerate(words) if not _NUMBER.fullmatch(word)), len(words))
    corners = min(leading, 4) if leading > 1 else 0
    return " ".join(words[:corners]), " ".join(words[corners:])


def beside_coordinates(text: str) -> str:
    """The part of a reply that the answer is read from, boxes and points taken out; it may be empty."""
    if (final := said_explicitly(text)) is not None:
        return final
    text = spoken(text)
    for span in _SPANS:
        text = re.sub(span, _unless_coordinates, text)
    for _ in range(3):  # a list of objects with lists
        text = _CUT_OFF.sub(lambda cut: "\n" if _NUMBER.search(cut[0]) else cut[0], text)
    lines = _TAG_OR_FENCE.sub("\n", text).split("\n")
    said = "\n".join(line for line in lines if any(c.isalnum() for c in line) and not _coordinates(line))
    return "" if written_boxes(said) else said  # over several lines


def said_explicitly(text: str) -> str | None:
    r"""The part of a reply with what it marks as its answer; None without such, empty where that holds coordinates.

    Marked is what stands in `\boxed{}` or `<answer>`, or else what an object has under the key "answer".
    """
    text = after_thoughts(text)
    if (final := final_answer(text)) is not None:
        return "" if written_boxes(final) else text
    if (keyed := keyed_answer(text)) is not None:
        return f"Answer: {keyed}" if keyed and not written_boxes(keyed) else ""
    return None


def _unless_coordinates(span: re.Match[str]) -> str:
    return "\n" if len(_NUMBER.findall(span[0])) > 1 else span[0]


def _coordinates(line: str) -> bool:
    """Whether a line holds a box, or is several numbers and nothing else: the beginning of one."""
    rest, count = _NUMBER.subn("", line)
    return count > 1 and (not any(c.isalnum() for c in rest) or bool(written_boxes(line)))
