"""Rollouts by an engine that is not the trainer: what a colocated engine and a served one have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from foveate.context import Context
from foveate.errors import FoveateError
from foveate.families.base import Family
from foveate.generators.base import Arrival, Arrivals, Generator, Request, Sampling, in_order
from foveate.protocols.base import Completion, FinishReason

FORBIDDEN = "foveate_forbidden_tokens"
"""Under which vLLM's additional configuration holds the tokens that are never sampled."""
TESTED = "0.32"
"""The version of vLLM whose public means colocated and served engines are written for."""
TRIED = ("qwen2_5_vl",)
"""Families whose prompts and pictures are known to come out of vLLM as they went in."""
Weights = Iterable[tuple[str, Tensor]]
"""Every parameter once, under the name that transformers gives it."""


class RolloutError(FoveateError, RuntimeError):
    """An engine that cannot give the rollouts asked for; the message says why and what to change."""


class RolloutGenerator(Generator):
    """An engine that samples for a trainer and is given its weights.

    Token ids go in and come out. Samples differ from those of `LocalGenerator` at the same seeds, but for greedy ones;
    their log-probs are the policy's own, as `generators.local.sample` says. A request is answered as soon as it is
    there, and what follows from it is asked at once.

    Args:
        family: of the model that the engine runs.

    Attributes:
        loaded: whether the engine holds the policy's weights, so that only an update calls for new ones.

    Raises:
        RolloutError: it was not tried with this family.
    """

    def __init__(self, family: Family) -> None:
        if family.name not in TRIED:
            raise RolloutError(
                f"rollouts by vLLM were tried with {', '.join(TRIED)} only, not with {family.name}: set "
                "setup.engine.name=local"
            )
        self._family = family
        self.loaded = False

    @property
    def family(self) -> Family:
        """The family of the model."""
        return self._family

    @abstractmethod
    def update_weights(self, weights: Weights) -> None:
        """Gives the engine new weights, and drops what it cached of the old: attention prefixes and vision features.

        Raises:
            RolloutError: the engine did not take them.
        """

    def sleep(self) -> None:
        """Gives the device's memory to the trainer, where the engine shares it; `loaded` is then False."""

    @abstractmethod
    def _begin(self, sampling: Sampling) -> None:
        """Before requests at this sampling."""

    @abstractmethod
    def _submit(self, number: int, request: Request, sampling: Sampling) -> None:
        """Asks for all samples of the request with this number."""

    @abstractmethod
    def _arrived(self) -> list[Arrival]:
        """What has arrived since, at least one; waits for it."""

    @abstractmethod
    def _abandon(self) -> None:
        """Drops what was asked and has not arrived."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Generator.generate`."""
        return in_order(requests, self.arriving(requests, sampling))

    def arriving(self, requests: Sequence[Request], sampling: Sampling) -> Arrivals:
        """See `Generator.arriving`."""
        yield from self._flow(requests, sampling, None)

    def converse(
        self, requests: Sequence[Request], sampling: Sampling, then: Callable[[Sequence[Arrival]], Sequence[Request]]
    ) -> None:
        """See `Generator.converse`: no episode waits for another."""
        for _ in self._flow(requests, sampling, then):
            pass

    def _flow(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        then: Callable[[Sequence[Arrival]], Sequence[Request]] | None,
    ) -> Arrivals:
        if not self.loaded:
            raise RolloutError("the engine has not been given the policy's weights: call update_weights first")
        self._begin(sampling)
        asked = pending = 0
        try:
            while True:
                for number, request in enumerate(requests, start=asked):
                    pending += len(request.seeds)  # before it is asked, which may fail half-way
                    self._submit(number, request, sampling)
                asked += len(requests)
                if not pending:
                    return
                arrivals = self._arrived()
                pending -= len(arrivals)
                yield from arrivals
                requests = then(arrivals) if then else ()
        finally:
            if pending:
                self._abandon()

    def _collapsed(self, context: Context) -> list[int]:
        """The context's token ids with one placeholder per picture, which vLLM expands itself."""
        placeholder, counts = self._family.image_token_id, map(self._family.feature_count, context.views)
        token_ids = self._family.encode(context).token_ids
        collapsed: list[int] = []
        place = 0
        while place < len(token_ids):
            collapsed.append(token_ids[place])
            place += next(counts) if token_ids[place] == placeholder else 1
        return collapsed

    def _check_prompt(self, context: Context, seen: Sequence[int]) -> None:
        """That the engine saw what the trainer will compute on.

        Raises:
            RolloutError: it expanded a picture otherwise.
        """
        expected = self._family.encode(context).token_ids
        if tuple(seen) != expected:
            sizes = ", ".join(f"{view.size[0]}x{view.size[1]}" for view in context.views)
            raise RolloutError(
                f"the engine made {len(seen)} tokens of a context of {len(expected)}, with pictures of {sizes} pixels: "
                "it has resized them. Start it with pixel limits that hold every picture (`foveate serve-rollouts` "
                "does that for a server; a colocated engine takes them from the recipe's images.*)"
            )

    def _completion(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> Completion:
        """One reply.

        Raises:
            RolloutError: there is not one finite log-prob per token.
        """
        if len(token_ids) != len(logprobs) or not all(map(math.isfinite, logprobs)):
            raise RolloutError(
                f"the engine gave {len(token_ids)} tokens and {sum(map(math.isfinite, logprobs))} finite log-probs: "
                f"its weights are not sound, or it is not the version that foveate was tested with (vLLM {TESTED})"
            )
        ended = bool(token_ids) and token_ids[-1] == self._family.eos_token_id
        reason = FinishReason.END if ended else FinishReason.LENGTH
        return Completion(tuple(token_ids), tuple(logprobs), self._family.decode(token_ids), reason)
