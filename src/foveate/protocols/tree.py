"""A reply as a tree of brackets: JSON, Python, tags, LaTeX and prose all come out as the same tree.

What is broken in one place does not hide what is whole in another. One pass, in time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_FULL_WIDTH = "（），、；：［］【】｛｝−–—→“”"  # noqa: RUF001
_PLAIN = str.maketrans(_FULL_WIDTH, '(),,;:[][]{}----""')
_NUMBER = re.compile(
    r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?(?:px)?|[-+]?(?:nan|inf|infinity)", re.IGNORECASE
)
_OUTSIDE = r"""
    (?P<tag>    </?\|?[a-zA-Z][^<>\n]{0,60}> )
  | (?P<open>   [\[({] )
  | (?P<close>  [\])}] )
  | (?P<chunk>  [\w.+\-%/$@]+ )
  | (?P<mark>   [,;:=|\n] )
  | (?P<skipped> \s | \\(?:[a-zA-Z]+|["'])? | [*`"'>] )
  | (?P<other>  . )
"""
# Quotes make a string only inside brackets; in prose they may be inches and apostrophes. A single quote inside a word
# ends nothing, and is looked for within 300 characters: without a bound the search would be quadratic.
_STRINGS = r"""
    (?P<double> "(?:[^"\\\n]|\\.)*+" )
  | (?P<single> (?<!\w)'(?:[^'\\\n]|\\.|'(?=\w)){0,300}+'(?!\w) )
  |
"""
_TOKEN_OUTSIDE = re.compile(_OUTSIDE, re.VERBOSE)
_TOKEN_INSIDE = re.compile(_STRINGS + _OUTSIDE, re.VERBOSE)
_DEEPEST = 64
_BOX_TAGS = frozenset("box bbox bbox_2d box_2d bounding_box region boxes".split())


@dataclass(slots=True)
class Group:
    """What stands between two brackets, or in a box tag; the whole text is one without brackets (kind "")."""

    kind: str
    items: list[Item] = field(default_factory=list)
    closed: bool = False

    def numbers(self) -> tuple[float, ...] | None:
        """Its numbers when it holds nothing else, or None."""
        numbers = []
        for item in self.items:
            value = value_of(item)
            if value is not None:
                numbers.append(value)
            elif not (isinstance(item, str) and item in ",;|\n"):
                return None
        return tuple(numbers) or None


@dataclass(slots=True)
class Text:
    """A word, or the inside of a quoted string."""

    text: str
    quoted: bool = False

    @property
    def name(self) -> str:
        """As a key: lower case, letters and digits only."""
        return re.sub(r"[\W_]", "", self.text[:40].lower())


Item = Group | Text | str | float
"""A group, a text, a mark (one character; "?" for any that matters nowhere), or a number."""


def plain(text: str) -> str:
    """Full-width brackets, typographic dashes and quotes as their plain selves."""
    return text.translate(_PLAIN)


_THOUGHT_OVER = re.compile(r"</(?:think|thinking|thought|reasoning)>|◁/think▷", re.IGNORECASE)
_THOUGHT = re.compile(r"<(?:think|thinking|thought|reasoning)>|◁think▷", re.IGNORECASE)


def after_thoughts(text: str) -> str:
    """What follows the last thought that is over; thoughts are no part of a reply."""
    return _THOUGHT_OVER.split(text)[-1]


def spoken(text: str) -> str:
    """A reply without its thoughts, the one that it was cut off in included."""
    text = after_thoughts(text)
    return text[: begun.start()] if (begun := _THOUGHT.search(text)) else text


def number_in(text: str) -> float | None:
    """The number that a text is, NaN and infinity included, `px` after it allowed; or None."""
    return float(text.lower().removesuffix("px")) if _NUMBER.fullmatch(text) else None


def value_of(item: object) -> float | None:
    """The number that an item is, or quotes."""
    if isinstance(item, float):
        return item
    return number_in(item.text.strip()) if isinstance(item, Text) and item.quoted else None


def tree_of(text: str) -> Group:
    """The text as a tree of brackets. Any text has one: brackets that are never closed end with it, and are marked."""
    root = Group("", closed=True)
    stack = [root]
    position = 0
    while position < len(text):
        token = (_TOKEN_INSIDE if len(stack) > 1 else _TOKEN_OUTSIDE).match(text, position)
        assert token is not None  # "other" takes whatever the rest leaves
        kind, written, position = token.lastgroup, token.group(), token.end()
        items = stack[-1].items
        if kind in ("double", "single"):
            items.append(Text(written[1:-1], quoted=True))
        elif kind == "chunk" and written.strip("$"):  # a dollar alone is LaTeX's
            items.append(_chunk(written))
        elif kind == "open" and len(stack) < _DEEPEST:
            stack.append(Group(written))
            items.append(stack[-1])
        elif kind == "close":
            if stack[-1].kind in ("[", "(", "{"):  # "[0, 1)" is closed too
                stack.pop().closed = True
        elif kind == "tag":
            _tag(written, stack)
        elif kind == "mark":
            items.append(written)
        elif kind == "other":
            items.append("?")
    return root


def _chunk(written: str) -> Text | str | float:
    number = number_in(written)
    if number is None and written.endswith("."):  # the end of a sentence
        number = number_in(written.rstrip("."))
    if number is not None:
        return number
    if not any(c.isalnum() for c in written):
        return "-" if "-" in written else "?"
    return Text(written)


def _tag(written: str, stack: list[Group]) -> None:
    name = written.strip("<>/|").lower()
    closing = written.startswith("</") or name.endswith("_end")
    name = name.removesuffix("_start").removesuffix("_end")
    if name not in _BOX_TAGS:
        stack[-1].items += ["\n"] if closing else ["\n", Text(name)]
    elif not closing and len(stack) < _DEEPEST:
        stack.append(Group("<"))
        stack[-2].items.append(stack[-1])
    elif any(group.kind == "<" for group in stack):
        while stack[-1].kind != "<":
            stack.pop()
        stack.pop().closed = True
