"""Reward terms: pure functions of one episode. A recipe sums weighted terms, each logged by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from foveate.episodes import Episode
from foveate.protocols.answers import is_right


def accuracy(episode: Episode) -> float:
    """1 for the right answer, else 0: all that HART rewards. Letters are compared exactly, open answers normalised."""
    question = episode.question
    if question.choices is not None:
        return float(episode.answer == question.answer)
    return float(is_right(episode.answer, question.answer))


def format_valid(episode: Episode) -> float:
    """1 when every turn could be read without a problem, else 0."""
    return float(all(turn.problem is None for turn in episode.turns))


TERMS: Mapping[str, Callable[[Episode], float]] = {"accuracy": accuracy, "format": format_valid}
"""Every reward term by the name that recipes use."""


def reward_terms(episode: Episode, weights: Mapping[str, float]) -> dict[str, float]:
    """The value of each term that a recipe names, unweighted.

    Raises:
        KeyError: a name is not in `TERMS`.
    """
    return {name: TERMS[name](episode) for name in weights}


def total_reward(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted sum of the terms."""
    return sum(weights[name] * value for name, value in terms.items())
