"""Examples as tensors: patches, shared visual features, padded sequences, optimisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from foveate.laboratory.architecture import (
    IMAGE,
    MERGED,
    PAD,
    PATCH,
    STUDY_WORDS,
    VISION_END,
    VISION_START,
    vocabulary,
)
from foveate.laboratory.examples import Seen
from foveate.regions import Size

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
IDS = {token: i for i, token in enumerate(vocabulary(STUDY_WORDS))}
"""Of the shipped model, and after these the words that only bases of a study have."""
_IGNORED = -100
_ADAMW_SHARE = 0.3
"""AdamW's learning rate as a share of Muon's."""


def patches(pixels_HWC: np.ndarray) -> np.ndarray:
    """What Qwen's image processor makes of an image that needs no resizing: (patches, 3 x 2 x 14 x 14)."""
    height, width = pixels_HWC.shape[:2]
    scaled = (pixels_HWC.astype(np.float32) / 255 - _MEAN) / _STD
    grid = scaled.reshape(height // MERGED, 2, PATCH, width // MERGED, 2, PATCH, 3).transpose(0, 3, 1, 4, 6, 2, 5)
    flat = grid.reshape(-1, 3, 1, PATCH * PATCH)
    return np.broadcast_to(flat, (len(flat), 3, 2, PATCH * PATCH)).reshape(len(flat), -1)


def encode_images(model: Qwen2_5_VLForConditionalGeneration, images: Sequence[Seen]) -> list[Tensor]:
    """Visual features of each image: (tokens, hidden)."""
    pixels = torch.from_numpy(np.concatenate([patches(image.pixels_HWC) for image in images]))
    grids = torch.tensor([(1, image.size[1] // PATCH, image.size[0] // PATCH) for image in images])
    features = model.model.visual(pixels, grid_thw=grids).pooler_output
    return list(features.split([int(grid.prod()) // 4 for grid in grids]))


@dataclass(frozen=True, slots=True)
class Line:
    """One sequence to learn.

    Attributes:
        prompt: words, and images as their indices among those encoded, in the order in which they are shown.
        reply: words to learn, the end token among them.
    """

    prompt: tuple[int | str, ...]
    reply: tuple[str, ...]

    @property
    def images(self) -> list[int]:
        """The images shown, in order."""
        return [part for part in self.prompt if isinstance(part, int)]


def logits_and_labels(
    model: Qwen2_5_VLForConditionalGeneration, images: Sequence[Seen], features: Sequence[Tensor], lines: Sequence[Line]
) -> tuple[Tensor, Tensor]:
    """The model's prediction at every token of the replies: logits (N, V) and labels (N)."""
    ids = [_ids(line, images) + [IDS[word] for word in line.reply] for line in lines]
    hidden_BLD = _hidden(model, images, features, lines, ids)
    labels_BL = torch.full(hidden_BLD.shape[:2], _IGNORED)
    for b, line in enumerate(lines):
        learned, end = len(line.reply), len(ids[b]) - 1
        labels_BL[b, end - learned : end] = torch.tensor(ids[b][-learned:])
    learned_BL = labels_BL != _IGNORED
    return model.lm_head(hidden_BLD[learned_BL]), labels_BL[learned_BL]


def next_logits(
    model: Qwen2_5_VLForConditionalGeneration, images: Sequence[Seen], features: Sequence[Tensor], lines: Sequence[Line]
) -> Tensor:
    """The model's prediction after each line's prompt and reply: logits (lines, V)."""
    ids = [_ids(line, images) + [IDS[word] for word in line.reply] for line in lines]
    hidden_BLD = _hidden(model, images, features, lines, ids)
    last_B = torch.tensor([len(row) - 1 for row in ids])
    logits: Tensor = model.lm_head(hidden_BLD[torch.arange(len(ids)), last_B])
    return logits


def _hidden(
    model: Qwen2_5_VLForConditionalGeneration,
    images: Sequence[Seen],
    features: Sequence[Tensor],
    lines: Sequence[Line],
    ids: Sequence[list[int]],
) -> Tensor:
    """The language model's last hidden states over sequences padded on the right: (lines, length, hidden).

    A causal model never looks to the right, so that no mask is needed.
    """
    length = max(len(row) for row in ids)
    ids_BL = torch.full((len(ids), length), IDS[PAD])
    positions_ABL = torch.zeros(3, len(ids), length, dtype=torch.long)
    for b, (row, line) in enumerate(zip(ids, lines, strict=True)):
        ids_BL[b, : len(row)] = torch.tensor(row)
        shown = tuple(images[part].size if isinstance(part, int) else None for part in line.prompt)
        positions_ABL[:, b, : len(row)] = _positions(shown, len(row))
    embeds_BLD = model.model.language_model.embed_tokens(ids_BL)
    used = torch.cat([features[i] for line in lines for i in line.images])
    embeds_BLD = embeds_BLD.masked_scatter((ids_BL == IDS[IMAGE])[..., None], used)
    hidden: Tensor = model.model.language_model(
        inputs_embeds=embeds_BLD, position_ids=positions_ABL, use_cache=False
    ).last_hidden_state
    return hidden


def _ids(line: Line, images: Sequence[Seen]) -> list[int]:
    """The prompt as token ids."""
    ids: list[int] = []
    for part in line.prompt:
        if isinstance(part, str):
            ids.append(IDS[part])
            continue
        tokens = (images[part].size[0] // MERGED) * (images[part].size[1] // MERGED)
        ids += [IDS[VISION_START], *[IDS[IMAGE]] * tokens, IDS[VISION_END]]
    return ids


@lru_cache(maxsize=4096)
def _positions(prompt: tuple[Size | None, ...], length: int) -> Tensor:
    """Rotary positions (3, length) as Qwen lays them out: an image spans its grid from one start, text counts on.

    Args:
        prompt: the size of each image and None for each word.
        length: of the whole sequence, the reply included.
    """
    parts: list[Tensor] = []
    start = taken = 0
    for size in prompt:
        if size is None:
            parts.append(torch.full((3, 1), start))
            start, taken = start + 1, taken + 1
            continue
        columns, rows = size[0] // MERGED, size[1] // MERGED
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        grid = torch.stack([torch.zeros_like(row), row, column]).reshape(3, -1)
        after = start + 1 + max(rows, columns)
        parts += [torch.full((3, 1), start), grid + start + 1, torch.full((3, 1), after)]
        start, taken = after + 1, taken + rows * columns + 2
    parts.append(torch.arange(start, start + length - taken).expand(3, -1))
    return torch.cat(parts, dim=1)


class Optimiser:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms, biases and heads; warm-up and cosine.

    Rates are Muon's; AdamW's are a fixed share of them.
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        steps: int,
        *,
        vision: float,
        text: float,
        extra: nn.Module | None = None,
        warmup: int = 30,
    ) -> None:
        self.steps, self.warmup = steps, warmup
        matrices: dict[str, list[nn.Parameter]] = {"vision": [], "text": []}
        others: dict[str, list[nn.Parameter]] = {"vision": [], "text": []}
        for name, parameter in model.named_parameters():
            part = "vision" if "visual" in name else "text"
            inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if inner else others)[part].append(parameter)
        if extra is not None:
            others["vision"] += extra.parameters()
        rates = {"vision": vision, "text": text}
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                [{"params": matrices[part], "lr": rate} for part, rate in rates.items()],
                weight_decay=0.0,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                [{"params": others[part], "lr": _ADAMW_SHARE * rate} for part, rate in rates.items()],
                weight_decay=0.0,
                betas=(0.9, 0.98),
            ),
        ]
        self.schedulers = [torch.optim.lr_scheduler.LambdaLR(optimiser, self._factor) for optimiser in self.optimisers]
        self.parameters = [p for o in self.optimisers for group in o.param_groups for p in group["params"]]

    def _factor(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, done))))

    def step(self, loss: Tensor) -> None:
        """Backward, clip, update."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser, scheduler in zip(self.optimisers, self.schedulers, strict=True):
            optimiser.step()
            scheduler.step()
            optimiser.zero_grad(set_to_none=True)
