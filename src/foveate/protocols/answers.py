"""Reading the answer in a reply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from foveate.protocols.choosing import Chooser, chooser
from foveate.protocols.final import Marked, final_answer, keyed_answer, marked_answers
from foveate.protocols.options import UNDECIDED
from foveate.protocols.tree import after_thoughts, spoken
from foveate.protocols.withheld import after_taking_back, announces_another, conditional, marked_is_denied
from foveate.protocols.wording import led_statements, sentence_before, sentences, tidied

_LEAD = re.compile(r"\banswer[*_\"']{0,3}\s{0,3}(?:is|would be|should be|must be|:|=)[:*_\s]{0,8}", re.IGNORECASE)
_ASIDE = ("tool_call", "tool_response", "tool_result")
_CODE = re.compile(r"```(?:python|py)\b")
_CUT_OFF = re.compile(r"(?i:\b(?:it is|this is|that is|be|say|pick|choose)|'s)( an?)\Z")
"""An article that a reply breaks off after, where "a" may be a letter too."""
_APART = re.compile(r"[.!?:\n]|\b(?:no|wait|actually|rather|correction)\b", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:(?:la|le|die|el|a|o) )?(?:opción|opção|opzione) |(?:la|le|die|el) (?=\S)")


def parse_answer(text: str, choices: Mapping[str, str] | None) -> str | None:
    r"""The answer in a reply: the letter when there are choices (`extract_choice`), else the text of the final answer.

    That is what stands in the last `\boxed{}`, or else in the last `<answer>`, or else under the key "answer" of an
    object, or else after the last "the answer is"; the whole reply where there is no such thing. None when there is no
    text. Thoughts (`<think>`) are no part of a reply.
    """
    if choices is not None:
        return extract_choice(text, choices)
    final = final_answer(after_thoughts(text))
    if final is None:
        text = spoken(text)
        final = keyed_answer(text)
    if final is None:
        final = next((said for said in _led(text) if said), text)
    return final.strip() or None


def _led(text: str) -> Iterator[str]:
    """What follows each "the answer is" on its line and before the next one, the last one first."""
    end = len(text)
    for match in reversed(list(_LEAD.finditer(text))):
        yield text[match.end() : end].partition("\n")[0].strip()
        end = match.start()


def extract_choice(reply: str, choices: Mapping[str, str]) -> str | None:
    r"""The letter of the choice that a reply gives, or None: it is never guessed ("A dog" is not A).

    An explicit answer is preferred, in this order: `\boxed{}`; `<answer>`; the key "answer" of an object; what "the
    answer is" and the like announce, also in other languages. Of two of a kind the later counts ("\boxed{A}. No:
    \boxed{B}" is B), unless both are offered ("\boxed{A} or \boxed{B}"). Where a less explicit statement comes after a
    more explicit one and differs, the reply contradicts itself and is not read. Otherwise the reply as a whole, its
    first or its last line, or its last sentence must say little more than a letter ("B. blue", "I choose (B)"), or it
    calls one letter right ("A is wrong, B is right"), or one option's text, and no other, stands in a short plain
    sentence ("The car is blue.").

    A letter beside the text of another option is not read, nor is what is negated, conditional, compared or asked.
    Thoughts (`<think>`) are no part of a reply; of one that was cut off in its thoughts only a marked answer counts.

    Args:
        reply: what a model wrote; any text.
        choices: the options' texts by letter. Letters may be of either case, or numbers.
    """
    choose = chooser(tuple(choices.items()))
    reply = after_thoughts(reply).rstrip()
    reply = reply[: -len(cut[1])] if (cut := _CUT_OFF.search(reply[-20:])) else reply
    if marked := marked_answers(reply):
        letter = _of_marked(reply, marked, choose)
        if not letter:
            return None
        rest = reply[marked[-1].end :]
        if again := marked_answers(rest):
            return letter if _of_marked(rest, again, choose) == letter else None
        later = _announced(tidied(spoken(_without_asides(rest))), choose)
        return letter if later in (None, letter) else None
    reply = spoken(reply)
    if (keyed := keyed_answer(reply)) is not None:
        return _of_final(keyed, choose) or None
    whole = tidied(_without_asides(reply))
    taken_back = after_taking_back(whole, no=not choose.yes_no)
    letter = _read(whole if taken_back is None else taken_back, choose)
    refused = letter and (choose.opens_otherwise(whole, letter) or choose.struck(whole, letter))
    return letter if letter and not refused else None


def _read(text: str, choose: Chooser) -> str | None:
    """The letter of a text that marks none."""
    if correction := choose.correction(text):
        before, letter = correction
        return letter if _uncorrected(before, choose) in (None, letter) else UNDECIDED
    return _uncorrected(text, choose)


def _uncorrected(text: str, choose: Chooser) -> str | None:
    letter = _announced(text, choose)
    return _of_prose(text, choose) if letter is None else letter


def _of_marked(reply: str, marked: list[Marked], choose: Chooser) -> str | None:
    last = marked[-1]
    letter = _of_final(last.said, choose)
    around = tidied(reply[max(0, last.start - 120) : last.start])
    # The mark may stand for the letter in a sentence: "the wrong answer is \\boxed{A}".
    sentence = sentence_before(f"{around} ")
    led = led_statements(f"{sentence} {letter}") if letter else []
    if led and led[-1].said == letter and announces_another(led[-1].before, led[-1].noun):
        return None
    if marked_is_denied(sentence, tidied(reply[last.end : last.end + 120])):
        return None
    if len(marked) > 1:
        before = marked[-2]
        if not _APART.search(reply, before.end, last.start) and _of_final(before.said, choose) != letter:
            return None
    return letter


def _of_final(said: str, choose: Chooser) -> str | None:
    """The letter in what is marked as the answer: a statement, a phrase that announces one, or prose."""
    text = tidied(said)
    for read in (_announced(text, choose), choose.statement(text, led=True)):
        if read is not None:
            return read
    return _of_prose(text, choose)


def _announced(text: str, choose: Chooser) -> str | None:
    """The letter after the last "the answer is" that says one."""
    for led in reversed(led_statements(text)):
        said = _ARTICLE.sub("", led.said)
        if not said or (said == "a" and said not in choose.letters):  # cut off after an article
            continue
        letter = choose.statement(said, led=True)
        if letter is not None:
            return UNDECIDED if announces_another(led.before, led.noun) else letter
    return None


def _of_prose(text: str, choose: Chooser) -> str | None:
    """The letter of a reply that announces none."""
    lines, parts = text.split("\n"), sentences(text)
    if not parts:
        return None
    if len(listed := choose.listed(text)) > 1:
        verdict = choose.firmly(lines[-1])
        return verdict if verdict in listed and not choose.listed(lines[-1]) else UNDECIDED
    if len({same[0] for part in parts if len(same := choose.options.same(part)) == 1}) > 1:
        return UNDECIDED  # "Right. Left."
    last = parts[-1]
    letter = _by_letter(text, lines, choose)
    if letter is None or (letter == UNDECIDED and choose.closing(last)):
        letter = choose.closing(last)
        if letter and (conditional(last) or choose.says_another(last, letter)):
            return UNDECIDED
    if letter is None:
        letter = choose.firmly(last)
    if letter is None:
        return choose.by_words(last) if choose.options.named(text) == choose.options.named(last) else None
    contradicted = len(parts) > 1 and choose.by_words(last) not in (letter, UNDECIDED, None)
    return UNDECIDED if contradicted else letter


def _by_letter(text: str, lines: list[str], choose: Chooser) -> str | None:
    """The letter that the text, its first or last line, or a verdict gives."""
    whole = choose.firmly(text)
    if whole or (whole == UNDECIDED and len(lines) == 1):
        return whole
    firm = {letter for line in (lines[0], lines[-1]) if (letter := choose.firmly(line))}
    alone = {letter for line in lines if (letter := choose.lone(_bare(line)))}
    said = (firm | alone if len(alone) > 1 else firm) or alone or choose.verdicts(text)
    return None if not said else said.pop() if len(said) == 1 else UNDECIDED


def _bare(line: str) -> str:
    return line.strip(" .,:;!\"'()[]")


def _without_asides(text: str) -> str:
    """The reply without calls of tools, what tools returned, and code."""
    for name in _ASIDE:
        parts = re.split(rf"<{name}>", text)
        text = "\n".join([parts[0], *(part.partition(f"</{name}>")[2] for part in parts[1:])])
    parts = _CODE.split(text)
    return "\n".join([parts[0], *(part.partition("```")[2] for part in parts[1:])])
