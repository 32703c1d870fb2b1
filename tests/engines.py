"""Engines that stand in for vLLM: weights of their own, replies one at a time and out of order."""

from __future__ import annotations

import copy

import torch

from foveate.context import Context
from foveate.families import VLM
from foveate.generators import LocalGenerator, Request, Sampling
from foveate.generators.base import Arrival
from foveate.generators.rollout import RolloutGenerator, Weights
from foveate.protocols import Completion


class CopyEngine(RolloutGenerator):
    """A copy of the policy, sampled locally; the last asked is answered first, one reply at a time.

    Attributes:
        updates: how often it was given weights.
        deaf: it pretends to take weights, and does not.
        off: added to each log-prob.
    """

    def __init__(self, vlm: VLM) -> None:
        super().__init__(vlm.family)
        self.own = VLM(copy.deepcopy(vlm.model), vlm.family)
        self._local = LocalGenerator(self.own)
        self._waiting: list[tuple[int, int, Context, int, Sampling]] = []
        self.updates = self.slept = 0
        self.deaf = False
        self.off = 0.0
        self.given_up = 0

    def update_weights(self, weights: Weights) -> None:
        new = dict(weights)
        if not self.deaf or not self.updates:
            with torch.no_grad():
                for name, parameter in self.own.model.named_parameters():
                    parameter.copy_(new[name])
        self.updates += 1
        self.loaded = True

    def sleep(self) -> None:
        self.slept += 1

    def _begin(self, sampling: Sampling) -> None: ...

    def _submit(self, number: int, request: Request, sampling: Sampling) -> None:
        self._waiting += [(number, j, request.context, seed, sampling) for j, seed in enumerate(request.seeds)]

    def _arrived(self) -> list[Arrival]:
        number, sample, context, seed, sampling = self._waiting.pop()
        ((reply,),) = self._local.generate([Request(context, (seed,))], sampling)
        return [Arrival(number, sample, self._completion(reply.token_ids, [p + self.off for p in reply.logprobs]))]

    def _abandon(self) -> None:
        self.given_up += len(self._waiting)
        self._waiting.clear()


def said(reply: Completion) -> tuple[tuple[int, ...], str]:
    """What must be equal whoever batches how."""
    return reply.token_ids, reply.finish_reason.value
