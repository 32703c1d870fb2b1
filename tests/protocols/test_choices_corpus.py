"""Replies in the styles of many models, and the letter that each gives, if it gives one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.corpora import name_of, rows_of

from foveate.evaluation import extract_choice
from foveate.protocols import parse_answer

ROWS = rows_of("choices", "choices_held_out", "choices_review")
NAMES = [name_of(row, "choices", "reply") for row in ROWS]
COLOURS = {"A": "red", "B": "blue", "C": "green", "D": "yellow"}


def test_the_corpus_is_large_has_many_traps_and_names_each_reply_once():
    assert len(ROWS) >= 1000
    assert sum(row["letter"] is None for row in ROWS) >= 350
    assert len(set(NAMES)) == len(ROWS)
    assert all(row["letter"] is None or row["letter"] in row["choices"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_each_reply(row):
    assert parse_answer(row["reply"], row["choices"]) == row["letter"]


@pytest.mark.parametrize("thought", ["A", "The answer is A.", "\\boxed{A}", "<answer>A</answer>", "It is red."])
def test_thoughts_are_no_part_of_a_reply(thought):
    assert extract_choice(f"<think>{thought}</think>", COLOURS) is None
    assert extract_choice(f"<think>{thought}</think>\n\nB", COLOURS) == "B"


_LETTERS = st.sampled_from(list(COLOURS))
_STYLES = st.sampled_from(
    ["{0}", "({0})", "{0}.", "**{0}**", "Answer: {0}", "The answer is {0}.", "\\boxed{{{0}}}", "<answer>{0}</answer>"]
)


@given(_LETTERS, _LETTERS, _STYLES)
def test_an_option_beside_its_letter_is_read_and_beside_another_is_not(letter, other, style):
    read = extract_choice(style.format(f"{letter}. {COLOURS[other]}"), COLOURS)
    assert read == (letter if letter == other else None)


@given(_LETTERS, _LETTERS, _STYLES)
def test_two_letters_at_once_are_not_read(letter, other, style):
    for joined in ("or", "and", "/"):
        read = extract_choice(style.format(f"{letter} {joined} {other}"), COLOURS)
        assert read is None or letter == other


@given(st.permutations("WXYZ"), _LETTERS, _STYLES)
def test_what_the_letters_are_does_not_matter(letters, letter, style):
    renamed = dict(zip(letters, COLOURS.values(), strict=True))
    new = letters["ABCD".index(letter)]
    assert extract_choice(style.format(new), renamed) == new


@pytest.mark.parametrize(
    "piece",
    [
        "A ", "A, ", "A. ", "(A) ", "A. red\n", "not A ", "if ", "the answer is ", "the answer is A ", "answer: A\n",
        "\\boxed{A} ", "\\boxed{", "<answer>", "<answer>A", "<think>", "</think>", "<tool_call>", "```python", "red ",
        "red, ", "is red. ", "答案", "答案是A", "红", "* ", "- ", "> ", "# ", " \n", "$", "\\text{", "'", '"', "''",
        '"a ', "A or ", "A and A ", "Option A ", "A is right. ", "A: ", "\ufdfa", "é", "😀", "{", '{"answer": "A"} ',
        "wait, ", "no, ", "not A; it is ", "\\boxed{A} is wrong ", "A=red ",
    ],
)  # fmt: skip
def test_a_reply_of_twenty_thousand_characters_ends(piece):
    """What is quadratic in its length would take minutes here."""
    reply = piece * (20_000 // len(piece))
    for text in (reply, f"x{reply}x", f"{reply}\n\nB is wrong"):
        assert extract_choice(text, COLOURS) in (None, *COLOURS)
