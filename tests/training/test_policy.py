"""The policy and its reference under each setup: what is trained, in which precision, and that they begin alike."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tests.models import group, random_vlm
from torch import nn

from foveate.families import VLM, UnsupportedModelError, load
from foveate.families.adapters import WEIGHTS, has_adapters
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import Recipe, Setup, load_recipe
from foveate.runs import load_policy
from foveate.training import StepReport, Trainer, TrainingError
from foveate.training import policy as policy_module
from foveate.training.checkpoints import checkpoints
from foveate.training.loop import refuse_other_recipe
from foveate.training.packing import batch_logprobs, pack, packed_logprobs
from foveate.training.policy import Reference, WithoutAdapters, prepare
from foveate.training.processes import ProcessError, begin
from foveate.training.scorer import Scorer, base_model
from foveate.training.update import Scored

SCENES = Scenes(SceneConfig(size=448), seed=3, length=16)
CPU = torch.device("cpu")
SMALL = (
    "optimisation.questions_per_step=2",
    "rollout.group_size=4",
    "rollout.max_new_tokens=6",
    "optimisation.steps=2",
    "objective.beta=0.04",
)
LORA = ("setup.lora.rank=4", "optimisation.learning_rate=1e-2")
BF16 = "setup.precision=bfloat16"
SETUPS = {
    "float32": (),
    "bfloat16": (BF16,),
    "frozen tower": ("setup.vision_tower=freeze",),
    "frozen tower, bfloat16": ("setup.vision_tower=freeze", BF16),
    "LoRA": LORA,
    "LoRA, bfloat16": (*LORA, BF16),
    "LoRA of the tower too, bfloat16": (*LORA, "setup.lora.targets=all", BF16),
}
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.fixture(autouse=True)
def _any_precision() -> Iterator[None]:
    """Accelerate holds one precision for the whole process, which is otherwise a run's own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def recipe(*overrides: str) -> Recipe:
    return load_recipe("demo", [*SMALL, *overrides])


def trainer_of(chosen: Recipe, run: Path, **options: object) -> Trainer:
    """Whose groups are never of equal rewards, so that every step moves the weights."""
    trainer = Trainer(chosen, load(), SCENES, run, **options)
    trainer.stage._score = lambda group: Scored(group, ({"accuracy": 0.0},) * 4, (0.0, 1.0, 0.0, 1.0))
    return trainer


def prepared(*overrides: str, vlm: VLM | None = None, seed: int = 0) -> VLM:
    return prepare(vlm or random_vlm(gain=1.0), recipe(*overrides).setup, seed=seed, device=CPU)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(next(iter(checkpoints(run / "checkpoints")[-1].glob("*model.safetensors"))))


def trainable(vlm: VLM) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in vlm.model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("setup", SETUPS)
def test_policy_and_reference_begin_alike_to_the_bit(tmp_path: Path, setup: str) -> None:
    trainer = trainer_of(recipe(*SETUPS[setup], "optimisation.steps=1"), tmp_path)
    before = {name: weight.detach().clone() for name, weight in trainable(trainer.learner.vlm).items()}
    (metrics,) = trainer.run()
    assert metrics["kl"] == 0.0
    after = trainable(trainer.learner.vlm)
    assert after.keys() == before.keys()
    assert all(weight.dtype is torch.float32 for weight in after.values())
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())


def test_an_update_of_a_millionth_is_kept_and_would_be_lost_in_bfloat16() -> None:
    """AdamW's first step is the learning rate, in every weight that has a gradient."""
    vlm = prepared(BF16)
    for kept, dtype in ((True, torch.float32), (False, torch.bfloat16)):
        weight = vlm.model.lm_head.weight.detach().to(dtype).requires_grad_()
        before, optimizer = weight.detach().clone(), torch.optim.AdamW([weight], lr=1e-6, weight_decay=0.0)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        moved = (weight.detach() != before).float().mean()
        assert moved > 0.95 if kept else moved < 0.05
    assert all(weight.dtype is torch.float32 for weight in trainable(vlm).values())


def test_what_is_frozen_is_bfloat16_where_autocast_would_make_it_so() -> None:
    vlm = prepared(*LORA, BF16)
    model = base_model(vlm.model)
    for name, module in model.named_modules():
        own = {parameter.dtype for parameter in module.parameters(recurse=False)}
        if not own:
            continue
        if isinstance(module, nn.Linear | nn.Conv3d) and "lora" not in name:
            assert own == {torch.bfloat16}, name
        else:
            assert own == {torch.float32}, name


def test_a_head_that_is_the_embedding_too_stays_float32() -> None:
    vlm = prepared(*LORA, BF16, vlm=random_vlm(tied=True))
    assert base_model(vlm.model).get_output_embeddings().weight.dtype is torch.float32


def test_a_model_loaded_in_lower_precision_is_trained_in_float32() -> None:
    vlm = prepared(BF16, vlm=load(dtype=torch.bfloat16))
    assert {weight.dtype for weight in trainable(vlm).values()} == {torch.float32}


def test_without_its_adapters_a_policy_is_its_frozen_copy() -> None:
    episodes = group([4, 6, 3])
    vlm = prepared(*LORA)
    with torch.no_grad():
        for name, weight in vlm.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    (batch,) = pack(vlm.family, episodes)
    scorer = Scorer(vlm.model)
    new_N = batch_logprobs(scorer, vlm.family, batch)
    ref_N = batch_logprobs(WithoutAdapters(scorer, vlm.model), vlm.family, batch)
    plain = random_vlm(gain=1.0)
    torch.testing.assert_close(ref_N, batch_logprobs(Scorer(plain.model), vlm.family, batch), atol=1e-6, rtol=0)
    assert not ref_N.requires_grad
    assert float((new_N - ref_N).detach().abs().max()) > 0.05
    # The policy's gradients do not notice that its adapters were switched off in between.
    new_N.mean().backward()
    assert all(weight.grad is not None and weight.requires_grad for weight in trainable(vlm).values())
    torch.testing.assert_close(batch_logprobs(scorer, vlm.family, batch), new_N)


def test_a_reference_stays_and_shares_a_frozen_tower() -> None:
    episodes = group([4, 6])
    for overrides, shared in ((("setup.vision_tower=freeze",), True), ((), False)):
        vlm = prepared(*overrides)
        reference = Reference(vlm.model, recipe(*overrides).setup, torch.no_grad)
        (batch,) = pack(vlm.family, episodes)
        before = batch_logprobs(reference, vlm.family, batch)
        with torch.no_grad():
            for weight in trainable(vlm).values():
                weight.add_(0.01)
        assert torch.equal(batch_logprobs(reference, vlm.family, batch), before)
        assert (reference.model.model.visual is vlm.model.model.visual) is shared
        assert not any(weight.requires_grad for weight in reference.parameters())


def test_a_frozen_tower_does_not_move_and_its_features_are_used_again(tmp_path: Path) -> None:
    trainer = trainer_of(recipe("setup.vision_tower=freeze"), tmp_path)
    cache = trainer.learner.vlm.model.model.get_image_features
    trainer.run()
    before, after = load().model.state_dict(), trainer.learner.vlm.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("visual" in name for name in moved)
    assert cache.hits > 2 * cache.misses > 0  # rollouts, then the policy, then the reference


@pytest.mark.parametrize("overrides", [(), LORA, ("setup.vision_tower=freeze", BF16)])
def test_with_gradient_checkpointing_blocks_run_twice_and_the_run_is_the_same(tmp_path: Path, overrides) -> None:
    runs: dict[bool, dict[str, int]] = {}
    for on in (False, True):
        chosen = recipe(*overrides, f"setup.gradient_checkpointing={str(on).lower()}")
        trainer = trainer_of(chosen, tmp_path / str(on))
        model, counts = base_model(trainer.learner.vlm.model), {"language": 0, "tower": 0}
        blocks = {"language": model.model.language_model.layers[0].mlp, "tower": model.model.visual.blocks[0].mlp}
        for name, block in blocks.items():

            def count(*_: object, name: str = name, counts: dict[str, int] = counts) -> None:
                counts[name] += 1

            block.register_forward_pre_hook(count)
        update, seen = trainer.stage.update, []

        def counted(groups, share, step, update=update, counts=counts, seen=seen):
            counts.update(language=0, tower=0)
            outcome = update(groups, share, step)
            seen.append(dict(counts))
            return outcome

        trainer.stage.update = counted
        trainer.run()
        assert not trainer.learner.scorer.training
        runs[on] = {name: sum(one[name] for one in seen) for name in blocks}
    policy = runs[False]["language"] if not any("lora" in one for one in overrides) else runs[False]["language"] / 2
    assert runs[True]["language"] == runs[False]["language"] + policy  # the reference is not run again
    trained = "setup.vision_tower=freeze" not in overrides and overrides != LORA
    assert runs[True]["tower"] == (2 if trained else 1) * runs[False]["tower"]
    one, other = weights(tmp_path / "False"), weights(tmp_path / "True")
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=1e-6, rtol=1e-4)


def test_dropout_is_off_in_the_mode_of_training_too() -> None:
    vlm = random_vlm(gain=1.0)
    vlm.model.model.language_model.layers[0].self_attn.attention_dropout = 0.5
    vlm.model.model.language_model.layers[1].mlp.act_fn = nn.Sequential(nn.SiLU(), nn.Dropout(0.5))
    ready = prepared(vlm=vlm)
    ready.model.train()
    with torch.no_grad():
        one, other = (torch.cat(packed_logprobs(ready, group([4, 6]))) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("setup", ["LoRA, bfloat16", "frozen tower, bfloat16"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, setup: str) -> None:
    chosen = recipe(*SETUPS[setup], "optimisation.steps=3")
    whole = trainer_of(chosen, tmp_path / "whole").run()

    def stop(report: StepReport) -> None:
        first.stop_requested = report.step == 0

    first = trainer_of(chosen, tmp_path / "split", observers=[stop])
    rows = first.run()
    rows += trainer_of(chosen, tmp_path / "split").run(resume=True)
    untimed = [
        [{name: value for name, value in row.items() if not name.startswith(("seconds", "memory"))} for row in run]
        for run in (whole, rows)
    ]
    assert untimed[0] == untimed[1]
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "split")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_run_of_adapters_is_loaded_as_the_policy(tmp_path: Path) -> None:
    trainer = trainer_of(recipe(*LORA), tmp_path)
    trainer.run()
    assert (checkpoints(tmp_path / "checkpoints")[-1] / WEIGHTS).is_file()
    policy = load_policy(str(tmp_path))
    assert not has_adapters(policy.model)
    with torch.no_grad():
        merged, own = (torch.cat(packed_logprobs(one, group([4, 6]))) for one in (policy, trainer.learner.vlm))
    torch.testing.assert_close(merged, own, atol=1e-4, rtol=0)
    with torch.no_grad():
        assert float((torch.cat(packed_logprobs(load(), group([4, 6]))) - own).abs().max()) > 0.05
    assert policy.model.name_or_path == str(checkpoints(tmp_path / "checkpoints")[-1])


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        (BF16, True),
        ("setup.lora.rank=8", True),
        ("setup.vision_tower=freeze", True),
        ("setup.gradient_checkpointing=true", False),
    ],
)
def test_a_run_resumes_with_the_setup_that_its_numbers_depend_on(tmp_path: Path, changed: str, refused: bool) -> None:
    Trainer(recipe("optimisation.steps=1"), load(), SCENES, tmp_path)._prepare_folder(resume=False)
    if refused:
        with pytest.raises(TrainingError, match=changed.split("=", maxsplit=1)[0].removesuffix(".rank")):
            refuse_other_recipe(tmp_path, recipe("optimisation.steps=1", changed))
    else:
        refuse_other_recipe(tmp_path, recipe("optimisation.steps=1", changed))


@pytest.mark.parametrize(
    ("device", "precision", "installed", "expected"),
    [
        ("cuda", "bfloat16", True, "flash_attention_2"),
        ("cuda", "bfloat16", False, None),
        ("cuda", "float32", True, None),
        ("cpu", "bfloat16", True, None),
    ],
)
def test_the_tower_gets_flash_attention_where_it_is_there(monkeypatch, device, precision, installed, expected) -> None:
    model, asked = random_vlm().model, []
    monkeypatch.setattr(policy_module, "is_flash_attn_2_available", lambda: installed)
    monkeypatch.setattr(model, "set_attn_implementation", asked.append)
    policy_module._set_tower_attention(model, Setup(precision=precision), torch.device(device))
    assert asked == ([{"vision_config": expected}] if expected else [])


def test_a_second_precision_in_one_process_is_refused() -> None:
    begin("float32")
    begin("float32")  # as a second stage does
    with pytest.raises(ProcessError, match=r"setup\.precision=bfloat16 in a process of its own"):
        begin("bfloat16")


def test_a_model_with_experts_is_not_quantised() -> None:
    """Nine tenths of its weights would be left as they are, without a word."""
    setup = recipe(*LORA, "setup.quantize=4bit").setup
    with pytest.raises(UnsupportedModelError, match="experts of qwen3_vl_moe"):
        prepare(random_vlm(kind="qwen3_vl_moe"), setup, seed=0, device=CPU)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_without_bitsandbytes_it_says_what_to_install() -> None:
    with pytest.raises(policy_module.MissingPackageError, match=r"foveate\[qlora\]"):
        prepared("setup.quantize=4bit", "setup.lora.rank=4")


@needs_bitsandbytes
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_adapters_on_four_bits(tmp_path: Path, precision: str) -> None:
    """Base frozen in NF4, the reference is the quantised base, only adapters are saved, a resumed run goes on."""
    import bitsandbytes

    chosen = recipe(*LORA, "setup.quantize=4bit", f"setup.precision={precision}")
    trainer = trainer_of(chosen, tmp_path)
    model = base_model(trainer.learner.vlm.model)
    quantised = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(quantised) == 7 * model.config.get_text_config().num_hidden_layers
    assert {module.weight.dtype for module in quantised} == {torch.uint8}
    history = trainer.run()
    assert history[0]["kl"] == 0.0
    assert history[1]["grad_norm"] > 0
    assert sorted(path.name for path in checkpoints(tmp_path / "checkpoints")[-1].glob("*.safetensors")) == [WEIGHTS]
    assert set(trainable(trainer.learner.vlm)) == {
        n for n, _ in trainer.learner.vlm.model.named_parameters() if "lora" in n
    }
    load_policy(str(tmp_path))
