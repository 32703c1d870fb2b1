"""Finding the boxes or the points in a reply, in whatever notation a model wrote them. Time linear in the text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from foveate.protocols.tree import Group, Item, Text, number_in, plain, spoken, tree_of, value_of

Corners = tuple[float, ...]
"""What was written as a box: x1, y1, x2, y2, or something else that is not a box (the wrong count, NaN)."""


class Explicit(IntEnum):
    """How clearly something is marked as a box. Four bare numbers on a line count only where nothing else does."""

    BRACKETED = 1
    """Four numbers in brackets, or two points side by side."""
    NAMED = 2
    """Under a key or in a tag that says box, or with the corners named."""


def written_boxes(text: str) -> list[Corners]:
    """Every tuple of coordinates that the text gives as a box, in order, in its clearest notation only."""
    text = plain(spoken(text))
    reader = _Reader()
    reader.read(tree_of(text))
    if not reader.found:
        return list(_bare_lines(text))
    clearest = max(explicit for explicit, _ in reader.found)
    return [corners for explicit, corners in reader.found if explicit is clearest]


def written_points(text: str) -> list[Corners]:
    """Every tuple of coordinates that the text gives as a point, in order; not all have two coordinates.

    That is numbers alone in square brackets, two of them in round ones, and objects with `x` and `y`.
    """
    found: list[Corners] = []
    groups = [tree_of(plain(spoken(text)))]
    while groups:
        group = groups.pop()
        numbers = group.numbers()
        if numbers is not None and group.kind in ("[", "("):
            if not group.closed:
                found.append(numbers[:1])  # cut off: its last number may be half a number
            elif group.kind == "[" or len(numbers) == 2:
                found.append(numbers)
        elif group.kind == "{" and (point := _named_point(group)) is not None:
            found.append(point)
        else:
            groups += reversed([item for item in group.items if isinstance(item, Group)])
    return found


_BOX_KEYS = frozenset(
    "bbox bbox2d bboxes bboxes2d box box2d boxes boundingbox boundingbox2d boundingboxes coordinate coordinates coords "
    "region regions roi xyxy bboxxyxy boxxyxy".split()
)
_SIZE_KEYS = frozenset("xywh bboxxywh boxxywh".split())
"""Keys of a corner and a size; under any other key, and under none, four numbers are two corners."""
_OTHER_KEYS = frozenset(
    "point points point2d points2d keypoint keypoints polygon segmentation center centre size imagesize resolution "
    "shape color colour rgb rgba cxcywh bboxcxcywh boxcxcywh prices years ages scores values counts histogram".split()
)
"""Keys of numbers that are no box."""
_CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
    ("minx", "miny", "maxx", "maxy"),
)
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))
_EDGES = frozenset(name for names in _CORNERS + _SIZES for name in names)
_BARE_EDGES = frozenset("x0 y0 x1 y1 x2 y2 xmin ymin xmax ymax".split())
"""Edges that may be followed by their number without a colon."""
_POINTS = {name: ("x1", "y1") for name in ("topleft", "lefttop", "upperleft", "start", "tl", "左上角")} | {
    name: ("x2", "y2") for name in ("bottomright", "rightbottom", "lowerright", "end", "br", "右下角")
}
_ARGUMENTS = frozenset("arguments parameters args".split())
_COLOURS = frozenset("rgba hsla cmyk".split())
"""Names before four numbers in brackets that are no box."""
_KEYS = _BOX_KEYS | _EDGES | _POINTS.keys()
_TO = frozenset("to through until 到 至".split())
_SECOND = frozenset("bottom right lower bottomright lowerright 右下角".split())
_BEFORE_SECOND = _TO | _SECOND | frozenset("and at is the corner with".split())


@dataclass(slots=True)
class Entry:
    """The items under one key (None: under no key)."""

    key: str | None
    items: list[Item] = field(default_factory=list)


def entries_of(group: Group) -> list[Entry]:
    """A group's items by key. In prose a line break ends what stands under a key, once there is something."""
    entries = [Entry(None)]
    items = group.items
    skip = 0
    for i, item in enumerate(items):
        if skip:
            skip -= 1
            continue
        current = entries[-1]
        if isinstance(item, Text):
            following = items[i + 1] if i + 1 < len(items) else None
            key = _key_before(items, i)
            marked = following == ":" or following == "="
            said = isinstance(following, Text) and following.name in ("is", "are") and key in _BOX_KEYS
            if marked or said or (key in _BARE_EDGES and value_of(following) is not None):
                entries.append(Entry(key))
                skip = int(marked or said)
                continue
        if item == "\n" and not group.kind and current.key is not None:
            if any(not isinstance(earlier, str) for earlier in current.items):
                entries.append(Entry(None))
            continue
        current.items.append(item)
    return entries


def _key_before(items: list[Item], i: int) -> str:
    """The key that ends at a word: that word, or the longest known name of up to three ("top left corner")."""
    names: list[str] = []
    for item in items[max(0, i - 2) : i + 1]:
        names = [*names, item.name] if isinstance(item, Text) and not item.quoted else []
    names = [name for name in names if name != "corner"]
    joined = ("".join(names[start:]) for start in range(len(names)))
    own = items[i]
    assert isinstance(own, Text)
    return next((name for name in joined if name in _KEYS), own.name)


class _Reader:
    """Collects the boxes of a tree, each with how explicit it is."""

    def __init__(self) -> None:
        self.found: list[tuple[Explicit, Corners]] = []

    def read(self, group: Group, *, boxed: bool = False, in_string: bool = False) -> None:
        """Adds the boxes of a group in order; `boxed` says that it stands where a box is expected."""
        numbers = group.numbers()
        if numbers is not None and (boxed or group.kind):
            if not group.closed:
                if boxed or group.kind == "[":
                    self._add(numbers[:3], boxed)  # cut off: its last number may be half a number
            elif len(numbers) == 4 or boxed or (group.kind == "[" and len(numbers) > 2):
                self._add(numbers, boxed)
            return
        edges: dict[str, float] = {}
        for entry in entries_of(group):
            if self._edge(edges, entry, group.kind):
                continue
            if group.kind and entry.key in _OTHER_KEYS:
                continue
            if entry.key in _SIZE_KEYS:
                self._sizes(entry.items)
                continue
            if entry.key in _ARGUMENTS and group.kind:
                self._arguments(entry.items, in_string)
            named = entry.key in _BOX_KEYS
            if named or (boxed and entry.key is None):
                leading = _leading_numbers(entry.items)
                if len(leading) == 4:
                    self._add(leading, boxed=True)
            self._values(entry.items, boxed or named, in_string)
        if group.kind == "{" and len(edges.keys() & _BARE_EDGES) == 3:
            self._add(tuple(edges.values()), boxed=True)

    def _sizes(self, items: list[Item]) -> None:
        """Corner and size in a list, under a key that says so."""
        for item in items:
            numbers = item.numbers() if isinstance(item, Group) and item.closed else None
            if numbers is not None and len(numbers) == 4:
                x, y, width, height = numbers
                self._add((x, y, x + width, y + height), boxed=True)
            elif isinstance(item, Group):
                self._add((), boxed=True)

    def _arguments(self, items: list[Item], in_string: bool) -> None:
        """The arguments of a call that are an object within a string."""
        for item in items:
            if isinstance(item, Text) and item.quoted and not in_string:
                self.read(tree_of(item.text.replace('\\"', '"')), in_string=True)

    def _add(self, corners: Corners, boxed: bool) -> None:
        self.found.append((Explicit.NAMED if boxed else Explicit.BRACKETED, corners))

    def _edge(self, edges: dict[str, float], entry: Entry, kind: str) -> bool:
        """Takes note of an edge or corner point that an entry names; a complete set is a box."""
        first = next((item for item in entry.items if item != "\n"), None)
        if entry.key in _EDGES:
            value = value_of(first)
            if value is None and kind == "{" and isinstance(first, Text):
                value = math.nan
            if value is None:
                return False
            edges[entry.key] = value
        elif entry.key in _POINTS:
            point = _point(first)
            if point is None:
                return False
            edges.update(zip(_POINTS[entry.key], point, strict=True))
        else:
            return False
        for names in _CORNERS + _SIZES:
            if all(name in edges for name in names):
                a, b, c, d = (edges[name] for name in names)
                self._add((a, b, a + c, b + d) if names in _SIZES else (a, b, c, d), boxed=True)
                edges.clear()
                break
        return True

    def _values(self, items: list[Item], boxed: bool, in_string: bool) -> None:
        """Groups and strings in order; points that stand side by side are read together."""
        points: list[Corners] = []
        semicolons: list[bool] = []
        gap: list[str] = []
        for item in items:
            if isinstance(item, Group):
                if gap and gap[-1] in _COLOURS:
                    continue
                point = item.numbers()
                if point is not None and len(point) == 2 and item.closed and item.kind in ("[", "("):
                    if points and not _joined(gap):
                        self._corner_points(points, semicolons, boxed)
                        points, semicolons = [], []
                    elif points:
                        semicolons.append(";" in gap)
                    points.append(point)
                    gap = []
                    continue
                self._corner_points(points, semicolons, boxed)
                points, semicolons = [], []
                self.read(item, boxed=boxed or item.kind == "<", in_string=in_string)
            elif isinstance(item, Text):
                gap.append("?" if item.quoted else item.name)
                if item.quoted and boxed and not in_string and any(c.isdigit() for c in item.text):
                    inner = tree_of(item.text)
                    inner.kind = '"'
                    self.read(inner, boxed=True, in_string=True)
            else:
                gap.append(item if isinstance(item, str) else "?")
        self._corner_points(points, semicolons, boxed)

    def _corner_points(self, points: list[Corners], semicolons: list[bool], boxed: bool) -> None:
        """Two points are opposite corners; more are pairs divided by semicolons, or a polygon, which is no box."""
        if len(points) < 2:
            for point in points if boxed else ():
                self._add(point, boxed)
            return
        pairs = [points[:1]]
        for point, divided in zip(points[1:], semicolons, strict=True):
            if divided and len(points) > 2:
                pairs.append([])
            pairs[-1].append(point)
        if all(len(pair) == 2 for pair in pairs):
            for pair in pairs:
                self._add((*pair[0], *pair[1]), boxed)
        else:
            self._add(tuple(number for point in points for number in point), boxed)


def _leading_numbers(items: list[Item]) -> Corners:
    numbers: list[float] = []
    for item in items:
        if (value := value_of(item)) is not None:
            numbers.append(value)
        elif item not in (",", "|", "\n"):
            break
    return tuple(numbers)


def _point(item: Item | None) -> Corners | None:
    if not isinstance(item, Group) or not item.closed:
        return None
    numbers = item.numbers()
    if numbers is None:
        return _named_point(item)
    return numbers if len(numbers) == 2 else None


def _named_point(group: Group) -> Corners | None:
    """(x, y) of a group that has both by name."""
    by_key = {entry.key: value_of(next(iter(entry.items), None)) for entry in entries_of(group)}
    numbers = tuple(value for name in ("x", "y") if (value := by_key.get(name)) is not None)
    return numbers if len(numbers) == 2 else None


def _joined(gap: list[str]) -> bool:
    """Whether what stands between two points makes them corners of one box."""
    marks = {part for part in gap if not part.isalnum()}
    words = {part for part in gap if part.isalnum()}
    if len(gap) > 10 or not marks <= {",", ";", "-", "\n"} or ("\n" in marks and "," not in marks):
        return False
    return words <= _TO or (bool(words & _SECOND) and words <= _BEFORE_SECOND)


_BULLET = re.compile(r"(?:[-*•#>]+\s+|[0-9]{1,3}[.)]\s+|x1, ?y1, ?x2, ?y2 ?[=:] ?)?")


def _bare_lines(text: str) -> Iterator[Corners]:
    """Lines of nothing but four numbers; a leading zero makes a telephone number, not a coordinate."""
    for line in re.split(r"[\n;]|<[^<>\n]{0,60}>", text):
        line = line.strip()
        line = line[_BULLET.match(line).end() :].strip(" \t`*\"'|,:$")  # type: ignore[union-attr]
        parts = re.split(r"[\s,|]+", line, maxsplit=4)
        if len(parts) != 4 or any(re.match(r"[-+]?0[0-9]", part) for part in parts):
            continue
        numbers = [number_in(part.rstrip(".") or part) for part in parts]
        if all(number is not None for number in numbers):
            yield tuple(number for number in numbers if number is not None)
