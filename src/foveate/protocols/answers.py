r"""Reading the answer in a reply, and comparing it with the right one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

_BOXED = re.compile(r"[b\x08]oxed\s{0,3}\{")  # "\b" read as an escape is \x08
_BOXED_LONGEST = 1000
_WRAPPED = re.compile(r"\\(?:text\w*|math\w*|mbox)\s?\{([^{}]*)\}")
_LEAD = re.compile(
    r"\b(answer|option|choice)[*_\"']{0,3}\s{0,3}(?:is|would be|should be|must be|:|=)[:*_\s]{0,8}", re.IGNORECASE
)
# Around a letter: "I would choose option (B)", "B is correct".
_BEFORE_LETTER = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s)?"
    r"(?:(?:it is|it's|i(?: would| will|'d)? (?:choose|pick|select|go with)|i think(?: it is| it's)?|i believe it is"
    r"|my (?:answer|choice) is|the (?:correct|right|best) (?:one|option|choice|answer) is)\s)?"
    r"(?:the\s)?(?:(?:option|choice|answer|letter)\s)?",
    re.IGNORECASE,
)
_AFTER_LETTER = re.compile(r"(?:is (?:the )?(?:right|correct|best)(?: (?:answer|option|choice|one))?)?", re.IGNORECASE)
_AROUND = " .,:;!?\"'`*_()[]{}“”‘’"  # noqa: RUF001
_OUTER = _AROUND + "\t\n<>$#"


def parse_answer(text: str, choices: Mapping[str, str] | None) -> str | None:
    r"""The answer in a reply: the letter when there are choices, the text of the final answer otherwise.

    An explicit final answer is preferred to the whole reply, and a later one to an earlier: first `\boxed{}`, then
    `<answer>`, then "the answer is". A letter counts where it stands alone, begins the reply as an option's name
    ("B. a dog", "(B)"), or follows such a lead-in; an option's own text counts as its letter. None when nothing can be
    read or two options are named: it is never guessed ("A dog" is not A).
    """
    text = text.rpartition("</think>")[2]
    final = final_answer(text)
    if choices is None:
        if final is None:
            final = next((said for said in _led(text, "answer") if said), text)
        return final.strip() or None
    if final is not None:
        return _letter(final, choices, led=True)
    for said in _led(text, "answer", "option", "choice"):
        if re.match(r"not\b", said, re.IGNORECASE):
            return None
        if (letter := _letter(said, choices, led=True)) is not None:
            return letter
    return _letter(text, choices, led=False) or _letter_line(text, choices)


def final_answer(text: str) -> str | None:
    r"""What stands in the last `\boxed{}` of a text, or else in its last `<answer>`; None without either."""
    boxed = _last_boxed(text)
    return _last_tagged(text) if boxed is None else boxed


def _last_boxed(text: str) -> str | None:
    r"""The inside of the last `\boxed{...}` that is closed and not empty, braces within it allowed."""
    for match in reversed(list(_BOXED.finditer(text))):
        depth = 1
        for brace in re.finditer(r"[{}]", text[match.end() : match.end() + _BOXED_LONGEST]):
            depth += 1 if brace.group() == "{" else -1
            if depth == 0:
                inside = text[match.end() : match.end() + brace.start()]
                inside = _WRAPPED.sub(r"\1", _WRAPPED.sub(r"\1", inside)).strip(" $")
                if inside:
                    return inside
                break
    return None


def _last_tagged(text: str) -> str | None:
    lowered = text.lower()
    start = lowered.rfind("<answer>")
    if start < 0:
        return None
    start += len("<answer>")
    end = lowered.find("</answer>", start)
    return text[start : end if end >= 0 else None].strip() or None


def _led(text: str, *nouns: str) -> Iterator[str]:
    """What follows each "the answer is" on its line and before the next one, the last one first."""
    end = len(text)
    for match in reversed([match for match in _LEAD.finditer(text) if match[1].lower() in nouns]):
        yield text[match.end() : end].partition("\n")[0].strip()
        end = match.start()


def _letter(said: str, choices: Mapping[str, str], *, led: bool) -> str | None:
    """The letter that `said` gives; `led` after words that announce an answer, which allow more after the letter."""
    said = said.replace("’", "'")  # noqa: RUF001
    bare = said.strip(_OUTER)
    if (lone := _choice(bare, choices)) is not None:
        return lone
    exact = [letter for letter, option in choices.items() if normalised(option) == normalised(said)]
    if exact:
        return exact[0] if len(exact) == 1 else None
    letters = "|".join(re.escape(letter) for letter in sorted(choices, key=len, reverse=True))
    named = set(re.findall(rf"(?:^|[\n;,])\s{{0,8}}[*(\[]{{0,3}}({letters})[.:)\]]", said))
    named |= {a or b for a, b in re.findall(rf"\(({letters})\)|(?<!\w)({letters})\)", said)}
    if len(named) > 1:
        return None
    start = said.lstrip(_OUTER)
    if marked := re.match(rf"({letters})(?:\s{{0,3}}[).:\]*]|\s[-–—]\s)", start):  # noqa: RUF001
        return None if re.match(r"\.\w", start[len(marked[1]) :]) else marked[1]
    if led and (first := re.match(rf"({letters})(?![\w'-])", start)):
        rest = start[first.end() :]
        another = re.match(rf"\s{{0,3}}(?:[,/&]|or\b|and\b|nor\b)?\s{{0,3}}[(]?({letters})(?!\w)", rest)
        article = first[1] in ("A", "I") and re.match(r"\s+(?!because\b|since\b|as\b|is\b)\w", rest)
        return None if another or article else first[1]
    if len(bare) <= 120 and (before := _BEFORE_LETTER.match(bare)):
        phrase = re.match(rf"[*(\[\"']{{0,3}}({letters})(?!\w)[*)\]\"'.]{{0,3}}\s?", bare[before.end() :])
        if phrase and _AFTER_LETTER.fullmatch(bare[before.end() + phrase.end() :]):
            return phrase[1]
    return None


def _choice(bare: str, choices: Mapping[str, str]) -> str | None:
    if bare in choices:
        return bare
    same = [letter for letter in choices if letter.lower() == bare.lower()]
    return same[0] if len(same) == 1 else None


def _letter_line(text: str, choices: Mapping[str, str]) -> str | None:
    """The letter that stands alone on a line, when all such lines agree."""
    lines = {line.strip(_OUTER) for line in text.split("\n")}
    letters = lines & choices.keys()
    return letters.pop() if len(letters) == 1 else None


def normalised(answer: str) -> str:
    """An answer without what does not matter: case, outer punctuation, a leading article, doubled spaces."""
    text = _bare(" ".join(answer.lower().split()))
    return _bare(re.sub(r"^(?:a|an|the) ", "", text)) or answer.strip()


def _bare(text: str) -> str:
    text = text.rstrip(_AROUND).lstrip(_AROUND.replace(".", ""))  # ".5" begins with its point
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == "$" else text


_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]*)(?:\.[0-9]+)?|[-+]?\.[0-9]+")


def is_right(answer: str | None, expected: str) -> bool:
    """Whether an answer matches the expected one after normalisation.

    Numbers match by value: "7.0" is "7", "1,000" is "1000". What begins with zeros is a code, not a number: "007" is
    not "7".
    """
    if answer is None:
        return False
    said, wanted = normalised(answer), normalised(expected)
    if said == wanted:
        return True
    if not (_DECIMAL.fullmatch(said) and _DECIMAL.fullmatch(wanted)):
        return False
    return Decimal(said.replace(",", "")) == Decimal(wanted.replace(",", ""))
