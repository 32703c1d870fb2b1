"""What holds for the boxes read from any reply."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foveate.protocols import Problem, parse_answer, parse_boxes
from foveate.protocols.parsing import MAX_BOXES
from foveate.regions import Box

SIZE = (448, 336)
ORIGINAL = (4032, 3024)


def test_pixels_are_of_the_input_as_the_model_saw_it():
    read = parse_boxes('[{"bbox_2d": [28, 56, 448, 336]}]', "pixel", SIZE, ORIGINAL)
    assert read.boxes == (Box(252, 504, 4032, 3024),)
    assert read.problem is None


def test_thousandths_are_of_the_sides_whatever_the_input():
    read = parse_boxes("<|box_start|>(250,500),(1000,1000)<|box_end|>", "thousand", (1, 1), ORIGINAL)
    assert read.boxes == (Box(1008, 1512, 4032, 3024),)
    assert parse_boxes("[0, 0, 1001, 900]", "thousand", SIZE, ORIGINAL).problem is Problem.OUTSIDE


def test_an_unknown_frame_is_refused():
    with pytest.raises(ValueError, match="percent"):
        parse_boxes("[1, 2, 3, 4]", "percent", SIZE, ORIGINAL)


def test_forty_boxes_are_too_many_and_the_first_count():
    boxes = [[i, i, i + 10, i + 10] for i in range(40)]
    read = parse_boxes(json.dumps(boxes), "pixel", SIZE, SIZE)
    assert read.boxes == tuple(Box(*corners) for corners in boxes[:MAX_BOXES])
    assert read.problem is Problem.TOO_MANY
    assert parse_boxes(json.dumps(boxes[:MAX_BOXES]), "pixel", SIZE, SIZE).problem is None


def test_a_repeated_box_is_not_one_too_many():
    read = parse_boxes(json.dumps([[1, 2, 30, 40]] * 40), "pixel", SIZE, ORIGINAL, max_boxes=1)
    assert len(read.boxes) == 1
    assert read.problem is None


def test_the_first_problem_is_the_one_that_is_named():
    read = parse_boxes("[[9, 9, 1, 1], [1, 1, 999, 9], [1, 2, 30, 40]]", "pixel", SIZE, SIZE)
    assert read.problem is Problem.REVERSED
    assert read.boxes == (Box(1, 2, 30, 40),)


_CORNERS = st.tuples(*[st.one_of(st.integers(-10, 500), st.floats(width=32), st.integers())] * 4)
_LABELS = st.text(max_size=30)


@given(st.lists(st.tuples(_CORNERS, _LABELS), max_size=6), st.sampled_from(["pixel", "thousand"]), st.booleans())
def test_well_formed_json_is_read_exactly(rows, frame, indented):
    """Whatever the labels hold: brackets, quotes, numbers, other boxes."""
    reply = json.dumps(
        [{"label": label, "bbox_2d": list(corners)} for corners, label in rows], indent=2 if indented else None
    )
    plain = [(*corners, ", ") for corners, _ in rows]
    alone = "\n".join(json.dumps({"bbox_2d": list(corners[:4])}) for corners in plain)
    assert parse_boxes(reply, frame, SIZE, ORIGINAL) == parse_boxes(alone, frame, SIZE, ORIGINAL)


_WHOLE = st.tuples(st.integers(0, 400), st.integers(0, 300), st.integers(1, 48), st.integers(1, 36)).map(
    lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
)
_STYLES = [
    "{0} {1} {2} {3}",
    "{0}, {1}, {2}, {3}",
    "[{0}, {1}, {2}, {3}]",
    "({0},{1}),({2},{3})",
    "x1={0}, y1={1}, x2={2}, y2={3}",
    '{{"bbox_2d": [{0}, {1}, {2}, {3}]}}',
    "{{'box': ({0}, {1}, {2}, {3})}}",
    "<box>{0} {1} {2} {3}</box>",
    '```json\n[{{"bbox_2d": ["{0}", "{1}", "{2}", "{3}"]}}]\n```',
]


@given(_WHOLE, st.sampled_from(_STYLES))
def test_every_style_says_the_same(corners, style):
    read = parse_boxes(style.format(*corners), "pixel", SIZE, SIZE)
    assert read == ((Box(*corners),), None)


_PIECES = st.sampled_from(
    [
        *"[](){}<>,;:=|-\"'\\\n .*`",
        *("1", "-1", "12", "40.5", "1e9", "nan", "0", "336", "448", "x1", "y1", "x2", "y2", "width", "left"),
        *("bbox_2d", "box", "label", "is", "and", "to", "top", "bottom", "right", "<box>", "</box>", "</think>"),
        *("<|box_start|>", "<|box_end|>", "```json", "(1,2)", "[1, 2, 30, 40]", "\\boxed{", "（", "，", "👁"),  # noqa: RUF001
    ]
)


@given(
    st.one_of(st.text(max_size=300), st.lists(_PIECES, max_size=60).map("".join)),
    st.sampled_from(["pixel", "thousand"]),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
@example("[0, 0, 5e-324, 1]", "pixel", 7, 1)
@example('{"bbox_2d": [0, 0, 447.99999999999994, 336]}', "pixel", 4033, 3025)
@example("[" + "1" * 5000 + ", 2, 3, 4]", "pixel", 100, 100)
@example("\ud800[1, 2, 3, 4]", "pixel", 100, 100)
def test_any_text_is_read_without_an_error_and_boxes_lie_in_the_original(text, frame, width, height):
    boxes, problem = parse_boxes(text, frame, SIZE, (width, height))
    assert len(boxes) <= MAX_BOXES
    assert boxes or problem
    for box in boxes:
        assert 0 <= box.x1 < box.x2 <= width
        assert 0 <= box.y1 < box.y2 <= height


@given(st.text(max_size=200), st.lists(_PIECES, max_size=40).map("".join))
def test_a_box_named_on_its_own_line_survives_any_prose_before_it(prose, pieces):
    """Unless the prose names boxes too, or leaves a bracket open that takes the line in."""
    for before in (prose, pieces):
        if any(c in before for c in "[({<\"'`") or "</think>" in before:
            continue
        read = parse_boxes(f'{before}\n{{"bbox_2d": [1, 2, 30, 40]}}', "pixel", SIZE, SIZE)
        assert Box(1, 2, 30, 40) in read.boxes


_REPEATED = [
    *("[", "{", "(", "[1,", "[1, ", "(1,2),", '{"a":', '"', "'", " '", "'a ", " 'a", '\\"', "\\", '"\\', "{'a': '"),
    *("['a' ", "<", "<b", "<box>", "</box>", "<|box_start|>", "<answer>", "<answer> ", "\\boxed{", "\\boxed{ ", "}"),
    *("the answer is x ", "answer: ", "answer is ", "answer ", "option ", "A) ", "(A)", "A. ", "A, ", " ", "\t", "\n"),
    *("1 ", "1,", "1", "1.", "1e", "-", "x1=", "x1 1 y1 ", "bbox: 1 ", "box is ", "the ", "|", "1|", ";", "* ", "0"),
    *("top left: (1,2) ", "(1,2) and ", "[NaN,", "{x1:1,", "</think>", "（", "\x00"),  # noqa: RUF001
]


@pytest.mark.parametrize("repeated", _REPEATED)
def test_a_reply_of_forty_thousand_characters_ends(repeated):
    """What is quadratic in its length would take minutes here."""
    text = repeated * (40_000 // len(repeated))
    parse_boxes(text, "pixel", SIZE, SIZE)
    parse_boxes(f"[{text}", "pixel", SIZE, SIZE)
    parse_answer(text, {"A": "a cat", "B": "a dog"})
    parse_answer(f"{text}]x", None)
