"""Episodes as packed rows: what a question's episodes share is run once.

A row is `[prompt without its last token | last prompt token + out_1 | last prompt token + out_2 | ...]`: the prompt
with its image once, every output attending to the prompt and itself, positions restarting after the prompt for each.
Repeating the last prompt token keeps labels one-to-one with positions. The log-probs and gradients are those of
separate rows (`separate_logprobs`, the reference).

A turn that goes on in the context of the one before it belongs to the same branch, with the inserted tokens masked
out of the loss; a turn in a fresh context starts a row of its own, shared by all episodes that were shown the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.context import Context
from foveate.episodes import Episode
from foveate.families.base import VLM, Encoded, Family
from foveate.protocols.base import Turn
from foveate.training.attention import PackedLayout, enable_packed_attention
from foveate.training.scorer import Scorer, base_model, label_logprobs

_PADDING = 1.5
"""Rows go into one batch as long as it has at most this many times the positions that they have alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """What one episode adds to a shared prompt.

    Attributes:
        episode: its number among the episodes packed.
        token_ids: after the prompt: sampled tokens, and what was inserted between them.
        positions_AL: of the inputs: the prompt's last token, then all of `token_ids` but the last.
        sampled: for each of `token_ids`, its number among the episode's sampled tokens, or -1 if it was inserted.
        images: of the inserted views.
    """

    episode: int
    token_ids: tuple[int, ...]
    positions_AL: Tensor
    sampled: tuple[int, ...]
    images: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A prompt and the branches that share it."""

    prompt: Encoded
    branches: tuple[Branch, ...]

    @property
    def size(self) -> tuple[int, int, int]:
        """(branches, positions of the prefix, longest branch)."""
        return len(self.branches), len(self.prompt.token_ids) - 1, max(len(b.token_ids) for b in self.branches)


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """Rows as tensors.

    Attributes:
        input_ids_BT: T = prefix + branches * length of the layout.
        positions_ABT: per axis.
        labels_BK: for the K = branches * length positions after the prefix.
        keep_BK: True where the label is a sampled token.
        episode_N: for each kept label, row by row, the number of its episode.
        token_N: and its number among that episode's sampled tokens.
        images: of all rows, in the order of their placeholders.
    """

    layout: PackedLayout
    input_ids_BT: Tensor
    positions_ABT: Tensor
    labels_BK: Tensor
    keep_BK: Tensor
    episode_N: Tensor
    token_N: Tensor
    images: Mapping[str, Tensor]


def sampled_count(episode: Episode) -> int:
    """How many tokens of an episode the model sampled, over all turns."""
    return sum(len(turn.completion.token_ids) for turn in episode.turns)


def plan_rows(family: Family, episodes: Sequence[Episode]) -> list[Row]:
    """Rows for all turns of the episodes, each distinct context of a question once."""
    prompts: dict[Hashable, Encoded] = {}
    branches: dict[Hashable, list[Branch]] = {}
    for number, episode in enumerate(episodes):
        done = 0
        for chain in _chains(episode.turns):
            key = (episode.question.id, chain[0].context.key)
            if key not in prompts:
                prompts[key] = family.encode(chain[0].context)
            branch = _branch(family, prompts[key], chain, number, done)
            done += sum(len(turn.completion.token_ids) for turn in chain)
            if branch.token_ids:
                branches.setdefault(key, []).append(branch)
    return [Row(prompts[key], tuple(own)) for key, own in branches.items()]


def pack(family: Family, episodes: Sequence[Episode], *, max_tokens: int = 16_384) -> list[PackedBatch]:
    """Packs episodes into batches of at most `max_tokens` positions (a longer single row gets a batch of its own)."""
    sized = sorted(((row.size, row) for row in plan_rows(family, episodes)), key=lambda pair: pair[0])
    batches: list[list[Row]] = []
    widest, filled = (0, 0, 0), 0
    for (branches, prefix, length), row in sized:
        own = prefix + branches * length
        wider = max(widest[0], branches), max(widest[1], prefix), max(widest[2], length)
        padded = (len(batches[-1]) + 1) * (wider[1] + wider[0] * wider[2]) if batches else 0
        if batches and padded <= min(max_tokens, _PADDING * (filled + own)):
            batches[-1].append(row)
            widest, filled = wider, filled + own
        else:
            batches.append([row])
            widest, filled = (branches, prefix, length), own
    return [_collate(family, batch) for batch in batches]


def model_inputs(family: Family, batch: PackedBatch, device: torch.device) -> dict[str, Any]:
    """The keyword arguments of the backbone's forward.

    Raises:
        ValueError: the placeholders in the rows do not match the visual features passed with them.
    """
    placeholders = int((batch.input_ids_BT == family.image_token_id).sum())
    features = family.features_in(batch.images)
    if placeholders != features:
        raise ValueError(f"{placeholders} image placeholders but {features} visual features in a packed batch")
    positions = family.position_ids(batch.positions_ABT)
    # The layout says who sees whom. From None and two-dimensional positions that restart, transformers would still make
    # a dense mask of the row; a 4-D one is handed on as it is.
    unseen = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device) if positions.ndim == 2 else None
    return {
        "input_ids": batch.input_ids_BT.to(device),
        "position_ids": positions.to(device),
        "attention_mask": unseen,
        "packed_layout": batch.layout,
        "use_cache": False,
        **{name: tensor.to(device) for name, tensor in batch.images.items()},
    }


def batch_logprobs(scorer: nn.Module, family: Family, batch: PackedBatch, *, temperature: float = 1.0) -> Tensor:
    """The log-prob of each sampled token of a batch, shape (N,), in the order of its `episode_N` and `token_N`.

    Args:
        scorer: a `Scorer`, perhaps wrapped. Its language model is switched to packed attention: any other would take
            the layout for one more keyword.
        family: of the model.
        batch: of its contexts.
        temperature: the one that the tokens were sampled at.
    """
    enable_packed_attention(base_model(scorer))
    device = next(scorer.parameters()).device
    logprobs_N: Tensor = scorer(
        model_inputs(family, batch, device),
        batch.layout.prefix,
        batch.keep_BK.to(device),
        batch.labels_BK.to(device),
        temperature,
    )
    return logprobs_N


def packed_logprobs(
    vlm: VLM, episodes: Sequence[Episode], *, scorer: nn.Module | None = None, temperature: float = 1.0
) -> list[Tensor]:
    """The log-prob of each sampled token, one tensor per episode over all its turns, computed in packed rows.

    Args:
        vlm: model and family. Its language model is switched to packed attention.
        episodes: of any number of questions; those of one question share what they were shown in common.
        scorer: of the model, as training has wrapped it; a plain one where None.
        temperature: the one they were sampled at.

    Returns:
        One tensor of shape (sampled tokens,) per episode, with gradient where enabled.
    """
    batches = pack(vlm.family, episodes)
    scorer = scorer if scorer is not None else Scorer(vlm.model)
    values = [batch_logprobs(scorer, vlm.family, batch, temperature=temperature) for batch in batches]
    return unpack(values, batches, [sampled_count(episode) for episode in episodes])


def token_places(batch: PackedBatch, lengths: Sequence[int]) -> Tensor:
    """Where each sampled token of a batch stands among those of all episodes, one episode after the other: (N,)."""
    starts = torch.tensor([0, *lengths]).cumsum(0)
    return starts[batch.episode_N] + batch.token_N


def unpack(values: Sequence[Tensor], batches: Sequence[PackedBatch], lengths: Sequence[int]) -> list[Tensor]:
    """Values per sampled token of each batch, brought into the order of the episodes."""
    if not batches:
        return [torch.zeros(0) for _ in lengths]
    place_N = torch.cat([token_places(batch, lengths) for batch in batches])
    flat_N = torch.cat(list(values))
    return list(flat_N[place_N.argsort().to(flat_N.device)].split(list(lengths)))


def separate_logprobs(vlm: VLM, episodes: Sequence[Episode], *, temperature: float = 1.0) -> list[Tensor]:
    """The slow reference of `packed_logprobs`: each sequence of each episode alone, by the model's own means."""
    device = next(vlm.model.parameters()).device
    results = []
    for episode in episodes:
        parts = [torch.zeros(0, device=device)]
        for chain in _chains(episode.turns):
            prompt = vlm.family.encode(chain[0].context)
            branch = _branch(vlm.family, prompt, chain, 0, 0)
            if not branch.token_ids:
                continue
            ids = (*prompt.token_ids, *branch.token_ids[:-1])
            positions_AL = torch.cat([prompt.positions_AL[:, :-1], branch.positions_AL], dim=1)
            images = _joined([prompt.images, branch.images])
            logits_LV = vlm.model(
                input_ids=torch.tensor([ids], device=device),
                position_ids=vlm.family.position_ids(positions_AL[:, None]).to(device),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=device),
                use_cache=False,
                logits_to_keep=len(branch.token_ids),
                **{name: tensor.to(device) for name, tensor in images.items()},
            ).logits[0]
            keep = torch.tensor([number >= 0 for number in branch.sampled], device=device)
            labels = torch.tensor(branch.token_ids, device=device)
            parts.append(label_logprobs(logits_LV[keep], labels[keep], temperature))
        results.append(torch.cat(parts))
    return results


def _chains(turns: Sequence[Turn]) -> Iterator[tuple[Turn, ...]]:
    """Runs of turns that each go on in the context of the one before."""
    chain: list[Turn] = []
    for turn in turns:
        if chain and not _continues(chain[-1], turn.context):
            yield tuple(chain)
            chain = []
        chain.append(turn)
    if chain:
        yield tuple(chain)


def _continues(before: Turn, context: Context) -> bool:
    known = len(before.context.messages)
    if len(context.messages) <= known or Context(context.messages[:known]).key != before.context.key:
        return False
    return context.messages[known].parts == (before.completion.sampled,)


def _branch(family: Family, prompt: Encoded, chain: Sequence[Turn], episode: int, done: int) -> Branch:
    """The part of a chain after its first prompt; `done` sampled tokens of the episode come before it."""
    last_out = chain[-1].completion.token_ids
    start = len(prompt.token_ids)
    if len(chain) == 1:
        whole = prompt
    else:
        whole = family.encode(chain[-1].context)
        if whole.token_ids[:start] != prompt.token_ids:
            raise ValueError("the chat template changes a prompt when turns follow it: its episodes cannot be packed")
    token_ids = (*whole.token_ids[start:], *last_out)
    steps = torch.arange(whole.next_position, whole.next_position + max(len(last_out) - 1, 0))
    positions_AL = torch.cat([whole.positions_AL[:, start - 1 :], steps.expand(whole.positions_AL.shape[0], -1)], dim=1)
    sampled = [-1] * len(token_ids)
    # A prompt may quote what was sampled before it: that is trained on where it was sampled.
    spans = [span for span in whole.spans if span[0] >= start]
    spans.append((len(whole.token_ids), len(whole.token_ids) + len(last_out)))
    for begin, end in spans:
        for place in range(begin - start, end - start):
            sampled[place] = done
            done += 1
    views = [] if len(chain) == 1 else chain[-1].context.views[len(chain[0].context.views) :]
    return Branch(episode, token_ids, positions_AL, tuple(sampled), family.collate_images(views))


def _collate(family: Family, rows: Sequence[Row]) -> PackedBatch:
    branches, prefix, length = (max(sizes) for sizes in zip(*(row.size for row in rows), strict=True))
    total, axes = prefix + branches * length, rows[0].prompt.positions_AL.shape[0]
    ids_BT = torch.full((len(rows), total), family.pad_token_id)
    positions_ABT = torch.zeros(axes, len(rows), total, dtype=torch.long)
    labels_BK = torch.zeros(len(rows), branches * length, dtype=torch.long)
    sampled_BK = torch.full_like(labels_BK, -1)
    episode_BK = torch.zeros_like(labels_BK)
    valid_BP = torch.zeros(len(rows), prefix, dtype=torch.bool)
    for row, planned in enumerate(rows):
        shared = len(planned.prompt.token_ids) - 1
        ids_BT[row, :shared] = torch.tensor(planned.prompt.token_ids[:-1])
        positions_ABT[:, row, :shared] = planned.prompt.positions_AL[:, :-1]
        valid_BP[row, :shared] = True
        for slot, branch in enumerate(planned.branches):
            own, first = len(branch.token_ids), slot * length
            ids_BT[row, prefix + first] = planned.prompt.token_ids[-1]
            ids_BT[row, prefix + first + 1 : prefix + first + own] = torch.tensor(branch.token_ids[:-1])
            positions_ABT[:, row, prefix + first : prefix + first + own] = branch.positions_AL
            labels_BK[row, first : first + own] = torch.tensor(branch.token_ids)
            sampled_BK[row, first : first + own] = torch.tensor(branch.sampled)
            episode_BK[row, first : first + own] = branch.episode
    keep_BK = sampled_BK >= 0
    return PackedBatch(
        layout=PackedLayout(prefix, branches, length, valid_BP),
        input_ids_BT=ids_BT,
        positions_ABT=positions_ABT,
        labels_BK=labels_BK,
        keep_BK=keep_BK,
        episode_N=episode_BK[keep_BK],
        token_N=sampled_BK[keep_BK],
        images=_joined([part for row in rows for part in (row.prompt.images, *(b.images for b in row.branches))]),
    )


def _joined(images: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    names = dict.fromkeys(name for part in images for name in part)
    return {name: torch.cat([part[name] for part in images if name in part]) for name in names}
