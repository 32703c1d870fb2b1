"""Whether a model looks, as `foveate probe` asks it: its answers under every probe, and what crops give and cost it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from foveate.episodes import Group, StopReason, run_episodes
from foveate.evaluation.gains import Gains, gains
from foveate.evaluation.looking import Looking, looking
from foveate.evaluation.probes import Probed, Prober
from foveate.generators.base import Generator, Sampling
from foveate.protocols.base import Protocol
from foveate.protocols.direct import Direct
from foveate.questions.schema import Question
from foveate.rewards import accuracy


@dataclass(frozen=True, slots=True)
class ModelLook:
    """What was found, question by question and in all. Every sequence is in the order of the questions.

    Attributes:
        probed: each question under every probe.
        zoomed: whether the model's own protocol came to the right answer; None without a reply.
        direct: likewise, asked directly about the small view.
        looking: what the probes say together.
        gains: what crops give and cost.
    """

    probed: tuple[Probed, ...]
    zoomed: tuple[float | None, ...]
    direct: tuple[float | None, ...]
    looking: Looking
    gains: Gains

    def to_json(self) -> dict[str, Any]:
        """The figures, without the single questions."""
        return {**self.looking.to_json(), "gains": self.gains.to_json()}


def probe_model(
    questions: Sequence[Question],
    protocol: Protocol,
    generator: Generator,
    *,
    max_new_tokens: int = 256,
    seed: int = 0,
    at_once: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> ModelLook:
    """Asks each question by the protocol, asks its answer turn again under every probe, and asks it directly. Greedy.

    The three are separate: an evaluation that has its episodes already calls `Prober` and `asked` itself, and puts the
    values together with `looking` and `gains`.

    Args:
        questions: with their true regions, where there are any; episodes do not see them.
        protocol: by which the model is asked.
        generator: who answers.
        max_new_tokens: per turn.
        seed: of what probes draw, and of the bootstrap.
        at_once: questions whose originals are held in memory at the same time.
        on_progress: reports each question twice, since it is asked in two ways.

    Raises:
        ImageError: a picture cannot be used.
    """
    sampling = Sampling(0.0, max_new_tokens)
    prober = Prober(protocol, generator, max_new_tokens=max_new_tokens, seed=seed, at_once=at_once)
    probed: list[Probed] = []
    zoomed: list[float | None] = []
    for groups in _episodes(questions, protocol, generator, sampling, seed, at_once):
        zoomed += [_right(group) for group in groups]
        probed += prober.probe(groups)
        if on_progress:
            on_progress(len(groups))
    plain = directly(protocol)
    direct = asked(questions, plain, generator, sampling, seed=seed, at_once=at_once, on_progress=on_progress)
    return ModelLook(
        probed=tuple(probed),
        zoomed=tuple(zoomed),
        direct=direct,
        looking=looking(probed, seed=seed),
        gains=gains(direct, zoomed, seed=seed),
    )


def asked(
    questions: Iterable[Question],
    protocol: Protocol,
    generator: Generator,
    sampling: Sampling,
    *,
    seed: int = 0,
    at_once: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[float | None, ...]:
    """Whether each question is answered right: 1, 0, or None without a reply. Nothing is kept of the episodes."""
    right: list[float | None] = []
    for groups in _episodes(questions, protocol, generator, sampling, seed, at_once):
        right += [_right(group) for group in groups]
        if on_progress:
            on_progress(len(groups))
    return tuple(right)


def directly(protocol: Protocol) -> Direct:
    """One turn about the full image under the pixel budget that the protocol first shows it under."""
    return Direct(view_budget=getattr(protocol, "view_budget", None))


def _episodes(
    questions: Iterable[Question],
    protocol: Protocol,
    generator: Generator,
    sampling: Sampling,
    seed: int,
    at_once: int,
) -> Iterator[list[Group]]:
    """One episode of each question, chunk by chunk; none of them saw a true region, which the groups have."""
    remaining = iter(questions)
    while chunk := list(islice(remaining, at_once)):
        bare = [question.without_annotations() for question in chunk]
        groups = run_episodes(bare, protocol, generator, sampling=sampling, seed=seed, at_once=at_once)
        yield [Group(question, group.episodes) for question, group in zip(chunk, groups, strict=True)]


def _right(group: Group) -> float | None:
    [episode, *_] = group.episodes
    return None if episode.stop is StopReason.FAILED else accuracy(episode)
