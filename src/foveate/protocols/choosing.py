"""Which choice one statement of a reply names, by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from foveate.protocols.matching import NUMBER_WORDS, normalised, value_of_number, yes_or_no
from foveate.protocols.wording import tidied

UNDECIDED = ""
"""What a statement says that is about the choices and decides for none: two of them, a negation, a condition."""

_LONGEST = 120
_MOST_WORDS = 16
_KEPT = frozenset("+#&%/@^~|=\\-")
_WORD = r"\w'\-"
_HEDGE = re.compile(
    r"\b(?:don't|do not|not sure|unsure|unclear|unknown|uncertain|cannot|can't|unable|impossible|neither|depends)\b",
    re.IGNORECASE,
)
_UNLIKE = re.compile(
    r"\b(?:not|no|never|neither|nor|without|except|instead|rather|than|unlike|or|either|whether|if|but|maybe|might"
    r"|could|may|with|used to|hardly|barely|far|almost|nearly|quite|once|lacks?|over|under|sure|certain|confident|perhaps|possibly|more|less|most|while|whereas|cannot|unless|isn't|aren't|wasn't|n't|vs|versus)\b"
    r"|n't\b|\?|不|没|無|无|非|或|还是|和",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"\w(?:'s|'d say| (?:is|are|was|were|be|says?|reads?|shows?|appears?|looks|seems?|contains?|has|have|holds|wears"
    r"|counted|count|see|points|faces|think|say)\b|:)"
    r"(?: (?:to be|like|that|it is|it's))?(?: \w+ing\b)?"
    r"(?: (?:rated|made|called|named|labell?ed|painted|located|colou?red|parked)\b)?(?: (?:on|in|at|of|as|to)\b)?"
    r"(?: (?:an?|the|about|approximately|around|roughly|likely|clearly|actually|probably|exactly|indeed)\b)* [\"'(#]{0,2}∎"
    r"|\A(?:(?:an?|the|one)\b ?)?(?:\w+ )?[\"']?∎[\"']?(?: \w+)? (?:is|are|can be seen|stands|would be)\b|= ?∎",
    re.IGNORECASE,
)
"""Where an option's text (∎) stands in a sentence that says little else: after its verb, or as its subject."""
_EASTERN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_FILLER = re.compile(r"\b(?:a|an|the|one|it|about|approximately|around|roughly|current|of|total|people)\b|\W+", re.I)
_NUMBER = re.compile(rf"\d[\d.,]*\d|\d|\b(?:{'|'.join(list(NUMBER_WORDS)[2:])})\b", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:an?|the) ", re.IGNORECASE)
_NOUN_ENDS = (
    r"(?=[\"')]*(?:[.,;:!?\n]|\Z)| (?:in|on|at|near|by|behind|beside|next|that|which|who|parked|standing|sitting|is|are|isn't"
    r"|was|visible|here|there|to|from|of|under|inside|outside|and|or|with|not|but|than|nor)\b)"
)
"""What may follow a noun that no compound hides in: "a dog", not "a dog house"."""
_SIDES = frozenset(("left", "right"))
_WRONG = r"(?:not|n't|wrong|incorrect|false|unlikely|no|never)\b|n't\b"
_BEFORE_LETTER = re.compile(
    r"(?:(?:so|thus|therefore|hence|sure|yes|definitely|probably|clearly|overall|in summary|in conclusion|conclusion"
    r"|correct|only|out of the four|finally|okay|ok|which leaves|so it must be)\b[,:]? ?){0,3}"
    r"(?:(?:it is|it's|it must be|it has to be|that's|that would be|the one that (?:matches|fits) is|(?:i'm|i am) going with|(?:i|we)(?: would| will|'d)? (?:choose|pick|select|go with|say|answer)"
    r"|(?:i|we)(?: would| will|'d)? (?:think|believe|say|guess)(?: that)?(?: it is| it's)?|i am sure(?: that)? (?:it's|it is)"
    r"|i'm sure(?: that)? it's|my (?:answer|choice|pick) (?:is|would be)"
    r"|the (?:correct|right|best|final) (?:one|option|choice|answer) is)\b:? ?)?"
    r"(?:the )?(?:(?:correct )?(?:option|choice|answer|letter) ?:? ?)?",
    re.IGNORECASE,
)
_AFTER_LETTER = re.compile(
    r"(?:is (?:the )?(?:most )?(?:right|correct|best|appropriate|answer)(?: (?:answer|option|choice|one))?"
    r"(?:,? (?:as|because|since)\b.*)?|(?:is|would be) my (?:answer|choice|pick)|is what i(?:'d| would) (?:choose|pick|say)|(?:fits|matches)\b[\w ]{0,30}"
    r"|ist richtig|ist korrekt|est (?:la bonne|correcte?)|es (?:la )?correcta|it is|, definitely|, (?:because|since|as)\b.*|(?:because|since)\b.*)?",
    re.IGNORECASE | re.DOTALL,
)
_RIGHT = r"(?: is)? ?:?(?:is )?(?:the )?(?:right|correct|是?正确|是?正確|가 정답|consistent with\b[\w ]{0,30})"


@lru_cache(maxsize=4096)
def chooser(choices: tuple[tuple[str, str], ...]) -> Chooser:
    """The reader for (letter, text) pairs; made once for all replies to a question."""
    return Chooser(dict(choices))


class Chooser:
    """Reads statements about given choices. Statements are tidied text; time is linear in their length."""

    def __init__(self, choices: Mapping[str, str]) -> None:
        self.letters = tuple(choices)
        self.texts = {letter: normalised(tidied(text)) for letter, text in choices.items()}
        self._folded = {letter: " ".join(tidied(text).casefold().split()) for letter, text in choices.items()}
        by_text: dict[str, list[str]] = {}
        for letter, text in self.texts.items():
            by_text.setdefault(text, []).append(letter)
        self._by_text = by_text
        self._yes_no = {text: letters[0] for text, letters in by_text.items() if text in ("yes", "no")}
        self._letter = "(?:" + "|".join(re.escape(letter) for letter in sorted(choices, key=len, reverse=True)) + ")"
        one = self._letter
        self._mark = re.compile(rf"[(\[\"']{{0,2}}({one})(?:[\"']?[)\].:]{{1,3}}| ?[-–—] |, |,$| ?[)\]:])\s?")  # noqa: RUF001
        self._option = re.compile(rf"[(\[]?({one})[)\].:]{{1,2}} ?")
        self._bare = re.compile(rf"({one}) (?=\S)")
        self._first = re.compile(rf"[(\[\"']{{0,2}}({one})(?![{_WORD}])[)\]\"']{{0,2}}")
        self._another = re.compile(rf"\s?(?:[,/&+;]|or\b|and\b|nor\b)?\s?(?:option )?[(]?({one})(?![{_WORD}])")
        self._phrase = re.compile(rf"[(\[\"']{{0,2}}({one})(?![{_WORD}&])[)\]\"'.:]{{0,3}} ?", re.IGNORECASE)
        self._ending = re.compile(
            rf"(?:[(,] ?(?:(?i:option|choice|answer|letter) )\(?({one})\)?|\(({one})\))[.!]?\s?\Z"
        )
        self._verdict = re.compile(
            rf"(?<![\w'-])(?<!and )(?<!or )(?<!& )(?<!and \()\(?({one})(?![\w'&-])[).:]?(?: 选项)?{_RIGHT}",
            re.IGNORECASE,
        )
        self._correct = re.compile(rf"(?<![^\W_])correct: ?\(?({one})(?![\w'&-])", re.IGNORECASE)
        several = rf"\(?{one}\)?(?:, ?\(?{one}\)?)*(?:,? (?:and|or) \(?{one}\)?)?"
        self._denied = re.compile(
            rf"[,;(] ?(?:and |but )?not (?:option )?{several}(?![{_WORD}])\)?"
            rf"|(?<=[.;] )(?:options? )?{several} (?:is|are)(?: all| both)? (?:clearly )?(?:wrong|incorrect)(?![{_WORD}])"
        )
        self._but = re.compile(rf"not (?:option )?{one},? but (?:rather )?(?:option )?\(?({one})(?![{_WORD}])\)?\W*\Z")
        self._closing = re.compile(
            rf"(?i:\bleaves|, so|\b(?:i'm|i am) going with|\b(?:i|we)(?:'d|'ll| would| will)? (?:choose|pick|select|say|go with)) (?:option )?"
            rf"\(?({one})\)?(?: here)?[.!]?\s?\Z"
        )
        self._named = self._text_pattern()

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
                pattern = rf"(?<=the ){text}(?![{_WORD}])"
            elif _NUMBER.fullmatch(text) or text.startswith(("$", "€", "£")):
                words = [word for word, value in NUMBER_WORDS.items() if str(value) == text and value > 1]
                pattern = "|".join([written, *words])
                pattern = rf"(?<![\w.,:/$€£%+*=-])(?<![+*/-] )(?<!step )(?<!image )(?<!figure )(?<!picture )(?<!option )(?:{pattern})(?![\w'%°-])(?![.,:/]\d| ?[%+*/=°])"
            else:
                noun = bool(_ARTICLE.match(self._folded[letter]))
                article, end = (r"(?:(?:an?|the|one) )", _NOUN_ENDS) if noun else ("", rf"(?![{_WORD}])")
                pattern = rf"(?<![{_WORD}]){article}{written}{end}"
            forms.append((len(text), letter, pattern))
        forms.sort(key=lambda form: -form[0])
        if not forms:
            return None
        self._groups = {f"o{i}": letter for i, (_, letter, _) in enumerate(forms)}
        return re.compile("|".join(f"(?P<o{i}>{pattern})" for i, (_, _, pattern) in enumerate(forms)), re.IGNORECASE)

    def statement(self, said: str, *, led: bool) -> str | None:
        """The letter that a statement names, `UNDECIDED`, or None where it says nothing of the choices.

        `led` is a statement after words that announce an answer, which allow more after the letter.
        """
        letter = self.firmly(said, led=led)
        return self.by_words(said, led=led) if letter is None else letter

    def firmly(self, said: str, *, led: bool = False) -> str | None:
        """As `statement`, where the letter itself is written or the statement is an option's text."""
        said = self._denied.sub("", said)
        bare = _core(said)
        if "?" not in said and (lone := self.lone(bare)) is not None:
            return lone
        if (exact := self._exact(said)) is not None:
            return exact
        if self._yes_no and (plain := yes_or_no(said)) is not None and plain in self._yes_no:
            return self._yes_no[plain]
        start = said.lstrip(" .,:;!?\n")
        if len(self.listed(start)) > 1:
            return UNDECIDED
        for read in (self._marked, self._beside):
            if (letter := read(start)) is not None:
                return letter
        if led and (letter := self._led(start)) is not None:
            return letter
        return self._phrased(said)

    def lone(self, bare: str) -> str | None:
        """The letter that a bare word is, in either case unless both are letters."""
        if bare in self.texts:
            return bare
        if len(words := set(bare.split())) == 1 and bare not in words:
            return self.lone(words.pop())  # "B B"
        same = [letter for letter in self.letters if letter.lower() == bare.lower()]
        return same[0] if len(same) == 1 else None

    def named(self, text: str) -> set[str]:
        """The letters of the options whose texts stand in a text; of one within another only the longer counts."""
        found: set[str] = set()
        for match in self._named.finditer(text) if self._named else ():
            found.update(self._by_text[self.texts[self._groups[match.lastgroup or ""]]])
        return found

    def verdicts(self, text: str) -> set[str]:
        """The letters that a text calls right ("B is right, C is wrong")."""
        if self._by_text.keys() & {"right", "correct"}:
            return set()
        found = {
            self.lone(match[1]) or match[1] for match in self._verdict.finditer(text) if _closed(text, match.end())
        }
        return found | {match[1] for match in self._correct.finditer(text) if match[1] in self.texts}

    def _exact(self, said: str) -> str | None:
        normal = normalised(said)
        letters = self._by_text.get(normal)
        if letters is None:
            number = value_of_number(normal)
            squeezed = "".join(normal.split())
            letters = [
                letter
                for letter, text in self.texts.items()
                if (number is not None and not normal.endswith("%") and value_of_number(text) == number)
                or (not squeezed.isalnum() and "".join(text.split()) == squeezed)
            ]
        elif (article := _ARTICLE.match(said)) and article[0].strip() in self.texts and article[0].islower():
            if article[0].strip() != letters[0] and not _ARTICLE.match(self._folded[letters[0]]):
                return UNDECIDED  # "a glass", where a is another choice
        return None if not letters or not normal else letters[0] if len(letters) == 1 else UNDECIDED

    def listed(self, said: str) -> set[str]:
        """The letters that stand before their own texts, as in a list of the options."""
        listed: set[str] = set()
        for match in self._option.finditer(said):
            if self._starts(said[match.end() : match.end() + 400]) == {match[1]}:
                listed.add(match[1])
        return listed

    def _starts(self, said: str) -> set[str]:
        """The letters of the longest option text that a text begins with."""
        head = " ".join(said.casefold().split()).lstrip("\"'( ")
        best, letters = 0, set[str]()
        for letter, text in self.texts.items():
            for form in {self._folded[letter], text}:
                if form and head.startswith(form) and not re.match(rf"[{_WORD}]|\.\d", head[len(form) :]):
                    if len(form) >= best:
                        letters = letters | {letter} if len(form) == best else {letter}
                    best = max(best, len(form))
        return letters

    def _marked(self, said: str) -> str | None:
        """A letter with a mark after it, at the beginning: what follows must not be another option's text."""
        match = self._mark.match(said)
        if match is None:
            return None
        letter, rest = match[1], said[match.end() :]
        apart = match[0][-1:].isspace() or not rest
        line = rest.partition("\n")[0].strip()
        if ", " in match[0] and re.match(r"(?:because|since|as|因为|由于)\b|因为", line):
            return letter
        starts = self._starts(line)
        if starts:
            return letter if letter in starts else UNDECIDED
        if not line or (match[0].endswith("\n")):
            return letter
        if not apart and match[0][-1:] not in ")]\"'":
            return None
        first = sentences_first(line)
        if re.match(r"(?:or|and|nor)\b|[&/]", line) or self._another.match(line) or _HEDGE.search(first):
            return UNDECIDED
        if re.match(rf"(?:is |was )?(?:{_WRONG})", line, re.IGNORECASE) or said.rstrip().endswith("?"):
            return UNDECIDED
        if self._option.search(line) or letter.isdigit() or "if" in first.split():
            return UNDECIDED if not letter.isdigit() else None
        others = self.named(first) - {letter}
        if others and not _UNLIKE.search(first):
            return UNDECIDED
        if ", " in match[0]:
            return letter if _AFTER_LETTER.fullmatch(f", {line}".rstrip(" .!")) else None
        return letter if len(line.split()) > 2 or letter in self.named(first) else None

    def _beside(self, said: str) -> str | None:
        """A letter right before the option's text, or after it."""
        if (bare := self._bare.match(said)) and self._starts(said[bare.end() :]):
            starts = self._starts(said[bare.end() :])
            alone = normalised(said[bare.end() :]) in self._by_text
            if bare[1] in starts and alone:
                return bare[1]
        line = sentences_last(said)
        if ending := self._ending.search(line[-200:]):
            letter = ending[1] or ending[2]
            named = self.named(line) | self._starts(line)
            if named:
                return letter if named == {letter} and not _UNLIKE.search(line) else UNDECIDED
        return None

    def _led(self, said: str) -> str | None:
        if but := self._but.match(said):
            return but[1]
        first = self._first.match(said)
        if first is None:
            if small := re.match(r"\(?([a-z])\)?(?:[.,:] |[.)]?\Z)", said):
                return self.lone(small[1])
            return UNDECIDED if re.match(r"(?:\w+ )?(?:not|cannot|neither|either|both|n't)\b", said, re.I) else None
        letter, rest = first[1], said[first.end() :]
        if (again := self._another.match(rest)) and again[1] != letter:
            return UNDECIDED
        if re.match(r"\s?(?:or|and|nor)\b|[/&+]", rest):
            return UNDECIDED
        bracketed = first[0] != letter
        if not bracketed and re.match(r" (?!because\b|since\b|as\b|is\b|if\b|so\b|which\b|选项|正确)\w", rest):
            if letter in ("A", "I", "a") or letter.isdigit() or letter.islower():
                return None
        clause = sentences_first(rest)
        starts = self._starts(rest.lstrip(" ,:.-"))
        if starts and letter not in starts:
            return UNDECIDED
        if re.search(r"\bif\b|\?", clause) or re.match(rf" (?:is )?(?:{_WRONG})", rest):
            return UNDECIDED
        return letter

    def _phrased(self, said: str) -> str | None:
        """A sentence that says little more than a letter: "I would choose (B)", "B is correct"."""
        bare = said.strip(" .,:;!\"'`_\n$").lstrip("([") if len(said) <= 1000 else said
        before = _BEFORE_LETTER.match(bare)
        assert before is not None  # it may be empty
        phrase = self._phrase.match(bare, before.end())
        if phrase is None or "?" in said:
            return None
        letter = self.lone(phrase[1])
        lead = bare[: before.end()].rstrip().lower()
        if letter != phrase[1] and not lead.endswith(("option", "choice", "letter", "answer")):
            return None
        rest = bare[phrase.end() :]
        if rest.strip(" )].") and not lead and re.match(r"is right", rest) and "right" in self.texts.values():
            return UNDECIDED
        if _AFTER_LETTER.fullmatch(rest.rstrip(" )].")):
            return letter
        if lead.endswith(("option", "choice", "letter", "answer")) and (said := self._by_text.get(normalised(rest))):
            return letter if letter in said else UNDECIDED
        if lead.endswith(("option", "letter")) and re.match(r", that is", rest):
            return letter if self.named(rest) in ({letter}, set()) else UNDECIDED
        return None

    def closing(self, sentence: str) -> str | None:
        """The letter that a sentence ends by choosing ("..., so I'd choose B.")."""
        return match[1] if (match := self._closing.search(sentence[-200:])) else None

    def by_words(self, said: str, *, led: bool = False) -> str | None:
        """The one option whose text stands in a short plain sentence."""
        said = said.strip()
        named = self.named(said)
        if len(named) != 1 or self._named is None:
            return UNDECIDED if named else None
        (letter,) = named
        masked = " ".join(self._named.sub("∎", said).split())
        if len(masked.split()) > _MOST_WORDS or len(said) > _LONGEST:
            return UNDECIDED
        if (
            _UNLIKE.search(masked)
            or _NUMBER.search(masked)
            or re.search(r"∎ (?:and\b|&)|\band (?:an? |the )?∎", masked)
        ):
            return UNDECIDED
        rest = _FILLER.sub("", masked.replace("∎", ""))
        if rest and (
            marked := re.search(rf"(?<!\w)\(?({self._letter})(?:[).:](?: |(?=∎)|\Z)|\Z)", masked.rstrip(" ."))
        ):
            before = masked[marked.end() :].startswith("∎") and marked[1] == letter
            return letter if before else UNDECIDED
        counted = value_of_number(self.texts[letter]) is not None and re.fullmatch(r"∎ [^\W\d_]{3,}[.!]?", masked)
        plain = _PLAIN.search(masked) or counted or (not rest.isascii() and _EASTERN.search(masked))
        return letter if not rest or plain else None


_EAST_ONLY = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af ]+")


def sentences_first(text: str) -> str:
    """The beginning of a text up to the end of its first sentence."""
    return re.split(r"(?<=\w\w)[.!]\s|\n", text, maxsplit=1)[0]


def sentences_last(text: str) -> str:
    """The last line of a text, if it is short."""
    return text.rstrip().rpartition("\n")[2]


def _closed(text: str, position: int) -> bool:
    """Whether a clause ends at a position, or goes on with a reason or with what it is the right one of."""
    return bool(
        re.match(
            r"(?: (?:answer|option|choice|one)|[的答案选项입니다です]{1,3})?(?:\s?[.;!\n]|,? (?:as|because|since)\b|,(?! I)|\s?\Z)",
            text[position:],
        )
    )


def _core(text: str) -> str:
    """A text without the marks around it, those kept that may be a part of a name ("C++", "A-")."""
    start, end = 0, len(text)
    while start < end and not text[start].isalnum() and text[start] not in _KEPT:
        start += 1
    while end > start and not text[end - 1].isalnum() and text[end - 1] not in _KEPT:
        end -= 1
    return text[start:end]
