"""The benchmarks measure what they say, and write it down. How fast it is, is not tested here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from foveate.bench import rollout, step, update
from foveate.bench.measure import alternating, peak_bytes, threads
from foveate.bench.workload import ModelSize, forward_flops, make_context, make_vlm
from foveate.episodes import Episode
from foveate.errors import FoveateError
from foveate.families import VLM
from foveate.training import packing

SMALL = ModelSize(hidden=64, layers=1, kv_heads=1, vocabulary=256, vision_hidden=32, vision_depth=1, vision_full=0)


def test_peak_memory_is_what_was_held_at_once() -> None:
    def work() -> None:
        for _ in range(3):
            first, second = torch.zeros(250_000), torch.ones(500_000)
            del first, second

    assert 3_000_000 <= peak_bytes(work, "cpu") < 3_001_000


def test_sides_are_run_in_turns() -> None:
    order: list[str] = []
    taken = alternating({name: lambda n=name: order.append(n) for name in "AB"}, 3, "cpu")
    assert order == ["A", "B"] * 3
    assert taken.keys() == {"A", "B"}


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("vision_full", [0, 1])
def test_flops_are_those_of_a_forward(vision_full: int) -> None:
    """Torch counts all of the causal square, where half of it is needed: with so few tokens that is little."""
    size = ModelSize(
        hidden=256, layers=2, kv_heads=2, vocabulary=512, vision_hidden=64, vision_depth=2, vision_full=vision_full
    )
    vlm = make_vlm(size)
    encoded = vlm.family.encode(make_context(300))
    # Torch's counter knows plain products only: attention must be made of them.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        vlm.model(
            input_ids=torch.tensor([encoded.token_ids]),
            position_ids=encoded.positions_AL[:, None],
            use_cache=False,
            logits_to_keep=1,
            **encoded.images,
        )
    prompt = len(encoded.token_ids) - 1
    assert forward_flops(size, 300, prompt, 1, 1, packed=True) == pytest.approx(counter.get_total_flops(), rel=0.08)


def test_the_ideal_ratio_grows_towards_the_number_of_outputs() -> None:
    ratios = [
        forward_flops(SMALL, 1280, 1300, outputs, 32, packed=False)
        / forward_flops(SMALL, 1280, 1300, outputs, 32, packed=True)
        for outputs in (1, 4, 8, 16)
    ]
    assert ratios[0] == 1
    assert ratios == sorted(ratios)
    assert 10 < ratios[-1] < 16


def test_update_writes_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"size": SMALL, "visual_tokens": (300,), "group_sizes": (2, 4), "runs": 1}
    monkeypatch.setattr(update, "bench_update", lambda bench=update.bench_update, **asked: bench(**asked | small))
    rows = update.main(json_path=tmp_path / "update.json")
    written = json.loads((tmp_path / "update.json").read_text())
    assert [(row["visual_tokens"], row["G"]) for row in written] == [(300, 2), (300, 4)]
    for row, measured in zip(written, rows, strict=True):
        assert row["speedup"] == measured.speedup > 0
        assert row["memory_ratio"] > 1
        assert 1 < row["ideal"] < row["G"]
        assert (row["speedup_vs_trl"] is not None) == (find_spec("trl") is not None)
        separate = min(row["seconds"]["all_at_once"], row["seconds"]["one_by_one"])
        assert row["speedup"] == pytest.approx(separate / row["seconds"]["packed"])


def test_rollout_writes_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"size": SMALL, "visual_tokens": (300,), "group_sizes": (2, 4), "rounds": 1}
    monkeypatch.setattr(rollout, "bench_rollout", lambda bench=rollout.bench_rollout, **asked: bench(**asked | small))
    monkeypatch.setattr(rollout, "OUTPUT_LENGTH", 4)
    rollout.main(json_path=tmp_path / "rollout.json")
    written = json.loads((tmp_path / "rollout.json").read_text())
    assert [(row["visual_tokens"], row["G"]) for row in written] == [(300, 2), (300, 4)]
    assert all(row["speedup"] > 0 and row["speedup_vs_repeated"] > 0 for row in written)


def test_sides_that_compute_something_else_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(vlm: VLM, episodes: Sequence[Episode]) -> list[Tensor]:
        return [logprobs + 0.01 for logprobs in packing.packed_logprobs(vlm, episodes)]

    monkeypatch.setattr(update, "packed_logprobs", wrong)
    with pytest.raises(RuntimeError, match=r"differ by 0\.01"):
        update.bench_update(size=SMALL, visual_tokens=(300,), group_sizes=(2,), runs=1)


@pytest.mark.parametrize("settings", [[], ["setup.precision=bfloat16", "setup.lora.rank=4"]])
def test_a_step_goes_through_all_of_its_phases(tmp_path: Path, settings: list[str]) -> None:
    rows = {
        row.phase: row for row in step.main(quick=True, json_path=tmp_path / "step.json", tokens=4, settings=settings)
    }
    assert list(rows) == ["locate", "look up and crop", "answer", "update, packed", "update, separate rows"]
    packed, separate = rows["update, packed"], rows["update, separate rows"]
    assert packed.tokens == separate.tokens == rows["locate"].tokens + rows["answer"].tokens == 2 * 2 * 4
    assert 0 < packed.flops < separate.flops  # the picture once instead of twice
    assert packed.of_peak is None  # of a CPU


def test_a_step_of_other_sizes_is_refused() -> None:
    with pytest.raises(FoveateError, match="one of 300, 640, 1280"):
        step.main(visual_tokens=500)
    with pytest.raises(FoveateError, match="this bench is of"):
        step.main(model="Qwen/Qwen3-VL-2B-Instruct")
