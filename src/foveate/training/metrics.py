"""What is logged of a step's rollouts, from step one: rewards, and the figures in which reward hacking would show."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from foveate.episodes import Episode
from foveate.traces import episode_record
from foveate.training.packing import sampled_count
from foveate.training.update import Scored


def rollout_metrics(scored: Sequence[Scored]) -> dict[str, float]:
    """Means over all episodes of a step: of the rewards, and what `episode_metrics` says."""
    rewards = np.array([reward for one in scored for reward in one.rewards])
    metrics = {"reward": float(rewards.mean()), "reward_std": float(rewards.std())}
    for name in scored[0].terms[0]:
        metrics[name] = float(np.mean([terms[name] for one in scored for terms in one.terms]))
    return metrics | episode_metrics([episode for one in scored for episode in one.group.episodes])


def episode_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Means over episodes; box areas are shares of the image, rates shares of the episodes.

    `boxes_per_episode` is there even when it is 0: a policy that has stopped calling its tool must show.
    """
    located = [turn for episode in episodes for turn in episode.turns if turn.located]
    areas = [area for episode in episodes if (area := episode.box_area) is not None]
    metrics: dict[str, float] = {"boxes_per_episode": sum(len(episode.boxes) for episode in episodes) / len(episodes)}
    if located:
        metrics["valid_boxes"] = sum(bool(turn.boxes) for turn in located) / len(located)
    if areas:
        metrics["box_area"] = float(np.mean(areas))
    metrics["tokens_per_episode"] = sum(map(sampled_count, episodes)) / len(episodes)
    for reason, count in Counter(episode.stop.value for episode in episodes).items():
        metrics[f"stop/{reason}"] = count / len(episodes)
    for problem, count in Counter(turn.problem.value for e in episodes for turn in e.turns if turn.problem).items():
        metrics[f"problem/{problem}"] = count / len(episodes)
    return metrics


def rollout_rows(step: int, scored: Sequence[Scored]) -> Iterator[dict[str, Any]]:
    """One row per episode for the trace file: questions, boxes, text, reward, why it stopped."""
    for one in scored:
        for number, (episode, terms, reward) in enumerate(zip(one.group.episodes, one.terms, one.rewards, strict=True)):
            yield {"step": step, "sample": number, "reward": reward, "rewards": terms, **episode_record(episode)}


class Clock:
    """Seconds per phase of a step."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Ends the phase `name`."""
        now = time.perf_counter()
        self._laps[f"seconds/{name}"] = now - self._last
        self._last = now

    def metrics(self) -> dict[str, float]:
        """`seconds/NAME` of each phase and their sum, `seconds`."""
        return {**self._laps, "seconds": sum(self._laps.values())}
