"""Packed rows against separate rows, and against TRL's own log-prob routine: one update's forward and backward.

Each side computes the log-probs of the same sampled tokens with the same model and goes back through their mean.
Separate rows come as all rows at once and one by one with accumulated gradients; `speedup` is against the faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from foveate.bench.measure import Work, alternating, peak_bytes, threads
from foveate.bench.results import show
from foveate.bench.workload import FULL, GRIDS, ModelSize, forward_flops, make_episodes, make_vlm, standard
from foveate.episodes import Episode
from foveate.families import VLM
from foveate.training.packing import packed_logprobs

OUTPUT_LENGTH = 32
AGREEMENT = 1e-3
"""All sides must give the same log-probs within this: what is compared is the same work."""


@dataclass(frozen=True)
class UpdateRow:
    """One shape of group.

    Attributes:
        speedup: seconds of the faster kind of separate rows over seconds of the packed row.
        memory_ratio: peak of all rows at once over peak of the packed row.
        ideal: the ratio of the arithmetic that must be done.
        speedup_vs_trl: None where trl is not installed.
        seconds: median of each side.
        peak_bytes: activations and temporaries of each side, without weights and gradients.
    """

    visual_tokens: int
    G: int
    speedup: float
    memory_ratio: float
    ideal: float
    speedup_vs_trl: float | None
    seconds: Mapping[str, float]
    peak_bytes: Mapping[str, int]


def bench_update(
    *,
    size: ModelSize = FULL,
    visual_tokens: Sequence[int] = tuple(GRIDS),
    group_sizes: Sequence[int] = (4, 8, 16),
    runs: int = 32,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[UpdateRow]:
    """Measures every shape.

    Args:
        runs: outputs to go through per shape and side: G = 4 is run four times as often as G = 16, in turns.

    Raises:
        RuntimeError: the sides do not agree on the log-probs.
    """
    vlm = make_vlm(size, device, dtype)
    if has_trl := find_spec("trl") is not None:
        _prepare_for_trl(vlm)
    rows = []
    for tokens in visual_tokens:
        for count in group_sizes:
            episodes = make_episodes(tokens, count, OUTPUT_LENGTH)
            inputs = _Separate(vlm, episodes)
            sides: dict[str, Any] = {
                "packed": lambda e=episodes: [torch.stack(packed_logprobs(vlm, e))],
                "all_at_once": lambda i=inputs: [i.logprobs(0, i.count)],
                "one_by_one": lambda i=inputs: (i.logprobs(n, n + 1) for n in range(i.count)),
            }
            if has_trl:
                sides["trl"] = lambda i=inputs: [i.trl_logprobs()]
            if count == min(group_sizes):
                _check_agreement(sides, dtype)
            work: dict[str, Work] = {name: _step(vlm, side, count) for name, side in sides.items()}
            work["packed"]()  # gradients exist from here on
            peaks = {name: peak_bytes(work[name], device) for name in ("packed", "all_at_once")}
            taken = alternating(work, max(1, runs // count), device)
            prompt = inputs.prompt
            separate, packed = (
                forward_flops(size, tokens, prompt, count, OUTPUT_LENGTH, packed=kind) for kind in (False, True)
            )
            rows.append(
                UpdateRow(
                    visual_tokens=tokens,
                    G=count,
                    speedup=min(taken["all_at_once"], taken["one_by_one"]) / taken["packed"],
                    memory_ratio=peaks["all_at_once"] / peaks["packed"],
                    ideal=separate / packed,
                    speedup_vs_trl=taken["trl"] / taken["packed"] if has_trl else None,
                    seconds=taken,
                    peak_bytes=peaks,
                )
            )
    return rows


def main(
    quick: bool = False, json_path: Path | None = None, *, threads_used: int = 1, device: str = "cpu"
) -> list[UpdateRow]:
    """Measures, prints a table, and writes the rows to `json_path`.

    Args:
        quick: only 1,280 visual tokens, on a smaller model: under two minutes.
        threads_used: CPU threads.
        device: `cpu` or a CUDA device (bfloat16 there).
    """
    setting = standard(quick, device)
    with threads(threads_used):
        rows = bench_update(runs=8 if quick else 32, **setting)
    show(
        f"Update of one group: packed against separate rows ({device}, {threads_used} thread(s))",
        "visual\ntokens|G|speed-up|ideal|over\nTRL|memory|packed\nseconds|separate\nseconds|packed\nMB",
        lambda row: (
            f"{row.visual_tokens:,}",
            str(row.G),
            f"{row.speedup:.1f}x",
            f"{row.ideal:.1f}x",
            "" if row.speedup_vs_trl is None else f"{row.speedup_vs_trl:.1f}x",
            f"{row.memory_ratio:.1f}x",
            f"{row.seconds['packed']:.2f}",
            f"{min(row.seconds['all_at_once'], row.seconds['one_by_one']):.2f}",
            f"{row.peak_bytes['packed'] / 1e6:.0f}",
        ),
        rows,
        f"Model: {setting['size']}. Outputs of {OUTPUT_LENGTH} tokens. Memory: all rows at once over packed.",
        json_path,
    )
    return rows


class _Separate:
    """The group as ordinary rows, made ready beforehand: only the model's own time counts for these sides."""

    def __init__(self, vlm: VLM, episodes: Sequence[Episode]) -> None:
        self.vlm, self.count = vlm, len(episodes)
        encoded = vlm.family.encode(episodes[0].turns[0].context)
        self.prompt, device = len(encoded.token_ids), vlm.device
        outputs_GL = torch.tensor([episode.turns[0].completion.token_ids for episode in episodes])
        self.labels_GL = outputs_GL.to(device)
        prompt_GP = torch.tensor(encoded.token_ids).expand(self.count, -1)
        self.ids_GT = torch.cat([prompt_GP, outputs_GL], dim=1).to(device)
        steps = torch.arange(encoded.next_position, encoded.next_position + OUTPUT_LENGTH).expand(3, -1)
        self.positions_AT = torch.cat([encoded.positions_AL, steps], dim=1).to(device)
        self.pixels = encoded.images["pixel_values"].to(device)
        self.grid = encoded.images["image_grid_thw"].to(device)

    def logprobs(self, first: int, last: int) -> Tensor:
        """Of the outputs `first` to `last`, each a row of its own in one batch; the picture once a row."""
        rows, ids_BT = last - first, self.ids_GT[first:last, :-1]
        logits_BLV = self.vlm.model(
            input_ids=ids_BT,
            position_ids=self.positions_AT[:, None, :-1].expand(-1, rows, -1),
            attention_mask=torch.ones_like(ids_BT),
            use_cache=False,
            logits_to_keep=OUTPUT_LENGTH,
            pixel_values=self.pixels.repeat(rows, 1),
            image_grid_thw=self.grid.repeat(rows, 1),
        ).logits
        logprobs_BLV: Tensor = logits_BLV.float().log_softmax(-1)
        return logprobs_BLV.gather(-1, self.labels_GL[first:last, :, None])[..., 0]

    def trl_logprobs(self) -> Tensor:
        """By TRL's routine, as its GRPO trainer calls it."""
        from trl.trainer.grpo_trainer import GRPOTrainer

        trainer = SimpleNamespace(accelerator=SimpleNamespace(autocast=nullcontext, is_main_process=False))
        logprobs_GL, *_ = GRPOTrainer._get_per_token_logps_and_entropies(
            trainer,
            self.vlm.model,
            self.ids_GT,
            torch.ones_like(self.ids_GT),
            OUTPUT_LENGTH,
            pixel_values=self.pixels.repeat(self.count, 1),
            image_grid_thw=self.grid.repeat(self.count, 1),
            num_images=[1] * self.count,
            mm_token_type_ids=(self.ids_GT == self.vlm.family.image_token_id).int(),
        )
        result: Tensor = logprobs_GL
        return result


def _prepare_for_trl(vlm: VLM) -> None:
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(vlm.model)


def _step(vlm: VLM, side: Any, count: int) -> Work:
    """Forward and backward; gradients add up in place."""

    def step() -> None:
        for logprobs_BL in side():
            (logprobs_BL.sum() / (count * OUTPUT_LENGTH)).backward()

    return step


def _check_agreement(sides: Mapping[str, Any], dtype: torch.dtype) -> None:
    with torch.no_grad():
        found = {name: torch.cat(list(side())).float() for name, side in sides.items()}
    tolerance = AGREEMENT if dtype is torch.float32 else 0.5
    for name, logprobs_GL in found.items():
        difference = float((logprobs_GL - found["packed"]).abs().max())
        if not difference <= tolerance:
            raise RuntimeError(f"packed rows and {name} differ by {difference:.3g} in a log-prob")
