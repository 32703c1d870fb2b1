"""D_RL and D_SFT: the questions of two stages, with none in both (HART, arXiv 2602.23615, stage 2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from foveate.errors import FoveateError
from foveate.questions.lazy import LazyQuestions
from foveate.questions.schema import Question
from foveate.recipes import Split, StageName


class SplitError(FoveateError, ValueError):
    """Questions that cannot be shared out between the stages; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class Part(LazyQuestions):
    """Some questions of a data set, in its order, read when they are asked for."""

    questions: Sequence[Question]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def question(self, place: int) -> Question:
        """The question at a place of the part."""
        return self.questions[self.places[place]]


def split_questions(questions: Sequence[Question], settings: Split) -> dict[StageName, Sequence[Question]]:
    """Shares the questions out, each to one stage.

    Who goes where depends on the seed and the questions' ids alone: not on their order, and for a given count or
    share, hardly on which others there are.

    Raises:
        SplitError: a stage would have no question, or an id is in both parts.
    """
    total = len(questions)
    count = settings.sft_count if settings.sft_count is not None else int(settings.sft_share * total)
    if not 0 < count < total:
        asked = f"sft_count={count}" if settings.sft_count is not None else f"sft_share={settings.sft_share}"
        raise SplitError(
            f"{total} questions cannot be split with split.{asked}: each of the two stages needs at least one"
        )
    ids = [question.id for question in questions]
    order = sorted(range(total), key=lambda place: blake2b(f"{settings.seed}/{ids[place]}".encode()).digest())
    parts: dict[StageName, Sequence[Question]] = {
        "rl": Part(questions, sorted(order[count:])),
        "sft": Part(questions, sorted(order[:count])),
    }
    refuse_shared({"rl": (ids[place] for place in order[count:]), "sft": (ids[place] for place in order[:count])})
    return parts


def ids_of(parts: Mapping[StageName, Iterable[Question]]) -> dict[StageName, list[str]]:
    """The ids of each part's questions."""
    return {stage: [question.id for question in part] for stage, part in parts.items()}


def refuse_shared(ids: Mapping[StageName, Iterable[str]]) -> None:
    """No question may be in both parts.

    Raises:
        SplitError: an id is; the message names it.
    """
    known = set(ids["rl"])
    for name in ids["sft"]:
        if name in known:
            raise SplitError(
                f"question {name!r} is in both D_RL and D_SFT, which must be disjoint: remove it from one of them, or "
                "give different questions different ids"
            )


def record_split(path: Path, ids: Mapping[StageName, Sequence[str]]) -> None:
    """Writes the ids of each part as JSON, or checks that they are those written before.

    Raises:
        SplitError: the run began with other questions, so that one that was trained on could be in the other part now.
    """
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != ids:
            raise SplitError(
                f"the questions of the two stages are not those in {path}: the data or its split has changed since "
                "the run began. Put the data back, or begin a new run"
            )
        return
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(ids, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)
