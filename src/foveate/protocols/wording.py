"""A reply as plain words, without the notation around them; its sentences; and what announces an answer in it."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from foveate.protocols.final import without_wraps

_UNSEEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_EAST = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_MARKS = str.maketrans("。、【】「」『』“”‘’−", '.,[]""""""\'\'-')  # noqa: RUF001
_NOTATION = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?(?:s|br|em|strong|span|p|i|u)\s?/?>|</?b>(?=.)|</[a-z]\w{0,20}>"  # tags
    r"|\\[()\[\],;:! ]|\\(?=\$)|\*|`{1,3}\w{0,10}(?=\n)|`|__"  # LaTeX, Markdown
)
_LINE_START = re.compile(r"^[ \t]*(?:[>#•·→]+[ \t]*|[-–—+=✅][ \t]+)+", re.MULTILINE)  # noqa: RUF001
_BLANKS = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n\s*")
_SENTENCE = re.compile(
    r"(?<=\W[A-Z])\. (?=(?:I|We|So|My|Thus|Therefore|Hence)\b)"
    r"|(?<=[^\W_]{2})[.!?]+[\"')\]]*\s+|(?<=[\"')\]])[.!?]\s+|\n"
)


def tidied(text: str) -> str:
    """The text in compatible characters, one blank at a time, without marks of Markdown, LaTeX and HTML."""
    text = _UNSEEN.sub("", unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).translate(_MARKS))
    text = _NOTATION.sub("", without_wraps(text))
    text = _EAST.sub(r" \g<0> ", text)
    return _LINES.sub("\n", _BLANKS.sub(" ", _LINE_START.sub("", _BLANKS.sub(" ", text)))).strip()


def sentences(text: str) -> list[str]:
    """The sentences of a tidied text, their marks kept; "B. blue" is one."""
    parts, begin = [], 0
    for end in _SENTENCE.finditer(text):
        parts.append(text[begin : end.end()].strip())
        begin = end.end()
    parts.append(text[begin:].strip())
    return [part for part in parts if any(c.isalnum() for c in part)]


_WEST = (
    r"(?<![^\W_])(?:answer|ans|option|choice|conclusion|pick|letter|selected|selection|output|result|prediction|solution"
    r"|antwort|lösung|r[ée]ponse|respuesta|resposta|risposta|ответ|cevap|odpowiedź|jawaban|उत्तर"
    r"|đáp án|الإجابة)"
    r"(?: here| i (?:would )?(?:give|choose|pick)| (?:to|for) (?:the|this|your|that) question"
    r"| correcta| correta| corretta| correcte| finale?)?[_\"']{0,3}(?:, (?:then|therefore|thus|hence),)?\s?"
    r"(?:(?:'s|is|remains|stays|would be|should be|must be|has to be|ist|est|es|é|è)(?![^\W_])"
    r"|:|=|→|\]|\.{3}|-(?= )|\. ?(?=\(?[A-Z]\b)|\n)"
    r"[:_\s]{0,8}"
)
_EASTERN = (
    r"(?:答案|答え|正解|정답|选项|選項|选择|選擇|选|選)(?:应该|应)?(?:是|为|為|选|選|は|은)? ?:? ?(?=[\"'(\[]?\w)"
)
_LEAD = re.compile(f"{_WEST}|{_EASTERN}", re.IGNORECASE)


def sentence_before(text: str) -> str:
    """The beginning of a sentence that a tidied text breaks off in."""
    return _SENTENCE.split(text)[-1]


class Led(NamedTuple):
    """A statement that announces an answer."""

    before: str
    """What its sentence says before, as far back as the announcement before it."""
    noun: str
    """Its first word."""
    said: str
    """What follows on its line and before the next announcement."""


def led_statements(text: str) -> list[Led]:
    """What follows each "the answer is", "option:" and the like in a tidied text, in order."""
    matches = list(_LEAD.finditer(text))
    found, last = [], 0
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for match, end in zip(matches, ends, strict=False):
        said = text[match.end() : end].partition("\n")[0].strip()
        before = sentence_before(text[max(last, match.start() - 120) : match.start()])
        noun = re.match(r"[^\W_]*", match[0].lower())
        found.append(Led(before, noun[0] if noun else "", said))
        last = match.end()
    return found


def first_sentence(text: str) -> str:
    """The beginning of a text up to the end of its first sentence."""
    return re.split(r"(?<=\w\w)[.!]\s|\n", text, maxsplit=1)[0]
