"""Whether answers are right: they match the expected one, or a judge, where there is one, says they mean the same.

A letter is right or wrong; only open answers have tolerance or a judge. What a judge did not decide is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveate.context import Context
from foveate.episodes import Episode, Group
from foveate.generators.base import Generator, Request, Sampling
from foveate.protocols.base import Completion, FinishReason
from foveate.protocols.matching import is_right, yes_or_no
from foveate.questions.schema import Question
from foveate.rewards import accuracy

_LONGEST_VERDICT = 2048
"""Tokens. Most judges need one; those that think first need more."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Whether one answer is right, and whether a judge said so.

    Attributes:
        right: None where it needed a judge that gave no verdict; `problem` says why.
    """

    right: bool | None
    judged: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """Marks answers.

    Attributes:
        tolerance: by how much a number may differ, relative to the expected one.
        judge: asked whether an open answer that does not match means the same; nobody where None.

    Raises:
        ValueError: a negative tolerance.
    """

    tolerance: float = 0.0
    judge: Generator | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}: a share of the number, 0 to 1")

    def setup(self) -> dict[str, Any]:
        """What a score depends on, where it is not plain matching."""
        judged = {"judge": {"identity": self.judge.identity, "prompt": _PROMPT}} if self.judge else {}
        return {**({"tolerance": self.tolerance} if self.tolerance else {}), **judged}

    def marks(self, groups: Sequence[Group]) -> list[tuple[Mark, ...]]:
        """The marks of each group's episodes; the judge is asked about all of them at once, about equal ones once."""
        matched = [[self._matches(group.question, episode) for episode in group.episodes] for group in groups]
        asked: dict[tuple[str, str, str], Context] = {}
        for group, rights in zip(groups, matched, strict=True):
            for episode, right in zip(group.episodes, rights, strict=True):
                if not right and self._may_be_judged(group.question, episode):
                    asked.setdefault(_case(group.question, episode), _context(group.question, episode))
        verdicts = dict(zip(asked, self._verdicts(list(asked.values())), strict=True))
        return [
            tuple(
                verdicts.get(_case(group.question, episode), Mark(False)) if not right else Mark(True)
                for episode, right in zip(group.episodes, rights, strict=True)
            )
            for group, rights in zip(groups, matched, strict=True)
        ]

    def _matches(self, question: Question, episode: Episode) -> bool:
        if question.choices is not None:
            return bool(accuracy(episode))
        return is_right(episode.answer, question.answer, self.tolerance)

    def _may_be_judged(self, question: Question, episode: Episode) -> bool:
        return self.judge is not None and question.choices is None and episode.answer is not None

    def _verdicts(self, contexts: Sequence[Context]) -> list[Mark]:
        if self.judge is None or not contexts:
            return []
        replies = self.judge.generate([Request(context, (0,)) for context in contexts], Sampling(0.0, _LONGEST_VERDICT))
        return [_verdict(reply) for [reply] in replies]


_PROMPT = """\
Somebody was asked a question about a picture. Say whether the answer given means the same as the right answer. \
Another wording, spelling or unit is the same; another thing, number or place is not. Do not answer it yourself.

Question: {question}
Right answer: {expected}
Answer given: {answer}

Reply with one word, yes or no."""


def _case(question: Question, episode: Episode) -> tuple[str, str, str]:
    return question.text, question.answer, episode.answer or ""


def _context(question: Question, episode: Episode) -> Context:
    asked, expected, answer = _case(question, episode)
    return Context.user(_PROMPT.format(question=asked, expected=expected, answer=answer))


def _verdict(reply: Completion) -> Mark:
    if reply.finish_reason is FinishReason.FAILED:
        return Mark(None, judged=True, problem=f"the judge did not answer: {reply.text}")
    said = yes_or_no(reply.text.rpartition("</think>")[2], existence=False)
    if said is None:
        return Mark(None, judged=True, problem=f"the judge said neither yes nor no: {reply.text[:80]!r}")
    return Mark(said == "yes", judged=True)
