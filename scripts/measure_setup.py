"""What the settings of `setup` save and cost in one update on a CPU thread: docs/training.md, "Measured".

PYTHONPATH=src python scripts/measure_setup.py

One group of 8 outputs of 32 tokens about a picture of 1,280 visual tokens, the model of `foveate bench update --quick`:
the log-probs of policy and reference, and backward. Processor time and peak memory without weights, as the bench has
them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from foveate.bench.measure import Work, alternating, peak_bytes, threads
from foveate.bench.workload import QUICK, make_episodes, make_vlm
from foveate.families.adapters import backbone_of
from foveate.recipes import Setup
from foveate.training.features import FeatureCache
from foveate.training.packing import batch_logprobs, pack
from foveate.training.policy import Reference, WithoutAdapters, prepare
from foveate.training.scorer import Scorer, base_model

EPISODES = make_episodes(1280, 8, 32)
CPU = torch.device("cpu")
LORA = {"lora": {"rank": 16}}
SETUPS = {
    "all weights": {},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "tower frozen, features not kept": {"vision_tower": "freeze"},
    "tower frozen": {"vision_tower": "freeze"},
    "LoRA": LORA,
    "LoRA, gradient checkpointing": {**LORA, "gradient_checkpointing": True},
    "bfloat16": {"precision": "bfloat16"},
    "LoRA, bfloat16": {**LORA, "precision": "bfloat16"},
    "compiled layers": {},
}


def update(name: str) -> tuple[Work, int]:
    """Forward of policy and reference, and backward; and the bytes of all weights."""
    setup = Setup.model_validate(SETUPS[name])
    vlm = prepare(make_vlm(QUICK), setup, seed=0, device=CPU)
    lower = setup.precision == "bfloat16"
    autocast: Callable[[], AbstractContextManager[object]] = (
        partial(torch.autocast, "cpu", torch.bfloat16) if lower else nullcontext
    )
    model = base_model(vlm.model)
    if name == "tower frozen, features not kept":
        cache = backbone_of(model).get_image_features
        assert isinstance(cache, FeatureCache)
        backbone_of(model).get_image_features = cache._compute
    if name == "compiled layers":
        for layer in model.model.language_model.layers:
            layer.compile(dynamic=True)
    scorer = Scorer(vlm.model)
    reference = WithoutAdapters(scorer, vlm.model) if setup.lora else Reference(vlm.model, setup, autocast)
    own = {id(weight): weight.nbytes for part in (scorer, reference) for weight in part.parameters()}
    vlm.model.train(setup.gradient_checkpointing)

    def work() -> None:
        for batch in pack(vlm.family, EPISODES):
            with autocast():
                new_N = batch_logprobs(scorer, vlm.family, batch)
                ref_N = batch_logprobs(reference, vlm.family, batch)
            (new_N - ref_N).mean().backward()

    return work, sum(own.values())


def main() -> None:
    """Prints a row per setup."""
    with threads(1):
        works = {name: update(name) for name in SETUPS}
        for work, _ in works.values():
            work()  # gradients exist from here on; features are there, as a rollout leaves them
        peaks = {name: peak_bytes(work, "cpu") for name, (work, _) in works.items()}
        taken = alternating({name: work for name, (work, _) in works.items()}, 3, "cpu")
    print("| setup | seconds | activations, MiB | weights of policy and reference, MiB |\n|---|---:|---:|---:|")
    for name, (_, weights) in works.items():
        print(f"| {name} | {taken[name]:.2f} | {peaks[name] / 2**20:,.0f} | {weights / 2**20:.1f} |")


if __name__ == "__main__":
    main()
