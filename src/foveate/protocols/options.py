"""Which options' texts stand in a piece of text: they alone, at its beginning, or anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile

from foveate.protocols.matching import NUMBER_WORDS, normalised, value_of_number
from foveate.protocols.sentence import UNLIKE, is_filler, plainly_says
from foveate.protocols.wording import tidied

UNDECIDED = ""
"""What a statement says that is about the choices and decides for none: two of them, a negation, a condition."""

WORD = r"\w'\-"
"""What goes on with a word, inside a class of characters."""
_EAST_ONLY = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af ]+")
_NUMBER = re.compile(rf"\d[\d.,]*\d|\d|\b(?:{'|'.join(list(NUMBER_WORDS)[2:])})\b", re.IGNORECASE)
ARTICLE = re.compile(r"(?:an?|the) ", re.IGNORECASE)
_NEGATIVE = re.compile(r"(?:no|not|none|never|cannot|nothing|nobody)\b")
_NOUN_ENDS = (
    r"(?=[\"')]*(?:[.,;:!?\n]|\Z)| \(| (?:in|on|at|near|by|behind|beside|next|that|which|who|sits|stands|can|parked"
    r"|standing|sitting|is|are|isn't|was|visible|here|there|to|from|of|under|inside|outside|and|or|with|not|but|than|nor)\b)"
)
"""What may follow a noun that no compound hides in: "a dog", not "a dog house"."""
_VERBS = frozenset(("is", "are", "was", "were"))
_PRONOUN = re.compile(r"(?:it|he|she|they) (?:is|are|was|were) ")
_SIDES = frozenset(("left", "right"))
_PLACES = re.compile(
    r"(?:(?:on|to|at|in) the )?(?:left|right|top|bottom|front|back|above|below|behind|beside|near|next to|under"
    r"|over|inside|outside|between|north|south|east|west|left of|right of|in front of|on top of)(?: of)?(?: the)?"
)
_NUMBERED = "".join(f"(?<!{noun} )" for noun in ("step", "image", "figure", "picture", "option"))


class OptionTexts:
    """The texts of given choices, and where they stand. Time is linear in the text that is looked at."""

    def __init__(self, choices: Mapping[str, str]) -> None:
        self.texts = {letter: normalised(tidied(text)) for letter, text in choices.items()}
        self._folded = {letter: " ".join(tidied(text).casefold().split()) for letter, text in choices.items()}
        self.by_text: dict[str, list[str]] = {}
        for letter, text in self.texts.items():
            self.by_text.setdefault(text, []).append(letter)
        values = {letter: value_of_number(text) for letter, text in self.texts.items()}
        self._numbers = {letter: value for letter, value in values.items() if value is not None}
        self._rests = self._after_subject()
        self._named = self._text_pattern()

    def has_article(self, letter: str) -> bool:
        """Whether an option's text begins with an article."""
        return bool(ARTICLE.match(self._folded[letter]))

    def _after_subject(self) -> dict[str, str]:
        """By letter what all options say differently of the one thing they are sentences about ("behind the bus")."""
        words = [text.split() for text in self.texts.values()]
        subject = takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False))
        verb = next((i for i, same in enumerate(subject) if same[0] in _VERBS), None)
        if len(words) < 2 or not verb:
            return {}
        return {letter: normalised(" ".join(text.split()[verb + 1 :])) for letter, text in self.texts.items()}

    def _text_pattern(self) -> re.Pattern[str] | None:
        """Finds options by their texts, the longest first; an option's article must be there, as any article."""
        forms: list[tuple[int, str, str]] = []
        for letter, text in self.texts.items():
            if text in ("yes", "no", "") or (len(text) == 1 and text.isalpha()) or text.casefold() == "one":
                continue
            written = re.escape(text).replace(r"\ ", r"\s")
            if _EAST_ONLY.fullmatch(text):
                pattern = written
            elif text in _SIDES:
                pattern = rf"(?<=the ){text}(?![{WORD}])"
            elif _NUMBER.fullmatch(text) or text.startswith(("$", "€", "£")):
                number = value_of_number(text)
                words = [word for word, value in NUMBER_WORDS.items() if value == number and value > 1]
                written = str(number) if text in NUMBER_WORDS else written
                pattern = "|".join([written, *words])
                before = rf"(?<![\w.,:/$€£%+*=-])(?<![+*/-] ){_NUMBERED}"
                pattern = rf"{before}(?:{pattern})(?![\w'%°-])(?![.,:/]\d| ?[%+*/=°])"
            else:
                noun = self.has_article(letter)
                article, end = (r"(?:(?:an?|the|one) )", _NOUN_ENDS) if noun else ("", r"(?![\w\-]|'\w)")
                pattern = rf"(?<![\w\-])(?<!\w'){article}{written}{end}"
            forms.append((len(text), letter, pattern))
        forms.sort(key=lambda form: -form[0])
        if not forms:
            return None
        self._groups = {f"o{i}": letter for i, (_, letter, _) in enumerate(forms)}
        return re.compile("|".join(f"(?P<o{i}>{pattern})" for i, (_, _, pattern) in enumerate(forms)), re.IGNORECASE)

    def named(self, text: str) -> set[str]:
        """The letters of the options whose texts stand in a text; of one within another only the longer counts."""
        found: set[str] = set()
        for match in self._named.finditer(text) if self._named else ():
            found.update(self.by_text[self.texts[self._groups[match.lastgroup or ""]]])
        return found

    def same(self, said: str) -> list[str]:
        """The letters of the options that a text is, nothing more."""
        normal = normalised(said)
        letters = self.by_text.get(normal)
        if letters is None:
            rest = normalised(_PRONOUN.sub("", normal))
            if said_of := [letter for letter, text in self._rests.items() if text and text == rest]:
                return said_of
            number = value_of_number(normal)
            squeezed = "".join(normal.split())
            letters = [
                letter
                for letter, text in self.texts.items()
                if (number is not None and not normal.endswith("%") and self._numbers.get(letter) == number)
                or (not squeezed.isalnum() and "".join(text.split()) == squeezed)
            ]
        return letters if normal else []

    def beginning(self, said: str) -> set[str]:
        """The letters of the longest option text that a text begins with."""
        head = " ".join(said[:400].casefold().split()).lstrip("\"'( ")
        best, letters = 0, set[str]()
        for letter, text in self.texts.items():
            for form in {self._folded[letter], text, self._rests.get(letter, "")}:
                longest = form and len(form) >= best and head.startswith(form)
                if longest and not re.match(rf"[{WORD}]|\.\d", head[len(form) : len(form) + 2]):
                    letters = letters | {letter} if len(form) == best else {letter}
                    best = len(form)
        if not letters and (first := re.match(r"[\w.,]*\w(?!\s?%)", head)):
            value = value_of_number(first[0])
            letters = {letter for letter, number in self._numbers.items() if number == value}
        return letters

    def plainly(self, said: str, letters: str) -> str | None:
        """The letter of the one option whose text stands in a short plain sentence, `UNDECIDED`, or None.

        `letters` is a pattern of all letters: the sentence must name none, or this one right before the text.
        """
        said = said.strip()
        named = self.named(said)
        if len(named) != 1 or self._named is None:
            return UNDECIDED if named else None
        (letter,) = named
        masked = " ".join(self._named.sub("∎", said).split())
        if (
            (_NEGATIVE.match(self.texts[letter]) and not re.search(r"∎\W*\Z", masked))  # "There is no entry sign"
            or UNLIKE.search(masked)
            or _NUMBER.search(masked)
            or masked.count("∎") > 2
        ):
            return UNDECIDED
        if lettered := re.match(rf"(?i:\W*({letters}))(?:[)\].:]{{1,3}}| ?[-=→] ?|, )", masked):
            return letter if lettered[1].lower() == letter.lower() and masked.endswith(("∎", "∎.")) else UNDECIDED
        if is_filler(masked) or (_NEGATIVE.match(self.texts[letter]) and re.match(r"(?i)there (?:is|are) ∎", masked)):
            return letter
        if marked := re.search(rf"(?<![\w'])\(?({letters})(?:[).:](?: |(?=∎)|\Z)|\Z)", masked.rstrip(" .")):
            before = masked[marked.end() :].startswith("∎") and marked[1] == letter
            return letter if before else UNDECIDED
        if re.search(rf"(?<![\w'])(?!(?:[AIa-z]|\d+)(?!\w)){letters}(?![\w'\-])", masked):
            return UNDECIDED  # "A shows a red bus, B shows the car"
        place = bool(_PLACES.fullmatch(self.texts[letter]))
        return letter if plainly_says(masked, number=letter in self._numbers, place=place) else None
