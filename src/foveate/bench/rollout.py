"""Rollouts with a shared prefill against transformers' `generate`, at equal numbers of tokens.

The reply cannot end early on any side, so that all write the same number of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.bench.measure import Work, alternating, peak_bytes, threads
from foveate.bench.results import show
from foveate.bench.workload import FULL, GRIDS, ModelSize, make_context, make_vlm, standard
from foveate.families import VLM
from foveate.families.qwen2_5_vl import Qwen25VL
from foveate.generators.base import Request, Sampling
from foveate.generators.local import LocalGenerator

OUTPUT_LENGTH = 32


@dataclass(frozen=True)
class RolloutRow:
    """One shape of group.

    Attributes:
        speedup: seconds of `generate(num_return_sequences=G)` over ours.
        speedup_vs_repeated: seconds of `generate` on the prompt and picture repeated G times over ours.
        memory_ratio: peak of `generate(num_return_sequences=G)` over ours.
        seconds: median of each side.
        peak_bytes: caches, activations and temporaries of each side, without weights.
    """

    visual_tokens: int
    G: int
    speedup: float
    speedup_vs_repeated: float
    memory_ratio: float
    seconds: Mapping[str, float]
    peak_bytes: Mapping[str, int]


class Endless(Qwen25VL):
    """A family that may not end its reply."""

    def forbidden_token_ids(self) -> tuple[int, ...]:
        """The usual ones and the end of the reply."""
        return (*super().forbidden_token_ids(), self.eos_token_id)


def bench_rollout(
    *,
    size: ModelSize = FULL,
    visual_tokens: Sequence[int] = tuple(GRIDS),
    group_sizes: Sequence[int] = (4, 8, 16),
    rounds: int = 3,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[RolloutRow]:
    """Measures every shape; `rounds` runs of each side, in turns."""
    vlm = make_vlm(size, device, dtype)
    family = vlm.family
    vlm = VLM(vlm.model, Endless(family.config, family.tokenizer, family.image_processor))
    rows = []
    for tokens in visual_tokens:
        for count in group_sizes:
            work = _sides(vlm, tokens, count)
            work["shared"]()
            peaks = {name: peak_bytes(work[name], device) for name in ("shared", "num_return_sequences")}
            taken = alternating(work, rounds, device)
            rows.append(
                RolloutRow(
                    visual_tokens=tokens,
                    G=count,
                    speedup=taken["num_return_sequences"] / taken["shared"],
                    speedup_vs_repeated=taken["repeated"] / taken["shared"],
                    memory_ratio=peaks["num_return_sequences"] / peaks["shared"],
                    seconds=taken,
                    peak_bytes=peaks,
                )
            )
    return rows


def main(
    quick: bool = False, json_path: Path | None = None, *, threads_used: int = 1, device: str = "cpu"
) -> list[RolloutRow]:
    """Measures, prints a table, and writes the rows to `json_path`.

    Args:
        quick: only 1,280 visual tokens, on a smaller model: under two minutes.
        threads_used: CPU threads.
        device: `cpu` or a CUDA device (bfloat16 there).
    """
    setting = standard(quick, device)
    with threads(threads_used):
        rows = bench_rollout(rounds=1 if quick else 3, **setting)
    show(
        f"Rollouts of one group: shared prefill against generate ({device}, {threads_used} thread(s))",
        "visual\ntokens|G|speed-up|over\nrepeated|memory|ours\nseconds|generate\nseconds",
        lambda row: (
            f"{row.visual_tokens:,}",
            str(row.G),
            f"{row.speedup:.1f}x",
            f"{row.speedup_vs_repeated:.1f}x",
            f"{row.memory_ratio:.1f}x",
            f"{row.seconds['shared']:.2f}",
            f"{row.seconds['num_return_sequences']:.2f}",
        ),
        rows,
        f"Model: {setting['size']}. Outputs of {OUTPUT_LENGTH} tokens. Speed-up: over num_return_sequences=G.",
        json_path,
    )
    return rows


def _sides(vlm: VLM, visual_tokens: int, count: int) -> dict[str, Work]:
    model: Any = vlm.model
    family, context = vlm.family, make_context(visual_tokens)
    generator, request = LocalGenerator(vlm), Request(context, tuple(range(count)))
    encoded = family.encode(context)
    ids_1L = torch.tensor([encoded.token_ids], device=vlm.device)

    def inputs(rows: int) -> dict[str, torch.Tensor]:
        return {
            "input_ids": ids_1L.repeat(rows, 1),
            "attention_mask": torch.ones_like(ids_1L).repeat(rows, 1),
            "mm_token_type_ids": (ids_1L == family.image_token_id).int().repeat(rows, 1),
            **{name: tensor.to(vlm.device).repeat(rows, 1) for name, tensor in encoded.images.items()},
        }

    options = {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_new_tokens": OUTPUT_LENGTH,
        "max_new_tokens": OUTPUT_LENGTH,
        "suppress_tokens": list(family.forbidden_token_ids()),
    }
    one, repeated = inputs(1), inputs(count)

    def generate(batch: Mapping[str, torch.Tensor], returned: int) -> None:
        written = model.generate(**batch, **options, num_return_sequences=returned)
        assert written.shape == (count, ids_1L.shape[1] + OUTPUT_LENGTH), written.shape

    def shared() -> None:
        [replies] = generator.generate([request], Sampling(1.0, OUTPUT_LENGTH))
        assert [len(reply.token_ids) for reply in replies] == [OUTPUT_LENGTH] * count

    return {
        "shared": shared,
        "num_return_sequences": lambda: generate(one, count),
        "repeated": lambda: generate(repeated, 1),
    }
