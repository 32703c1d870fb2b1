"""What is read as an answer, and when it is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.protocols import is_right, parse_answer

CHOICES = {"A": "a cat", "B": "a dog", "C": "7", "D": "none of these"}

LETTERS = [
    ("A", "A"),
    ("B", "B"),
    (" B \n", "B"),
    ("b", "B"),
    ("a", "A"),
    ("(B)", "B"),
    ("(b)", "B"),
    ("[B]", "B"),
    ("B.", "B"),
    ("B)", "B"),
    ("B:", "B"),
    ("**B**", "B"),
    ("*B*", "B"),
    ("`B`", "B"),
    ('"B"', "B"),
    ("'B'.", "B"),
    ("$B$", "B"),
    ("B!", "B"),
    ("B. a dog", "B"),
    ("B) a dog", "B"),
    ("B: a dog", "B"),
    ("B - a dog", "B"),
    ("B – a dog", "B"),  # noqa: RUF001
    ("(B) a dog", "B"),
    ("**B**: a dog", "B"),
    ("**B.** a dog", "B"),
    ("B.\nIt barks.", "B"),
    ("B\nIt barks.", "B"),
    ("B\n\nBecause it barks, it is no cat.", "B"),
    ("It barks.\n\nB", "B"),
    ("It barks.\n\n**B**", "B"),
    ("It barks.\n\n(B)", "B"),
    ("\\boxed{B}", "B"),
    ("$\\boxed{B}$", "B"),
    ("\\boxed{ B }", "B"),
    ("\\boxed{(B)}", "B"),
    ("\\boxed{B.}", "B"),
    ("\\boxed{b}", "B"),
    ("\\boxed{\\text{B}}", "B"),
    ("\\boxed{\\textbf{(B)}}", "B"),
    ("\\boxed{\\mathrm{B}}", "B"),
    ("\\boxed{\\text{B. a dog}}", "B"),
    ("\\boxed{B: a dog}", "B"),
    ("\\boxed{a dog}", "B"),
    ("\\boxed{dog}", "B"),
    ("\\boxed {B}", "B"),
    ("\x08oxed{B}", "B"),
    ("It is a cat, or \\boxed{A}. No: \\boxed{B}", "B"),
    ("\\boxed{B} as asked, in \\boxed{}", "B"),
    ("A is wrong, C) too. \\boxed{B}", "B"),
    ("<answer>B</answer>", "B"),
    ("<answer> (B) </answer>", "B"),
    ("<answer>B. a dog</answer>", "B"),
    ("<answer>A</answer> wait <answer>B</answer>", "B"),
    ("<ANSWER>B</ANSWER>", "B"),
    ("<answer>B", "B"),
    ("<think>A? no.</think>B", "B"),
    ("<think>The answer is A.</think>\n\\boxed{B}", "B"),
    ("Answer: B", "B"),
    ("answer: b", "B"),
    ("Answer: (B)", "B"),
    ("Answer: **B**", "B"),
    ("**Answer:** B", "B"),
    ("**Answer: B**", "B"),
    ("Answer:\nB", "B"),
    ("Answer: B. a dog", "B"),
    ("Answer: a dog", "B"),
    ("Answer = B", "B"),
    ("The answer is B", "B"),
    ("The answer is B.", "B"),
    ("The answer is: B.", "B"),
    ("The answer is (B).", "B"),
    ("The answer is (B) a dog", "B"),
    ("The answer is B because it barks.", "B"),
    ("The answer is A because it meows.", "A"),
    ("The answer is B, since it barks.", "B"),
    ("The answer is B, not A.", "B"),
    ("The answer is A dog.", "B"),
    ("The answer is a dog.", "B"),
    ("The answer is option B.", "B"),
    ("The correct answer is **(B)**.", "B"),
    ("The correct option is B.", "B"),
    ("The right choice: B", "B"),
    ("Final answer: B", "B"),
    ("The answer is A. No, the answer is B.", "B"),
    ("The answer is B. The answer is supported by the picture.", "B"),
    ("The answer must be B.", "B"),
    ("Option B", "B"),
    ("option (B)", "B"),
    ("Option B is correct.", "B"),
    ("I choose B.", "B"),
    ("I would pick option B", "B"),
    ("It's B", "B"),
    ("It’s B.", "B"),  # noqa: RUF001
    ("It is B.", "B"),
    ("I think it is (B).", "B"),
    ("B is correct", "B"),
    ("So, the correct answer is B is what I say", "B"),
    ("a dog", "B"),
    ("A dog", "B"),
    ("dog", "B"),
    ("The dog.", "B"),
    ("A DOG", "B"),
    ("7", "C"),
    ("None of these", "D"),
]

NO_LETTER = [
    "",
    " ",
    "...",
    "A horse",
    "A big dog",
    "A dog and a cat",
    "A photograph of a dog",
    "a bird",
    "A-frame",
    "A's",
    "I cannot tell.",
    "It is a dog with a ball",
    "Because of A",
    "AB",
    "BAD",
    "Be",
    "E",
    "(E)",
    "Z. a zebra",
    "8",
    "A or B",
    "A and B",
    "A, B",
    "A/B",
    "A & B",
    "(A) or (B)",
    "(A) and (B)",
    "A) a cat B) a dog",
    "A. a cat\nB. a dog\nC. 7",
    "(A) a cat (B) a dog (C) 7 (D) none of these",
    "A\nB",
    "The answer is A or B",
    "The answer is A, B",
    "The answer is A and C.",
    "The answer is not A.",
    "The answer is A horse",
    "The answer is unclear.",
    "\\boxed{}",
    "\\boxed{A, B}",
    "\\boxed{A and B}",
    "\\boxed{AB}",
    "\\boxed{E}",
    "\\boxed{a horse}",
    "\\boxed{A horse}",
    "\\boxed{B",
    "<answer></answer>",
    "<answer>maybe</answer>",
    "Option A is wrong, option B is right, I believe",
    "Answer in \\boxed{}.",
    "[12, 20, 40, 48]",
]


def test_the_tables_are_large():
    assert len(LETTERS) >= 80
    assert len(NO_LETTER) >= 40


@pytest.mark.parametrize(("reply", "letter"), LETTERS, ids=[reply[:50] for reply, _ in LETTERS])
def test_letters_are_read(reply, letter):
    assert parse_answer(reply, CHOICES) == letter


@pytest.mark.parametrize("reply", NO_LETTER)
def test_nothing_is_guessed(reply):
    assert parse_answer(reply, CHOICES) is None


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("7", "7"),
        (" 7\n", "7"),
        ("\\boxed{7}", "7"),
        ("I see \\boxed{7}.", "7"),
        ("\\boxed{7\\text{ cm}}", "7 cm"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{{7}}", "{7}"),
        ("\\boxed{6} no \\boxed{7}", "7"),
        ("<answer>7</answer>", "7"),
        ("The answer is 7.", "7."),
        ("The answer is: 7", "7"),
        ("Answer: a red car\nIt is parked.", "a red car"),
        ("The option is closed", "The option is closed"),
        ("a red car", "a red car"),
        ("<think>6</think>7", "7"),
        ("<think>6</think>\\boxed{7}", "7"),
        ("<think>It is 6, or", None),
        ('{"answer": "red"}', "red"),
        ('```json\n{"reason": "it is 6", "answer": 7}\n```', "7"),
        ('{"answer": "6"} {"answer": "7"}', None),
        ("", None),
        (" \n", None),
    ],
)
def test_open_answers_are_read(reply, answer):
    assert parse_answer(reply, None) == answer


def test_an_option_that_looks_like_another_letter_is_read_as_its_text():
    assert parse_answer("A. Smith", {"A": "J. Doe", "B": "A. Smith"}) == "B"


def test_letters_may_be_numbers_and_longer_ones_win():
    choices = {"1": "one", "2": "two", "12": "twelve"}
    assert parse_answer("12. twelve", choices) == "12"
    assert parse_answer("2", choices) == "2"
    assert parse_answer("two", choices) == "2"


def test_two_options_of_the_same_text_are_not_told_apart():
    assert parse_answer("red", {"A": "red", "B": "Red"}) is None


@given(st.text(max_size=200), st.sampled_from([CHOICES, None, {"(": "x", "\\": "y"}, {"A": "", "B": " "}]))
def test_any_text_is_read_without_an_error(text, choices):
    answer = parse_answer(text, choices)
    assert answer is None or choices is None or answer in choices


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("7", "7"),
        ("7.", "7"),
        ("7.0", "7"),
        ("+7", "7"),
        ("1,000", "1000"),
        ("1,234,567.5", "1234567.50"),
        ("0.50", ".5"),
        ("-3", "-3.0"),
        ("\\$7".removeprefix("\\"), "$7"),
        ("$7$", "7"),
        ("Red", "red"),
        ("  the  red   car ", "Red car."),
        ("A red car", "red car"),
        ("an apple", "The apple"),
        ("**red**", "red"),
        ('"red"', "red"),
        ("the 'Red'", "red"),
        ("“red”", "red"),
        ("RED!", "red"),
        ("9007199254740993", "9007199254740993.0"),
        ("?", "?"),
    ],
)
def test_right_answers(answer, expected):
    assert is_right(answer, expected)
    assert is_right(expected, answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "7"),
        ("", "7"),
        ("8", "7"),
        ("77", "7"),
        ("-7", "7"),
        ("1,5", "15"),
        ("1,00", "100"),
        ("5", ".5"),
        ("007", "7"),
        ("07", "7"),
        ("1_000", "1000"),
        ("1e1", "10"),
        ("nan", "7"),
        ("inf", "infinity"),
        ("9007199254740993", "9007199254740992"),
        ("red", "reddish"),
        ("a", "b"),
        ("?", "!"),
        ("red car", "red"),
    ],
)
def test_wrong_answers(answer, expected):
    assert not is_right(answer, expected)
    assert answer is None or not is_right(expected, answer)


@given(st.text(min_size=1, max_size=30))
def test_an_answer_is_right_about_itself_in_any_case(text):
    assert is_right(text, text)
    assert is_right(f" {text}\n", text)
