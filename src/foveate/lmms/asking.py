"""Requests of tasks, asked as episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from foveate.episodes import Episode, run_episodes
from foveate.generators.base import Generator, Sampling
from foveate.jsonl import append_rows
from foveate.lmms.requests import Decoding, TaskRequest, question_of, returned
from foveate.protocols.base import Protocol
from foveate.traces import episode_record


class Reply(NamedTuple):
    """What a task gets, and the tokens that were sampled for it in all turns."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks by one protocol.

    Attributes:
        decode: the text of tokens that the generator sampled.
        max_new_tokens: of each turn, or what the task allows where that is more. Where the task allows less, what it
            gets is cut, to what it would have been under the limit: a turn's own limit could not be the task's, since
            in some protocols nobody knows before a reply whether it is the answer.
        batch_size: questions whose pictures are held in memory, and that are asked, at once.
        traces: a folder to whose files (one JSONL a task) the episodes are appended; None keeps none.
    """

    generator: Generator
    decode: Callable[[Sequence[int]], str]
    protocol: Protocol
    max_new_tokens: int
    batch_size: int = 1
    seed: int = 0
    traces: Path | None = None

    def ask(
        self, requests: Sequence[TaskRequest], *, on_progress: Callable[[int], None] = lambda done: None
    ) -> list[Reply]:
        """A reply to each request, in order. A question that comes again is another episode.

        Args:
            on_progress: called with the number of requests answered since the last call.

        Raises:
            TaskError: a request that cannot be asked.
            ImageError: a picture cannot be used.
        """
        replies: dict[int, Reply] = {}
        names = list(_names(requests))
        by_decoding: dict[Decoding, list[int]] = {}
        for index, request in enumerate(requests):
            by_decoding.setdefault(Decoding.of(request.gen_kwargs), []).append(index)
        for decoding, indices in by_decoding.items():
            remaining = iter(indices)
            while batch := list(islice(remaining, self.batch_size)):
                episodes = self._episodes([requests[i] for i in batch], [names[i] for i in batch], decoding)
                for index, episode in zip(batch, episodes, strict=True):
                    text = returned(episode, decoding, self.decode)
                    replies[index] = Reply(text, sum(turn.completion.tokens for turn in episode.turns))
                    self._trace(requests[index], episode, text)
                on_progress(len(batch))
        return [replies[index] for index in range(len(requests))]

    def _episodes(self, requests: Sequence[TaskRequest], names: Sequence[str], decoding: Decoding) -> list[Episode]:
        questions = [question_of(request.messages(), name) for request, name in zip(requests, names, strict=True)]
        longest = max(self.max_new_tokens, decoding.max_new_tokens or 0)
        groups = run_episodes(
            questions,
            self.protocol,
            self.generator,
            sampling=Sampling(decoding.temperature, longest),
            seed=self.seed,
            at_once=self.batch_size,
        )
        return [episode for group in groups for episode in group.episodes]

    def _trace(self, request: TaskRequest, episode: Episode, text: str) -> None:
        if self.traces is None:
            return
        row: dict[str, Any] = {"task": request.task, "split": request.split, "doc_id": request.doc_id, "returned": text}
        record = episode_record(episode)
        del record["expected"]  # the task alone knows it
        self.traces.mkdir(parents=True, exist_ok=True)
        file = request.task.replace("/", "-") + ".jsonl"
        append_rows(self.traces / file, [row | record])


def _names(requests: Sequence[TaskRequest]) -> Iterator[str]:
    """A name for each request, from which its random numbers come: the repeats of a question are told apart."""
    asked: Counter[str] = Counter()
    for request in requests:
        asked[request.name] += 1
        times = asked[request.name]
        yield request.name if times == 1 else f"{request.name}#{times}"
