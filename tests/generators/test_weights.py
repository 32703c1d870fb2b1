"""What an engine is given of a policy: transformers' names, adapters merged, the policy itself unchanged."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from foveate.families import load
from foveate.generators.weights import UnmergeableError, policy_tensors, save_weights

TARGETS = ["q_proj", "v_proj", "down_proj", "qkv"]  # of both towers


def adapted(**options):
    """The embedded model with LoRA whose weights are not zero."""
    torch.manual_seed(0)
    model = get_peft_model(load().model, LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS, **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.1)
    return model


def test_a_plain_model_is_given_as_it_is() -> None:
    model = load().model
    given = dict(policy_tensors(model))
    assert given.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(given[name], parameter) for name, parameter in model.named_parameters())
    assert not any(tensor.requires_grad for tensor in given.values())


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"modules_to_save": ["merger"]}])
def test_adapters_are_merged_as_peft_merges_them(options) -> None:
    model = adapted(**options)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    given = dict(policy_tensors(model))
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    merged = dict(model.merge_and_unload().named_parameters())
    assert given.keys() == merged.keys()
    for name, tensor in given.items():
        torch.testing.assert_close(tensor, merged[name].detach(), rtol=0, atol=1e-7)
    plain = dict(load().model.named_parameters())
    assert sum(not torch.equal(given[name], plain[name]) for name in given) > 10


def test_an_adapter_that_is_switched_off_counts_for_nothing() -> None:
    model = adapted()
    with model.disable_adapter():
        given = dict(policy_tensors(model))
    assert all(torch.equal(given[name], parameter) for name, parameter in load().model.named_parameters())


def test_what_is_not_plain_lora_is_refused_by_name() -> None:
    with pytest.raises(UnmergeableError, match=r"qkv.*plain LoRA.*setup.engine.name=local"):
        list(policy_tensors(adapted(use_dora=True)))


def test_quantised_weights_are_refused_by_name() -> None:
    model = load().model
    packed = torch.nn.Parameter(torch.zeros(4, 1, dtype=torch.uint8), requires_grad=False)
    model.get_submodule("model.language_model.layers.0.mlp.up_proj").weight = packed
    with pytest.raises(UnmergeableError, match=r"up_proj.*quantised.*setup.engine.name=local"):
        list(policy_tensors(model))


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        save_weights([("a", torch.full((2, 3), value).T)], tmp_path / "model.safetensors")
        assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], torch.full((3, 2), value))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
