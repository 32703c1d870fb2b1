"""What keeps a stated answer from being the answer that a reply gives: negated, earlier, another, taken back."""

from __future__ import annotations

import re

from foveate.protocols.sentence import UNFIT
from foveate.protocols.wording import first_sentence

_IF_ASKED = re.compile(r"\bif (?:i|you) (?:had|have|must|want|were asked)[\w ]{0,30},?", re.IGNORECASE)
_IF = re.compile(
    r"\b(?:if|whether|unless)\b|\A\W*(?:were|had|should) (?:it|this|that|the|i|we|you|he|she|they)\b", re.IGNORECASE
)
_DENIED = re.compile(
    r"\b(?:not|never|cannot|could|might|may|doubt\w*|claim\w*|no longer|no (?:reason|evidence|way|proof)|disagree"
    r"|den(?:y|ies)|refuse|hesitate|nobody|no one|suppos\w+|imagine|pretend|assum\w+|used to|thought|believed|guessed"
    r"|wondered|wrong|incorrect|false|untrue|unlikely|improbable|implausible|impossible|mistake\w*|error|would have"
    r"|instead|thinks|believes|guesses)\b|n't\b|不$",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"\b(?:told|said|says?|initially|first|before|earlier|previously|formerly|had|why|people|everyone|someone|some"
    r"|others?|user|reader|expects?|format)\b|\bor (?:maybe |perhaps |possibly )?(?:the )?(?:correct |right )?$",
    re.IGNORECASE,
)
"""What says who else gave an answer, or when; before a mark such words say more often what was asked about."""
_INSTANCE = re.compile(
    r"\b(?:e\.?g\b|for instance|(?:in|for) (?:the|this|an?|my) example|example:|question \d)", re.IGNORECASE
)
"""The answer of an example, or of one question of several."""
_NO_DOUBT = re.compile(r"\b(?:no|without(?: an?y?)?|beyond) doubt\b", re.IGNORECASE)
_REFUSED = re.compile(
    r"\b(?:tempt\w*|retract\w*|withdraw\w*|reject\w*|rul(?:e|ed|ing) out|eliminat\w+|exclud\w+|avoid\w*|dismiss\w*"
    r"|discard\w*|discount\w*|forget|cross\w* out|nothing|none|neither|nor|hardly|doubtful|questionable)\b",
    re.IGNORECASE,
)
_I_SAY = re.compile(r"\b(?:i|we)(?:'d| would| can| could| do| must)? (?:now )?(?:confidently )?say\b", re.IGNORECASE)
_NOT_BUT = re.compile(r"\b(?:not|n't)\b[^.;!?\n]{1,60}\bbut\b", re.IGNORECASE)
_SO = re.compile(r"(?:[,;] ?| )(?:and )?(?:so(?! \w+ that)|thus|therefore|hence|which means|meaning)\b", re.IGNORECASE)
_SUBORDINATE = re.compile(r"\W*(?:since|(?:even )?though|although|while|because|as|given|based on|despite)\b.*,", re.I)
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_ENGLISH = frozenset(
    "answer ans option choice pick letter selected selection output result prediction solution conclusion".split()
)
_THE = frozenset("the my your our this that its their".split())
_ONE_OF_MANY = frozenset("a an one another some any other no which what".split())
_FIT = frozenset(
    "final correct right best only most likely appropriate suitable probable plausible accurate reasonable "
    "closest nearest logical selected chosen resulting overall single true actual real one valid proper "
    "complete full short direct exact model model's user's multiple choice multiple-choice letter option "
    "answer remaining matching intended definitive conclusive very more better clear obvious concluding "
    "ultimate definite best-fitting fitting consistent".split()
)
_LINKS = frozenset("so thus therefore hence and then is be that think believe say conclude conclusion here now".split())
_FOREIGN_UNFIT = re.compile(
    r"\b(?:falsch\w*|mauvaise?|fausse|incorrect[aeo]?|errad[ao]|sbagliat[ao]|неправильн\w+|неверн\w+|salah)\b|错|誤|오답",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"[\"')\]]*,? (?=[a-z])([a-z]+)")
_REASONS = frozenset(
    "because since as for given based due in on so which that where with from by it the i this and here a an its there "
    "not".split()
)
_APPROVED = r"(?:clearly |definitely )?(?:what i|correct|right|best|my|the (?:right|correct|best|final|most|answer))"
_AFTER = re.compile(
    rf"[\"')\]]*,? ?(?:(?:is|was) {_APPROVED}"
    r"|if i (?:had|have|must))\b",
    re.IGNORECASE,
)
_UNSURE_AFTER = re.compile(
    r"\b(?:would (?:say|think|be (?:wrong|a mistake))|might say|not sure|unsure|was wrong|is wrong|is incorrect"
    r"|but (?:i|we)(?: would| still|'d)? (?:need|have to|must|should|want|cannot|can't|am not|was wrong)|careless"
    r"|at first|without looking|first thought)\b",
    re.IGNORECASE,
)
_GOVERNS = re.compile(
    r"(?:\bnot|n't|\bnever|\bcannot)(?: (?:be|say|answer|choose|pick|select|is|the answer|option|necessarily)){0,3}"
    r"[\s:\"'(]*\Z"
    r"|\b(?:wrong|incorrect|false|mistake|misleading|careless|hasty)(?: (?:to|if|for))?(?: \w+){0,3}[\s:\"'(]*\Z"
    rf"|\b(?:{UNFIT}) (?:guess|thought|answer|choice|idea|impression) (?:was|is)[\s:\"'(]*\Z"
    r"|\A\W*(?:at first|initially|before|earlier|previously)\b[^.;]*\Z",
    re.IGNORECASE,
)
_REJECTS = re.compile(
    r"[ \"')\]*_$]*\?"
    rf"|[ \"')\]*_$]*(?:,? which )?(?:is|was|would|can|cannot|seems|must|might|may)\b(?! (?:be )?{_APPROVED})"
    r"|[ \"')\]*_$]*(?:isn't|wasn't|can't be)"
    r"|[\s\"')\]*_$.?!]*(?:this|that|it) (?:(?:is|was|would be) (?:wrong|incorrect|false|a mistake)"
    r"|(?:is not|was not|isn't|wasn't|cannot be|can't be) (?:right|correct|it|(?:the|my) answer))",
    re.IGNORECASE,
)
_BACK = re.compile(
    r"(?:(?:(?<=[.,;:!?…\n-])|(?<=[.,;:!?…\n-] )|\A)(?:oh,? |but |and |um,? |hmm,? |no )?"
    r"(?:(?:wait|hold on|sorry|oops|i mean|i meant|i change my (?:answer|mind) to"
    r"|scratch that|correction|let me correct (?:that|myself)|on second thoughts?)\b"
    r"|(no)(?=[.,;:!]|\s?\Z)|(?:actually|rather)(?=[.,;:!]|\s?\Z))"
    r"|,? but (?:on (?:closer (?:inspection|look)|second thoughts?)"
    r"|(?:after|on) (?:zooming in|looking closer|a closer look)"
    r"|in fact|actually|now)\b)[.,;:!?]* ?",
    re.IGNORECASE,
)
"""What takes back what was said before it. "No" and "actually" do so only with a mark after them."""


def conditional(sentence: str) -> bool:
    """Whether a sentence says "if", other than "if I had to choose"."""
    return bool(_IF.search(_IF_ASKED.sub("", sentence)))


def announces_another(before: str, noun: str) -> bool:
    """Whether what its sentence says before "answer is" keeps it from announcing the answer that is given.

    It is not enough that no known word denies it: of the words from "the" to "answer" each must be one that fits the
    answer that is meant ("the most likely answer", not "the distractor answer").

    Args:
        before: what the sentence says before the announcement.
        noun: the word that announces ("answer"); before one that is not English only known words deny.
    """
    if _INSTANCE.search(before):
        return True
    before = _NOT_BUT.sub("", _IF_ASKED.sub("", before))
    before = before.rpartition(";")[2]
    if _SUBORDINATE.match(before):
        before = before.rpartition(",")[2]
    if not _IF.search(before):
        before = _SO.split(before)[-1]
    if _FOREIGN_UNFIT.search(before):
        return True
    words = [word.lower() for word in _WORD.findall(re.split(r"[.,;:!?()\n\"]", before)[-1])]
    if noun in _ENGLISH:
        while words and (words[-1] in _FIT or words[-1].isdigit()):
            words.pop()
        if words and words[-1] in _ONE_OF_MANY | frozenset(("least", "less", "next", "second")):
            return True
        if words and before.isascii() and words[-1] not in _THE | _LINKS:
            return True
        if "least" in before.lower().split() or "less" in before.lower().split():
            return True
    return _unsaid(before) or bool(_ELSEWHERE.search(_I_SAY.sub("", before)))


def _unsaid(before: str) -> bool:
    """Whether a word before a statement keeps it from being one of what is so."""
    before = _NO_DOUBT.sub("", _I_SAY.sub("", before))
    return bool(_IF.search(before) or _DENIED.search(before) or _REFUSED.search(before))


def withdrawn_after(rest: str) -> bool:
    """Whether what follows the letter of an announced answer makes another statement of it."""
    goes_on = _GOES_ON.match(rest)
    apart = goes_on is not None and goes_on[1] not in _REASONS and not _AFTER.match(rest)
    return bool(apart or _UNSURE_AFTER.search(first_sentence(rest)))


def marked_is_denied(before: str, after: str) -> bool:
    r"""Whether the sentence around a marked answer denies it: "not \boxed{A}", "<answer>A</answer> is wrong"."""
    before = _IF_ASKED.sub("", _NOT_BUT.sub("", before))
    clause = re.split(r"[,:;]|[.!] ", _SO.split(before)[-1])[-1]
    return bool(_IF.search(before) or _unsaid(clause) or _GOVERNS.search(before) or _REJECTS.match(after[:80]))


def after_taking_back(text: str, *, no: bool) -> str | None:
    """What follows the last place where a text takes back what it said; None where it does not.

    `no` is whether a "no" does so: where the options are yes and no it is an answer.
    """
    ends = [match.end() for match in _BACK.finditer(text) if no or not match[1]]
    return text[ends[-1] :] if ends else None
