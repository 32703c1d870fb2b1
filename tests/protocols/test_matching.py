"""When two open answers are the same, and what plainly says yes or no."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.protocols import is_right, yes_or_no
from foveate.protocols.matching import NUMBER_WORDS, normalised


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("three", "3"),
        ("Twenty.", "20"),
        ("zero", "0"),
        ("ＲＥＤ", "red"),  # noqa: RUF001
        ("ﬁre", "fire"),
        ("Straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("50%", "50"),
        ("50 %", "50.0%"),
        ("the a red car", "red car"),
        ("红色。", "红色"),
        ("A1", "a1"),
    ],
)
def test_right_either_way_round(answer, expected):
    assert is_right(answer, expected)
    assert is_right(expected, answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("7 cm", "7"),
        ("$7", "7"),
        ("twenty-one", "21"),
        ("one hundred", "100"),
        ("50%", "0.5"),
        ("007", "seven"),
        ("00", "0"),
        ("1.000", "1000"),
        ("3 cats", "3"),
        ("¾", "3"),
    ],
)
def test_nothing_is_guessed_away(answer, expected):
    assert not is_right(answer, expected)
    assert not is_right(expected, answer)


@pytest.mark.parametrize(
    ("answer", "tolerance", "right"),
    [("105", 0.05, True), ("95", 0.05, True), ("106", 0.05, False), ("101", 0.0, False), ("one", 0.05, False)],
)
def test_numbers_within_a_share_of_the_expected_one(answer, tolerance, right):
    assert is_right(answer, "100", tolerance=tolerance) is right


def test_codes_have_no_tolerance():
    assert not is_right("0100", "0101", tolerance=0.5)
    assert not is_right("0100", "100", tolerance=0.5)


YES_OR_NO = {
    "yes": "yes",
    "Yes.": "yes",
    "YES!": "yes",
    "**Yes**, there is.": "yes",
    "Yes, there is a dog.": "yes",
    "Yes there is a dog in the image": "yes",
    "Yes, there are no clouds.": "yes",
    "Yeah": "yes",
    "Yeah, there is.": "yes",
    '"Yes"': "yes",
    "“No”.": "no",
    "$no$": "no",
    "The answer is yes.": "yes",
    "Answer: Yes": "yes",
    "Yes\nThe dog lies on the sofa.": "yes",
    "no": "no",
    "No.": "no",
    "No, there is no dog in the image.": "no",
    "No there isn't": "no",
    "Nope.": "no",
    "The answer is no": "no",
    "Ｎｏ": "no",  # noqa: RUF001
    "": None,
    "maybe": None,
    "Yes and no.": None,
    "Yes or no?": None,
    "yes, no": None,
    "No. Wait, yes.": None,
    "Is it yes?": None,
    "No idea.": None,
    "No doubt about it.": None,
    "There is no dog in the image.": "no",
    "There are no dogs": "no",
    "There isn't a dog in the picture.": "no",
    "There isn’t any dog.": "no",  # noqa: RUF001
    "There is not a dog.": "no",
    "No dog is visible.": "no",
    "No dogs.": "no",
    "No dogs are visible in the image.": "no",
    "I see no dog.": "no",
    "I do not see a dog.": "no",
    "Certainly, no.": "no",
    "There is a dog in the image.": "yes",
    "There are two dogs.": "yes",
    "Yes indeed": "yes",
    "Yes, indeed.": "yes",
    "Definitely yes.": "yes",
    "**Yes**": "yes",
    "'No'.": "no",
    "yeah": "yes",
    "Yes; there is": "yes",
    "Yes, no doubt.": "yes",
    "No idea": None,
    "No, wait. Yes": None,
    "There is no way to tell.": None,
    "There is no image.": None,
    "There is a dog, but it is hidden.": None,
    "There is a dog or a cat.": None,
    "There is a dog. It is not black.": None,
    "There is no other dog": None,
    "I see a picture of a dog": None,
    "No more": None,
    "No. 5": None,
    "Is there no dog?": None,
    "Not sure.": None,
    "Nothing": None,
    "Yesterday": None,
    "I know.": None,
    "The answer is not yes.": None,
    "I would not say yes.": None,
}


@pytest.mark.parametrize("text", YES_OR_NO)
def test_yes_or_no(text):
    said = YES_OR_NO[text]
    assert yes_or_no(text) == said
    for expected in ("yes", "No."):
        assert is_right(text, expected) is (said == normalised(expected))


def test_what_is_there_answers_only_questions_about_it():
    for text in ("There is no dog.", "There is a dog.", "No dogs."):
        assert yes_or_no(text) is not None
        assert yes_or_no(text, existence=False) is None


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


_ANSWERS = st.one_of(
    st.text(max_size=12),
    st.integers(-1000, 1000).map(str),
    st.decimals(-100, 100, places=2).map(str),
    st.sampled_from(["the ", "%", "7%", "$7$", "'a' ", *NUMBER_WORDS]),
)


@given(_ANSWERS, _ANSWERS)
def test_being_right_goes_both_ways(first, second):
    """But for yes and no, where only the answer may say more than the expected one."""
    if not {"yes", "no"} & {normalised(first), normalised(second)}:
        assert is_right(first, second) == is_right(second, first)


@given(_ANSWERS, _ANSWERS, st.floats(0, 1))
def test_a_tolerance_only_adds(first, second, tolerance):
    assert is_right(first, second, tolerance) or not is_right(first, second)


@given(st.integers(0, 99999), st.integers(1, 5))
def test_leading_zeros_make_a_code(number, zeros):
    code = "0" * zeros + str(number)
    assert is_right(code, code)
    assert not is_right(code, str(number))
    assert not is_right(str(number), code)


def test_long_answers_end():
    for piece in ("'a ", " 'a", "the ", "$", '"', "a. "):
        assert is_right(piece * 10_000, piece * 10_000)
