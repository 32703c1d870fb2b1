"""Which choice one statement of a reply names, by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from foveate.protocols.matching import normalised, yes_or_no
from foveate.protocols.options import ARTICLE, UNDECIDED, WORD, OptionTexts
from foveate.protocols.sentence import UNLIKE
from foveate.protocols.withheld import withdrawn_after
from foveate.protocols.wording import first_sentence, sentences

_KEPT = frozenset("+#&%/@^~|=\\-")
_HEDGE = re.compile(
    r"\b(?:don't|do not|not sure|unsure|unclear|unknown|uncertain|cannot|can't|unable|impossible|neither|depends)\b",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"\b(?:if|whether|unless|not|cannot|could|might|doubt|said|says?|told|claims?|according)\b|n't\b", re.IGNORECASE
)
"""What makes the statement after it somebody else's, or no statement."""
_ADVERB = re.compile(
    r",? ?(?:most likely|very likely|likely|probably|clearly|definitely|certainly|i (?:think|believe|guess)),? ",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r" (?!because\b|since\b|as\b|is\b|if\b|so\b|which\b|选项|正确)\w")
"""After what may be a word or a number as well as a letter: it is the former."""
_SENTENCE_BEGINS = re.compile(
    r"(?:the|this|that|these|it|its|there|because|since|in|on|at|as|from|to|by|based|looking|we|you|i|he|she|they|an?|my"
    r"|so|here|explanation|reason|while|when|both|all|only|no|not)\b",
    re.IGNORECASE,
)
"""After a letter and a point: what begins a sentence, not a name ("A. Einstein was here")."""
_NO_OR_NOT = re.compile(
    r"\b(?:although|though|but|however|except|if|unless|no(?! (?:doubt|question))|not)\b|n't\b", re.IGNORECASE
)
_TAKEN_BACK = re.compile(
    r"\s?\(?(?:or|and|nor)\b|[/&+]|,? which is (?:not|false|wrong)|\W{0,2}(?:->|=>|→)"
    r"|\s?[(\[](?:wrong|incorrect|false|rejected|unlikely|no|not\b[^)]*)[)\]]",
    re.IGNORECASE,
)
"""Right behind a letter: it is one of several, or not meant."""
_REASON = re.compile(
    r"\W*(?:because|since|as|rather than|instead of|not|over|while|whereas|and not|but not)\b", re.IGNORECASE
)
_NOT_THIS = re.compile(
    r"(?:\bnot|n't) ([^.;,\n]{1,60}?)(?:[.;,]+ (?:but |rather )?(?=it(?:'s| is) )| but (?:rather )?)"
    r"|,? but (?=it(?:'s| is) )",
    re.IGNORECASE,
)
_THAT_IS = r"(?i:i\.e\.?,? |that is,? )"
_WRONG = r"(?:not|n't|wrong|incorrect|false|unlikely|no|never)\b|n't\b"
_BEFORE_LETTER = re.compile(
    r"(?:(?:up)?on (?:zooming in|closer inspection|a closer look),? )?"
    r"(?:(?:so|well|hmm|thus|therefore|hence|sure|yes|definitely|probably|clearly|overall|in summary|in conclusion"
    r"|conclusion|correct|only|out of the four|finally|okay|ok|which leaves|so it must be|all right|alright"
    r"|without (?:a )?doubt|(?:all|everything) considered|(?:assistant|model)(?=:)"
    r"|(?:comparing|between|of) \w and \w)\b[,:]? ?){0,3}"
    r"(?:(?:(?:it is|it's)(?: (?:definitely|clearly|certainly|probably|most likely|likely))?|it must be|it has to be"
    r"|that's|that would be|let me go with|let's go with|(?:i'll )?go(?:ing)? (?:with|for)"
    r"|(?:my )?(?:best )?(?:guess|vote|verdict)(?: is)?(?=:| )|the one that (?:matches|fits) is"
    r"|(?:i'm|i am) going with|(?:i|we)(?: would| will|'d|'ll)? (?:choose|pick|select|go with|go for|say|answer)"
    r"|(?:i|we)(?: would| will|'d)? (?:think|believe|say|guess)(?: that)?(?: it is| it's)?"
    r"|(?:i am|i'm) (?:sure|confident|certain)(?: that)? (?:it's|it is)"
    r"|my (?:final )?(?:answer|choice|pick) (?:is|would be)"
    r"|the (?:correct|right|best|final) (?:one|match|fit|option|choice|answer) is)\b:? ?)?"
    r"(?:the )?(?:(?:correct )?(?:option|choice|answer|letter) ?:? ?)?",
    re.IGNORECASE,
)
_AFTER_LETTER = re.compile(
    r"(?:is (?:the )?(?:most )?(?:right|correct|best|appropriate|answer)(?: (?:answer|option|choice|one))?"
    r"(?:,? (?:as|because|since)\b.*)?|(?:is|would be) my (?:final )?(?:answer|choice|pick)"
    r"|is what i(?:'d| would) (?:choose|pick|say)"
    r"|(?:fits|matches)\b(?! (?:worse|less|least|poorly|badly|neither|none|nothing))[\w ]{0,30}"
    r"|ist richtig|ist korrekt|est (?:la bonne|correcte?)|es (?:la )?correcta|it is|, definitely"
    r"|, (?:because|since|as)\b.*|(?:because|since|as)\b.*|is better)?",
    re.IGNORECASE | re.DOTALL,
)
_RIGHT = r"(?: is)? ?[-:]? ?(?:is )?(?:the )?(?:right|correct|是?正确|是?正確|가 정답|consistent with\b[\w ]{0,30})"


@lru_cache(maxsize=4096)
def chooser(choices: tuple[tuple[str, str], ...]) -> Chooser:
    """The reader for (letter, text) pairs; made once for all replies to a question."""
    return Chooser(dict(choices))


class Chooser:
    """Reads statements about given choices. Statements are tidied text; time is linear in their length."""

    def __init__(self, choices: Mapping[str, str]) -> None:
        self.letters = tuple(choices)
        self.options = OptionTexts(choices)
        self.yes_no = {text: letters[0] for text, letters in self.options.by_text.items() if text in ("yes", "no")}
        self._letter = "(?:" + "|".join(re.escape(letter) for letter in sorted(choices, key=len, reverse=True)) + ")"
        one = self._letter
        either = f"(?i:{one})"
        self._mark = re.compile(rf"[(\[\"']{{0,2}}({either})(?:[\"']?[)\].:]{{1,3}}| ?=| ?[-–—→] |, |,$| ?[)\]:])\s?")  # noqa: RUF001
        self._option = re.compile(rf"(?<![^\W_])[(\[]?({either})(?:[)\].:]{{1,2}}| ?[=→|]| [-–—](?= )) ?")  # noqa: RUF001
        self._bare = re.compile(rf"({one}) (?=\S)")
        self._first = re.compile(rf"[(\[\"']{{0,2}}({one})(?![{WORD}])[)\]\"']{{0,2}}")
        self._another = re.compile(rf"\s?(?:[,/&+;]|or\b|and\b|nor\b)?\s?(?:option )?[(]?({one})(?![{WORD}])")
        self._phrase = re.compile(rf"[(\[\"']{{0,2}}({one})(?![{WORD}&])[)\]\"'.:]{{0,3}} ?", re.IGNORECASE)
        self._ending = re.compile(
            rf"(?:[(,] ?(?:{_THAT_IS}|(?i:hence |thus |so ))?(?:(?i:option|choice|answer|letter) )\(?({either})\)?"
            rf"|\(({either})\)|(?:[,:]| -) {_THAT_IS}?({one}))[.!]?\s?\Z"
        )
        self._verdict = re.compile(
            rf"(?<![\w'-])(?<!and )(?<!or )(?<!& )(?<!and \()\(?({one})(?![\w'&-])[).:]?(?: 选项)?{_RIGHT}",
            re.IGNORECASE,
        )
        self._beside_it = re.compile(
            rf"(?:[;,(→]|->|=>|\b(?:or|and|be|then|rather|reflection|alternatively|maybe|perhaps|possibly)) ?"
            rf"(?:(?:alternatively|on reflection|or rather|maybe|possibly|perhaps|then|or|and|but)\b,? )?"
            rf"(?:(?:could|may|might|can) (?:also )?be )?(?:option )?\(?({one})(?![{WORD}'&-]| [a-z])"
        )
        self._correct = re.compile(rf"(?<![^\W_])correct: ?\(?({one})(?![\w'&-])", re.IGNORECASE)
        several = rf"\(?{one}\)?(?:, ?\(?{one}\)?)*(?:,? (?:and|or) \(?{one}\)?)?"
        self._denied = re.compile(
            rf"[,;(] ?(?:and |but )?not (?:option )?{several}(?![{WORD}])\)?"
            rf"|(?<=[.;] )(?:options? )?{several} (?:is|are)(?: all| both)? (?:clearly )?(?:wrong|incorrect)"
            rf"(?![{WORD}])"
        )
        self._but = re.compile(rf"not (?:option )?{one},? but (?:rather )?(?:option )?\(?({one})(?![{WORD}])\)?\W*\Z")
        self._closing = re.compile(
            rf"(?i:\bleaves|, so|\b(?:matches|corresponds to)|\b(?:i'm|i am) going with"
            rf"|\b(?:i|we)(?:'d|'ll| would| will)? (?:choose|pick|select|say|go with|lean towards?)) (?:option )?"
            rf"\(?({one})\)?(?: here)?[.!]?\s?\Z"
        )

    def statement(self, said: str, *, led: bool) -> str | None:
        """The letter that a statement names, `UNDECIDED`, or None where it says nothing of the choices.

        `led` is a statement after words that announce an answer, which allow more after the letter.
        """
        letter = self.firmly(said, led=led)
        return self.by_words(said) if letter is None else letter

    def firmly(self, said: str, *, led: bool = False) -> str | None:
        """As `statement`, where the letter itself is written or the statement is an option's text."""
        said = self._denied.sub("", said)
        bare = _core(said)
        if "?" not in said and (lone := self.lone(bare)) is not None:
            return lone
        if not said.endswith("?") and (same := self.options.same(said)):
            return same[0] if len(same) == 1 and not self._article_or_letter(said, same[0]) else UNDECIDED
        if self.yes_no and (plain := yes_or_no(said, existence=False)) is not None and plain in self.yes_no:
            against = self.options.named(said) or self._speaks_against(said, plain)
            return UNDECIDED if against else self.yes_no[plain]
        if re.match(r"\W*[A-Z]\.[A-Z](?![^\W_])", said):
            return UNDECIDED  # "D.C." is a name
        if led and (adverb := _ADVERB.match(said)):
            said = said[adverb.end() :]
        start = said.lstrip(" .,:;!?\n")
        if len(self.listed(start)) > 1:
            return UNDECIDED
        for read in (self._marked, self._beside):
            if (letter := read(start)) is not None:
                return letter
        if led and (letter := self._led(start)) is not None:
            return letter
        return self._phrased(said)

    def _speaks_against(self, said: str, plain: str) -> bool:
        """Whether what follows a plain yes or no is another letter ("No. A"), denies it, or makes "no" a number."""
        rest = re.sub(r"\A\W*\w+\W*", "", said)
        for part in (rest, *sentences(rest)[-1:]):
            letter = self.lone(_core(part)) or self._marked(part) or self._phrased(part)
            if letter and letter != self.yes_no[plain]:
                return True
        return bool(_NO_OR_NOT.search(first_sentence(rest)) if plain == "yes" else re.match(r"\d", rest))

    def opens_otherwise(self, text: str, letter: str) -> bool:
        """Whether a text begins with the yes or no of another choice than the one it gives."""
        word = re.match(r"\W*(yes|no)\b(?=\s?[.,;:!\n-])", text, re.IGNORECASE)
        return word is not None and self.yes_no.get(word[1].lower(), letter) != letter

    def struck(self, text: str, letter: str) -> bool:
        """Whether a letter that a text gives is crossed out somewhere in it ("A ❌", "≠ A")."""
        one = re.escape(letter)
        crossed = rf"(?:[≠¬]|!=|(?<!\w)!) ?\(?{one}(?![{WORD}])|(?<![{WORD}]){one}[\"').:*\]]{{0,3}} ?[✗❌✘]"
        return re.search(crossed, text) is not None

    def says_another(self, sentence: str, letter: str) -> bool:
        """Whether a sentence that ends by choosing a letter plainly names another option before it."""
        return bool(self.options.named(sentence) - {letter}) and not UNLIKE.search(sentence)

    def correction(self, text: str) -> tuple[str, str] | None:
        """What a text says before "not A; it is B" or "..., but it is B", and the letter there; None without such."""
        for match in reversed(list(_NOT_THIS.finditer(text, max(0, len(text) - 300)))):
            end = text[match.end() :]
            if (
                "\n" not in end
                and (match[1] is None or self.firmly(match[1]))
                and (said := self.statement(end, led=True))
            ):
                return text[: match.start()], said
        return None

    def lone(self, bare: str) -> str | None:
        """The letter that a bare word is, in either case unless both are letters."""
        if bare in self.letters:
            return bare
        if len(words := set(bare.split())) == 1 and bare not in words:
            return self.lone(words.pop())  # "B B"
        same = [letter for letter in self.letters if letter.lower() == bare.lower()]
        return same[0] if len(same) == 1 else None

    def verdicts(self, text: str) -> set[str]:
        """The letters that a text calls right ("B is right, C is wrong")."""
        if self.options.by_text.keys() & {"right", "correct"}:
            return set()
        found = set[str]()
        for match in self._verdict.finditer(text):
            before = re.split(r"[.,;!?\n]", text[max(0, match.start() - 80) : match.start()])[-1]
            if _closed(text, match.end()) and not _SAID.search(before):
                found.add(self.lone(match[1]) or match[1])
        return found | {match[1] for match in self._correct.finditer(text) if match[1] in self.letters}

    def _article_or_letter(self, said: str, letter: str) -> bool:
        """Whether the article before an option's text may be a letter: "a glass" where a is another choice, "a no"."""
        article = ARTICLE.match(said)
        if article and self.options.texts[letter] in self.yes_no:
            return True
        first = article[0].strip() if article else ""
        return first.islower() and first in self.letters and first != letter and not self.options.has_article(letter)

    def listed(self, said: str) -> set[str]:
        """The letters that stand before their own texts, as in a list of the options."""
        listed: set[str] = set()
        for match in self._option.finditer(said):
            letter = self.lone(match[1])
            if letter and self.options.beginning(said[match.end() : match.end() + 400]) == {letter}:
                listed.add(letter)
        return listed

    def _marked(self, said: str) -> str | None:
        """A letter with a mark after it, at the beginning: what follows must not be another option's text."""
        match = self._mark.match(said)
        if match is None:
            return None
        letter, rest = self.lone(match[1]) or UNDECIDED, said[match.end() :]
        apart = match[0][-1:].isspace() or not rest
        line = rest.partition("\n")[0].strip()
        if ", " in match[0] and re.match(r"(?:because|since|as|因为|由于)\b|因为", line):
            return letter
        starts = self.options.beginning(line)
        if starts:
            return letter if letter in starts else UNDECIDED
        if not line or (match[0].endswith("\n")):
            return letter
        if not apart and match[0][-1:] not in ")]\"'":
            return None
        first = first_sentence(line)
        if re.match(r"(?:or|and|nor)\b|[&/]", line) or self._another.match(line) or _HEDGE.search(first):
            return UNDECIDED
        if re.match(rf"(?:is |was )?(?:{_WRONG})", line, re.IGNORECASE) or said.rstrip().endswith("?"):
            return UNDECIDED
        if self._option.search(line) or letter.isdigit() or "if" in first.split():
            return UNDECIDED if not letter.isdigit() else None
        others = self.options.named(first) - {letter}
        if others and not UNLIKE.search(first):
            return UNDECIDED
        if ", " in match[0]:
            return letter if _AFTER_LETTER.fullmatch(f", {line}".rstrip(" .!")) else None
        if letter in self.options.named(first):
            return letter
        return letter if len(line.split()) > 2 and (match[0][-2:] != ". " or _SENTENCE_BEGINS.match(line)) else None

    def _beside(self, said: str) -> str | None:
        """A letter right before the option's text, or after it."""
        if (bare := self._bare.match(said)) and self.options.beginning(said[bare.end() :]):
            starts = self.options.beginning(said[bare.end() :])
            alone = normalised(said[bare.end() :]) in self.options.by_text
            if bare[1] in starts and alone:
                return bare[1]
        line = _last_line(said)
        if ending := self._ending.search(line[-200:]):
            letter = self.lone(ending[1] or ending[2] or ending[3]) or UNDECIDED
            named = self.options.named(line) | self.options.beginning(line)
            if named and letter:
                plain = not UNLIKE.search(line) or self.options.texts[letter] in self.yes_no
                return letter if named == {letter} and plain else UNDECIDED
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
        if _TAKEN_BACK.match(rest) or self._offers_another(letter, rest):
            return UNDECIDED
        word = letter in ("A", "I") or letter.isdigit() or letter.islower()
        if word and first[0] == letter and _GOES_ON.match(rest):
            return None
        clause = first_sentence(rest)
        starts = self.options.beginning(rest.lstrip(" ,:.-"))
        if starts and letter not in starts:
            return UNDECIDED
        if withdrawn_after(rest) or re.search(r"\bif\b|\?", clause) or re.match(rf" (?:is )?(?:{_WRONG})", rest):
            return UNDECIDED
        return letter

    def _offers_another(self, letter: str, rest: str) -> bool:
        """Whether what follows an announced letter, in its sentence, names another one beside it, and no reason."""
        clause = first_sentence(rest)
        if _REASON.match(clause):
            return False
        return any(other[1] != letter for other in self._beside_it.finditer(clause[:300]))

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
        bracketed = phrase[0].startswith("(") or ")" in phrase[0]
        if letter != phrase[1] and not bracketed and not lead.endswith(("option", "choice", "letter", "answer")):
            return None
        rest = bare[phrase.end() :]
        if rest.strip(" )].") and not lead and re.match(r"is right", rest) and "right" in self.options.texts.values():
            return UNDECIDED
        if _AFTER_LETTER.fullmatch(rest.rstrip(" )].")):
            return letter
        apart = bracketed or rest.startswith(",")
        if (apart or lead.endswith(("option", "choice", "letter", "answer"))) and (same := self.options.same(rest)):
            return letter if letter in same else UNDECIDED
        if lead.endswith(("option", "letter")) and re.match(r", that is", rest):
            return letter if self.options.named(rest) in ({letter}, set()) else UNDECIDED
        return None

    def by_words(self, said: str) -> str | None:
        """As `statement`, for the one option whose text stands in a short plain sentence."""
        return self.options.plainly(said, self._letter)

    def closing(self, sentence: str) -> str | None:
        """The letter that a sentence ends by choosing ("..., so I'd choose B.")."""
        return match[1] if (match := self._closing.search(sentence[-200:])) else None


def _last_line(text: str) -> str:
    """The last line of a text."""
    return text.rstrip().rpartition("\n")[2]


def _closed(text: str, position: int) -> bool:
    """Whether a clause ends at a position, or goes on with a reason or with what it is the right one of."""
    return bool(
        re.match(
            r"(?: (?:answer|option|choice|one)|[的答案选项입니다です]{1,3})?"
            r"(?:\s?[.;!\n]|,? (?:as|because|since)\b|,(?! I)|\s?\Z)",
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
