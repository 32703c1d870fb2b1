"""When two open answers are the same."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Literal

_AROUND = " .,:;!?\"'`*_()[]{}“”‘’。、"  # noqa: RUF001
_LEADING = re.compile(rf"(?:[{re.escape(_AROUND.replace('.', ''))}]|(?:an?|the) )*+")  # ".5" begins with its point
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]*)(?:\.[0-9]+)?|[-+]?\.[0-9]+")
NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
}
"""Zero to twenty in words."""


def folded(text: str) -> str:
    """Compatible characters as one (NFKC), without case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normalised(answer: str) -> str:
    """An answer without what does not matter: case, width, outer punctuation, leading articles, doubled spaces.

    Normalising twice changes nothing more.
    """
    text = folded(answer)
    while (barer := _barer(text)) != text:
        text = barer
    return text


def _barer(text: str) -> str:
    whole = " ".join(text.split())
    bare = whole.rstrip(_AROUND)
    bare = bare[_LEADING.match(bare).end() :]  # type: ignore[union-attr]  # it may be empty
    if len(bare) > 2 and bare[0] == bare[-1] == "$":
        bare = bare[1:-1]
    return bare or whole


def value_of_number(normal: str) -> Decimal | None:
    """The value of a normalised answer that is a number, also in words up to twenty; a trailing "%" is passed over.

    What begins with zeros is a code, which has no value.
    """
    if normal in NUMBER_WORDS:
        return Decimal(NUMBER_WORDS[normal])
    number = normal.removesuffix("%").rstrip()
    return Decimal(number.replace(",", "")) if _DECIMAL.fullmatch(number) else None


def is_right(answer: str | None, expected: str, tolerance: float = 0.0) -> bool:
    """Whether an answer matches the expected one after normalisation.

    Numbers match by value: "7.0" is "7", "1,000" is "1000", "three" is "3", "50%" is "50". What begins with zeros is a
    code, not a number: "007" is not "7". No other unit is dropped: "7 cm" is not "7". Where yes or no is expected, an
    answer that plainly says it matches (`yes_or_no`).

    Args:
        answer: what was answered; None is never right.
        expected: the right answer.
        tolerance: how far a number may be off, as a share of the expected one.
    """
    if answer is None:
        return False
    said, wanted = normalised(answer), normalised(expected)
    if wanted in ("yes", "no"):
        return yes_or_no(answer) == wanted
    if said == wanted:
        return True
    number, right = value_of_number(said), value_of_number(wanted)
    if number is None or right is None:
        return False
    return number == right or abs(number - right) <= Decimal(tolerance) * abs(right)


_YES, _NO = r"(?:yes|yeah|yep|yup)", r"(?:no|nope|nah)"
_STRAIGHT = str.maketrans("’“”", '\'""')  # noqa: RUF001
_ENDS = r"(?=[\"'`]?\s{0,3}(?:[.,;:!)\n\-–—]|$))"  # noqa: RUF001
_CLAUSE = r"(?=\s(?:there|it|he|she|they|this|that|the|i|we|you)\b)"
_SURELY = r"(?:definitely|certainly|absolutely)"
_SAYS_YES = re.compile(rf"(?:{_YES}(?:,?\s(?:indeed|of\scourse|{_SURELY}))?|{_SURELY},?\s{_YES})(?:{_ENDS}|{_CLAUSE})")
_SAYS_NO = re.compile(
    rf"(?:{_NO}(?!\.\s?\d)|{_SURELY},?\s{_NO})(?:{_ENDS}|{_CLAUSE})"  # not "No. 5"
)
_THING = (
    r"(?!(?:idea|doubt|question|clue|problem|matter|one|way|need|reason|answer|comment|wonder|worries|more|less|longer"
    r"|such|other|not|or|and|but|only|just|if|the|that|which|with|image|picture|photo|information|evidence|indication"
    r"|difference|mistake|error|contradiction|yes|no|nope|yeah|maybe|sure)\b)[\w'-]+"
)
_THERE = (
    r"(?:\s(?:that\s(?:is|are)\s)?(?:visible|present|shown|here|anywhere|(?:to\sbe\s)?seen|in\sit"
    r"|(?:in|on)\s(?:the|this)\s(?:image|picture|photo|photograph|scene)))"
)
_EXISTS = re.compile(
    rf"(?:there\s(?:is|are)(?:n't|\snot)?|i\s(?:do\snot|don't)\ssee|(?:i|we)\s(?:can\s)?see(?=\sno\s))"
    rf"\s(?:(?:an?|any|some|no)\s)?{_THING}(?:\s{_THING}){{0,2}}?{_THERE}{{0,2}}"
    rf"|no\s{_THING}(?:\s{_THING})?(?:\s(?:is|are|can\sbe))?{_THERE}{{0,2}}"
)
_DENIES = re.compile(r"\b(?:no|not)\b|n't\b")
_LONGEST = 100
_LED = re.compile(
    rf"(?:\banswer(?:\sis|:)|\A(?:it's|it\sis|i'd\ssay|i\s(?:would\ssay|think|believe|guess)))\s{{0,3}}({_YES}|{_NO}){_ENDS}(?!\.\s?\d)"
)
_ANY_YES = re.compile(rf"\b{_YES}\b")
_ANY_NO = re.compile(rf"\b{_NO}(?=\s{{0,3}}(?:[.,;:!?)]|$|and\b|or\b))")


def yes_or_no(text: str, *, existence: bool = True) -> Literal["yes", "no"] | None:
    """What a text plainly says: "yes", "no", or None.

    Plain is the word alone, a text that begins with it, closed by a mark or followed by a clause ("Yes, there is", "No
    it is not"), or one that says "the answer is yes". None where both are said, where it is asked, or where "no"
    belongs to what follows ("no idea").

    Args:
        text: any text.
        existence: whether it may answer a question about what is there: a text that is one clause and says that
            something is there ("There is a dog.") or is not ("No dogs are visible.") is read then.
    """
    alone = normalised(text)
    if alone in ("yes", "no"):
        return "yes" if alone == "yes" else "no"
    said = folded(text).translate(_STRAIGHT).replace("*", "").lstrip(_AROUND + "\n").rstrip()
    yes, no = bool(_SAYS_YES.match(said)), bool(_SAYS_NO.match(said))
    if not yes and not no and (led := _LED.search(said)):
        yes, no = (True, False) if re.fullmatch(_YES, led[1]) else (False, True)
    if said.endswith("?") or (yes and _ANY_NO.search(said)) or (no and _ANY_YES.search(said)):
        return None
    if existence and not yes and not no and _EXISTS.fullmatch(clause := said.rstrip(_AROUND)[: _LONGEST + 1]):
        yes, no = not _DENIES.search(clause), bool(_DENIES.search(clause))
    return "yes" if yes else "no" if no else None
