"""LoRA adapters: made without changing anything, written alone, read again with what they were trained on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models import group, random_vlm
from torch import nn

from foveate.families import VLM, UnsupportedModelError, checkpoint_digest, load, tiny
from foveate.families.adapters import CONFIG, WEIGHTS, add_adapters, has_adapters, language_model_of, put_adapters
from foveate.training.packing import packed_logprobs

EPISODES = group([4, 6])


def adapted(vlm: VLM, *, with_tower: bool = False, rank: int = 4, seed: int = 0, moved: bool = False) -> VLM:
    model = add_adapters(vlm.model, rank=rank, alpha=8, with_tower=with_tower, seed=seed)
    if moved:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.1, generator=generator)
    return VLM(model, vlm.family)


def logprobs(vlm: VLM) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(packed_logprobs(vlm, EPISODES))


def adapters_of(vlm: VLM) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in vlm.model.named_parameters() if "lora" in name}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[VLM, Path]:
    """Moved adapters of the embedded model, and where they were written."""
    vlm, folder = adapted(load(), moved=True), tmp_path_factory.mktemp("adapters")
    vlm.save(folder)
    return vlm, folder


@pytest.mark.parametrize("with_tower", [False, True])
def test_every_linear_layer_of_the_language_model_gets_one_and_the_tower_if_asked(with_tower: bool) -> None:
    vlm = random_vlm()
    linear = {name for name, module in vlm.model.named_modules() if isinstance(module, nn.Linear)}
    inside = {name for name in linear if "language_model" in name or (with_tower and "visual" in name)}
    found = {
        re.sub(r"^base_model\.model\.|\.lora_A$", "", name)
        for name, module in adapted(vlm, with_tower=with_tower).model.named_modules()
        if name.endswith("lora_A")
    }
    assert found == inside
    assert not any("lm_head" in name for name in found)


def test_nothing_else_is_trained_and_nothing_changes_before_the_first_update() -> None:
    vlm = random_vlm()
    before = logprobs(vlm)
    after = adapted(vlm)
    assert torch.equal(logprobs(after), before)
    trained = {name for name, weight in after.model.named_parameters() if weight.requires_grad}
    assert trained == adapters_of(after).keys()
    assert all(weight.dtype is torch.float32 for weight in adapters_of(after).values())


def test_the_first_weights_follow_the_seed_and_leave_torchs_state_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (adapters_of(adapted(random_vlm(), seed=seed)) for seed in (5, 5, 6))
    torch.testing.assert_close(one, same, atol=0, rtol=0)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    random_vlm()  # draws its weights before its own generator does
    torch.set_rng_state(state)
    adapted_state = torch.get_rng_state()
    vlm = random_vlm()
    torch.set_rng_state(adapted_state)
    adapted(vlm)
    assert torch.equal(torch.get_rng_state(), adapted_state)


def test_a_checkpoint_holds_the_adapters_alone_and_says_of_what(saved: tuple[VLM, Path]) -> None:
    vlm, folder = saved
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [WEIGHTS]
    assert len(load_file(folder / WEIGHTS)) == len(adapters_of(vlm))
    assert (folder / "tokenizer.json").is_file()
    assert (folder / "preprocessor_config.json").is_file()
    config = json.loads((folder / CONFIG).read_text())
    assert (config["base_model_name_or_path"], config["r"], config["inference_mode"]) == ("tiny", 4, True)


def test_loaded_again_they_are_merged(saved: tuple[VLM, Path]) -> None:
    vlm, folder = saved
    again = load(folder)
    assert not has_adapters(again.model)
    assert all(weight.requires_grad for weight in again.model.parameters())  # a run of all weights may begin here
    assert again.model.state_dict().keys() == load().model.state_dict().keys()
    torch.testing.assert_close(logprobs(again), logprobs(vlm), atol=1e-4, rtol=0)
    assert float((logprobs(again) - logprobs(load())).abs().max()) > 0.05
    assert load(folder, dtype=torch.bfloat16).model.dtype is torch.bfloat16


def test_put_back_they_are_the_same_to_the_bit(saved: tuple[VLM, Path]) -> None:
    vlm, folder = saved
    other = adapted(load(), seed=9)
    put_adapters(other.model, folder)
    torch.testing.assert_close(adapters_of(other), adapters_of(vlm), atol=0, rtol=0)
    assert torch.equal(logprobs(other), logprobs(vlm))


@pytest.mark.parametrize("wrong", [{"with_tower": True}, {"rank": 2}])
def test_adapters_of_another_shape_are_not_put_in_their_place(saved: tuple[VLM, Path], wrong: dict) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        put_adapters(adapted(load(), **wrong).model, saved[1])


def test_adapters_upon_adapters_are_loaded_through(saved: tuple[VLM, Path], tmp_path: Path) -> None:
    """A second stage begins with the first one's merged and trains its own."""
    second = adapted(load(saved[1]), seed=3, moved=True)
    second.save(tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["base_model_name_or_path"] == str(saved[1])
    torch.testing.assert_close(logprobs(load(tmp_path)), logprobs(second), atol=1e-4, rtol=0)


def test_a_run_of_two_stages_can_be_moved(saved: tuple[VLM, Path], tmp_path: Path) -> None:
    first, second = (tmp_path / "run" / stage / "checkpoints" / "step-000002" for stage in ("1-rl", "2-sft"))
    shutil.copytree(saved[1], first)
    vlm = adapted(load(first), seed=3, moved=True)
    vlm.save(second)
    digest = checkpoint_digest(load(second))
    (tmp_path / "run").rename(tmp_path / "renamed")
    again = load(tmp_path / "renamed" / "2-sft" / "checkpoints" / "step-000002")
    torch.testing.assert_close(logprobs(again), logprobs(vlm), atol=1e-4, rtol=0)
    assert checkpoint_digest(again) == digest


def test_a_digest_covers_adapters_their_scale_and_their_base(saved: tuple[VLM, Path], tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "adapters"
    shutil.copytree(tiny.path(), base, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(saved[1], folder)

    def change(file: Path, **changes: object) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    change(folder / CONFIG, base_model_name_or_path=str(base))
    digests = [checkpoint_digest(load(folder))]
    assert digests[0] not in ("", checkpoint_digest(load()))
    for file, name in ((base / "model.safetensors", "lm_head.weight"), (folder / WEIGHTS, None)):
        weights = load_file(file)
        weights[name if name in weights else max(weights)].view(-1)[:8] += 0.5
        save_file(weights, file, metadata={"format": "pt"})
        digests.append(checkpoint_digest(load(folder)))
    change(folder / CONFIG, lora_alpha=16)
    digests.append(checkpoint_digest(load(folder)))
    assert len(set(digests)) == len(digests)
    base.rename(tmp_path / "moved")
    change(folder / CONFIG, base_model_name_or_path=str(tmp_path / "moved"))
    assert checkpoint_digest(load(folder)) == digests[-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder, config: config.update(base_model_name_or_path=str(folder / "gone" / "away")),
            "base_model_name",
        ),
        (lambda folder, config: config.pop("base_model_name_or_path"), "does not say"),
        (lambda folder, config: (folder / WEIGHTS).unlink(), "do not fit their base"),
        (lambda folder, config: config.update(r=3), "do not fit their base"),
        (lambda folder, config: config.update(target_modules="model.language_model.layers.0.mlp.*_proj"), "layers"),
    ],
)
def test_what_cannot_be_loaded_says_why(saved: tuple[VLM, Path], tmp_path: Path, change: object, said: str) -> None:
    folder = shutil.copytree(saved[1], tmp_path / "adapters")
    config = json.loads((folder / CONFIG).read_text())
    change(folder, config)
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises((UnsupportedModelError, OSError), match=said) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_a_model_without_adapters_has_none() -> None:
    vlm = random_vlm()
    assert not has_adapters(vlm.model)
    assert has_adapters(adapted(vlm).model)
    assert language_model_of(vlm.model) is vlm.model.model.language_model
