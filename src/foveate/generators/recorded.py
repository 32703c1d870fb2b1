"""Replies kept on disk as they arrive, so that no run that is stopped has to ask again for what was answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from foveate.context import Context, Sampled
from foveate.errors import FoveateError
from foveate.generators.base import Arrival, Arrivals, Generator, Request, Sampling, in_order
from foveate.images import View
from foveate.jsonl import append_rows, mend_rows, read_rows
from foveate.protocols.base import Completion, FamilyTraits, FinishReason, Usage


class RecordError(FoveateError):
    """A file of replies that cannot be used; the message names it."""


class RecordedGenerator(Generator):
    """Answers from a JSONL file what it holds, and has another generator answer the rest.

    Each reply is appended as soon as it arrives: whatever stops the process, a run with the same file goes on where it
    was. A reply is found by what it depends on, and by nothing else: who answers (`Generator.identity`), the messages
    (texts, pixels, earlier replies), the sampling, and the seed unless decoding is greedy. Failures are not kept: they
    are asked again. Equal requests are asked once. Any thread may ask.

    Args:
        generator: who answers what the file does not hold.
        path: made, with its folder, where it is not there; a last row that a crash cut off is removed.

    Raises:
        RecordError: another process, or another generator of this one, has the file open; or it holds rows that are
            not replies.
    """

    def __init__(self, generator: Generator, path: Path) -> None:
        import fcntl  # not on Windows, where all else works

        self.generator = generator
        self._path = path
        self._digests: WeakKeyDictionary[View, str] = WeakKeyDictionary()
        self._writing = Lock()
        self._recalled = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._held = path.open("ab")
        try:
            # Two that write would both ask what is missing. The kernel lets go when the process ends, however it does.
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mend_rows(path)
            self._known = {str(row["key"]): _completion(row) for row in read_rows(path)}
        except BlockingIOError:
            self.close()
            raise RecordError(f"{path} is in use by another run: wait for it, or name another file") from None
        except (ValueError, LookupError, TypeError) as error:
            self.close()
            raise RecordError(f"{path} is not a file of recorded replies ({error}): name another file") from error

    @property
    def family(self) -> FamilyTraits:
        """Of the generator that answers."""
        return self.generator.family

    @property
    def identity(self) -> str:
        """Of the generator that answers."""
        return self.generator.identity

    @property
    def recalled(self) -> int:
        """As `Generator.recalled` says."""
        return self._recalled

    def __len__(self) -> int:
        """How many replies are known."""
        return len(self._known)

    def close(self) -> None:
        """Lets others use the file."""
        self._held.close()

    def __enter__(self) -> RecordedGenerator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Generator.generate`."""
        return in_order(requests, self.arriving(requests, sampling))

    def arriving(self, requests: Sequence[Request], sampling: Sampling) -> Arrivals:
        """See `Generator.arriving`: what is known first."""
        waiting: dict[str, list[tuple[int, int]]] = {}
        missing: list[tuple[Context, dict[str, int]]] = []
        for i, request in enumerate(requests):
            shown = self._digest(request.context)
            wanted: dict[str, int] = {}
            for j, seed in enumerate(request.seeds):
                key = self._key(shown, seed, sampling)
                if (known := self._known.get(key)) is not None:
                    self._recalled += 1
                    yield Arrival(i, j, known)
                    continue
                if key not in waiting:
                    wanted[key] = seed
                waiting.setdefault(key, []).append((i, j))
            if wanted:
                missing.append((request.context, wanted))
        if not missing:
            return
        keys = [list(wanted) for _, wanted in missing]
        asked = [Request(context, tuple(wanted.values())) for context, wanted in missing]
        with closing(self.generator.arriving(asked, sampling)) as arrivals:
            for arrival in arrivals:
                key = keys[arrival.request][arrival.sample]
                if arrival.completion.finish_reason is not FinishReason.FAILED:
                    with self._writing:
                        append_rows(self._path, [_row(key, arrival.completion)])
                        self._known[key] = arrival.completion
                for i, j in waiting[key]:
                    yield Arrival(i, j, arrival.completion)

    def _key(self, shown: str, seed: int, sampling: Sampling) -> str:
        drawn = seed if sampling.temperature > 0 else None
        return _blake([self.identity, shown, drawn, sampling.temperature, sampling.max_new_tokens])

    def _digest(self, context: Context) -> str:
        """Of all that the model is shown."""
        return _blake([[message.role, [self._part(part) for part in message.parts]] for message in context.messages])

    def _part(self, part: str | View | Sampled) -> list[Any]:
        if isinstance(part, Sampled):
            return ["said", part.token_ids, part.text]
        return ["view", self._pixels(part)] if isinstance(part, View) else ["text", part]

    def _pixels(self, view: View) -> str:
        digest = self._digests.get(view)
        if digest is None:
            picture = hashlib.blake2b(view.image.tobytes(), digest_size=16).hexdigest()
            digest = self._digests[view] = f"{view.image.mode} {view.size[0]}x{view.size[1]} {picture}"
        return digest


def _blake(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _row(key: str, completion: Completion) -> dict[str, Any]:
    row: dict[str, Any] = {"key": key, "text": completion.text, "finish": completion.finish_reason.value}
    if completion.token_ids:
        row |= {"token_ids": completion.token_ids, "logprobs": completion.logprobs}
    if completion.usage:
        row["usage"] = [completion.usage.prompt_tokens, completion.usage.completion_tokens]
    return row


def _completion(row: dict[str, Any]) -> Completion:
    usage = Usage(*row["usage"]) if "usage" in row else None
    finish = FinishReason(row["finish"])
    return Completion(tuple(row.get("token_ids", ())), tuple(row.get("logprobs", ())), row["text"], finish, usage)
