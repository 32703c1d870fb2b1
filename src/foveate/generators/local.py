"""Generation with a transformers model in this process, each context prefilled once for all its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from foveate.families.base import VLM, Encoded, Family
from foveate.generators.base import Arrival, Arrivals, Generator, Request, Sampling, in_order
from foveate.protocols.base import Completion, FinishReason


class LocalGenerator(Generator):
    """Samples from a `VLM`.

    A batch is prefilled once per context (padded on the left), its cache repeated once per sample, and decoded with
    explicit positions; samples that have ended leave the batch.

    Args:
        vlm: the model and its family.
        max_prefill_tokens: contexts of one prefill batch, padding included.
        max_samples: samples decoded at once.
        identity: of the weights, as `Generator.identity` says; weights that change have none.
    """

    def __init__(
        self, vlm: VLM, *, max_prefill_tokens: int = 16_384, max_samples: int = 256, identity: str = ""
    ) -> None:
        self._vlm = vlm
        self._identity = identity
        self._max_prefill_tokens = max_prefill_tokens
        self._max_samples = max_samples

    @property
    def family(self) -> Family:
        """The family of the model."""
        return self._vlm.family

    @property
    def identity(self) -> str:
        """As it was given."""
        return self._identity

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Generator.generate`. Placeholder and padding tokens are never sampled."""
        return in_order(requests, self.arriving(requests, sampling))

    def arriving(self, requests: Sequence[Request], sampling: Sampling) -> Arrivals:
        """See `Generator.arriving`: batch by batch."""
        encoded = [self.family.encode(request.context) for request in requests]
        for batch in self._batches(encoded, requests) if requests else ():
            replies = self._run([encoded[i] for i in batch], [requests[i].seeds for i in batch], sampling)
            for index, completions in zip(batch, replies, strict=True):
                for j, completion in enumerate(completions):
                    yield Arrival(index, j, completion)

    def _batches(self, encoded: Sequence[Encoded], requests: Sequence[Request]) -> Iterator[list[int]]:
        """Indices of contexts that go together: of similar length, within both limits."""
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].token_ids), reverse=True)
        batch: list[int] = []
        samples = 0
        for index in order:
            longest = len(encoded[batch[0]].token_ids) if batch else 0
            more = len(requests[index].seeds)
            if batch and (longest * (len(batch) + 1) > self._max_prefill_tokens or samples + more > self._max_samples):
                yield batch
                batch, samples = [], 0
            batch.append(index)
            samples += more
        yield batch

    @torch.no_grad()
    def _run(
        self, encoded: Sequence[Encoded], seeds: Sequence[tuple[int, ...]], sampling: Sampling
    ) -> list[list[Completion]]:
        model, family, device = self._vlm.model, self.family, self._vlm.device
        cache = DynamicCache(config=model.config.get_text_config())
        ids_BL, mask_BL, positions_ABL = _left_padded(encoded, family.pad_token_id)
        images = {
            name: torch.cat([e.images[name] for e in encoded if name in e.images]).to(device)
            for name in {name for e in encoded for name in e.images}
        }
        was_training = model.training
        model.eval()
        logits_BV = model(
            input_ids=ids_BL.to(device),
            attention_mask=mask_BL.to(device),
            position_ids=family.position_ids(positions_ABL).to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **images,
        ).logits[:, -1]

        owner_N = torch.tensor([i for i, own in enumerate(seeds) for _ in own])
        cache.batch_select_indices(owner_N.to(device))
        logits_NV = logits_BV[owner_N.to(device)]
        mask_NL = mask_BL[owner_N].to(device)
        next_N = torch.tensor([e.next_position for e in encoded])[owner_N]
        draws = [np.random.default_rng(seed) for own in seeds for seed in own]
        forbidden = torch.tensor(family.forbidden_token_ids(), dtype=torch.long, device=device)

        tokens: list[list[int]] = [[] for _ in draws]
        logprobs: list[list[float]] = [[] for _ in draws]
        alive = list(range(len(draws)))
        for step in range(sampling.max_new_tokens):
            uniforms = [draws[i].random() for i in alive] if sampling.temperature else None
            chosen_N, logprob_N = sample(logits_NV, forbidden, sampling.temperature, uniforms)
            for i, token, logprob in zip(alive, chosen_N.tolist(), logprob_N.tolist(), strict=True):
                tokens[i].append(token)
                logprobs[i].append(logprob)
            going = [row for row, i in enumerate(alive) if tokens[i][-1] != family.eos_token_id]
            if not going or step + 1 == sampling.max_new_tokens:
                break
            if len(going) < len(alive):
                keep = torch.tensor(going, device=device)
                cache.batch_select_indices(keep)
                chosen_N, mask_NL = chosen_N[keep], mask_NL[keep]
                alive = [alive[row] for row in going]
            mask_NL = torch.cat([mask_NL, mask_NL.new_ones(len(alive), 1)], dim=1)
            position_N = next_N[alive].to(device) + step
            logits_NV = model(
                input_ids=chosen_N[:, None],
                attention_mask=mask_NL,
                position_ids=family.position_ids(position_N[None, :, None].expand(len(positions_ABL), -1, 1)),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
        model.train(was_training)

        replies: list[list[Completion]] = [[] for _ in encoded]
        for i, owner in enumerate(owner_N.tolist()):
            ended = tokens[i][-1] == family.eos_token_id
            reason = FinishReason.END if ended else FinishReason.LENGTH
            replies[owner].append(Completion(tuple(tokens[i]), tuple(logprobs[i]), family.decode(tokens[i]), reason))
        return replies


def sample(
    logits_NV: Tensor, forbidden: Tensor, temperature: float, uniforms: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """One token per row, by inverting the cumulative distribution at the given uniform numbers, or the likeliest one.

    Returns:
        (tokens, log-probs). Forbidden tokens are never drawn; the log-prob is that of the policy itself (the full
        softmax at this temperature, or at 1 for greedy), which is what the trainer computes.
    """
    logits_NV = logits_NV.float() / (temperature or 1.0)
    allowed_NV = logits_NV.index_fill(-1, forbidden, float("-inf")) if forbidden.numel() else logits_NV
    if uniforms is None:
        chosen_N = allowed_NV.argmax(-1)
    else:
        cumulative_NV = allowed_NV.double().softmax(-1).cumsum(-1)
        threshold_N1 = torch.tensor(uniforms, dtype=torch.double, device=logits_NV.device)[:, None]
        chosen_N = torch.searchsorted(cumulative_NV, threshold_N1 * cumulative_NV[:, -1:], right=True)[:, 0]
        chosen_N = chosen_N.clamp(max=logits_NV.shape[-1] - 1)
    logprob_N = logits_NV.log_softmax(-1).gather(-1, chosen_N[:, None])[:, 0]
    return chosen_N, logprob_N


def _left_padded(encoded: Sequence[Encoded], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(len(e.token_ids) for e in encoded)
    ids_BL = torch.full((len(encoded), longest), pad)
    mask_BL = torch.zeros(len(encoded), longest, dtype=torch.long)
    positions_ABL = torch.zeros(encoded[0].positions_AL.shape[0], len(encoded), longest, dtype=torch.long)
    for row, e in enumerate(encoded):
        ids_BL[row, -len(e.token_ids) :] = torch.tensor(e.token_ids)
        mask_BL[row, -len(e.token_ids) :] = 1
        positions_ABL[:, row, -len(e.token_ids) :] = e.positions_AL
    return ids_BL, mask_BL, positions_ABL
