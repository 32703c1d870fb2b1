"""The policy and its reference as a run's setup wants them: what is trained, in which precision, kept where.

What is trained is float32. An update of 1e-6 is a sixtieth of the step between two weights of 1e-2 in bfloat16, and
would be lost. With `precision: bfloat16` the frozen linear and convolution layers are kept in bfloat16, which is what
autocast would make of them at each use: the same numbers, in half the memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from foveate.families.adapters import MissingPackageError, add_adapters, backbone_of, language_model_of, tower_of
from foveate.families.base import VLM
from foveate.families.traits import UnsupportedModelError
from foveate.recipes import Recipe, Setup
from foveate.training.features import FeatureCache
from foveate.training.learner import Learner
from foveate.training.scorer import Scorer, base_model
from foveate.training.sharding import shard

_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The layers that autocast runs in lower precision. Embeddings and norms are not among them."""


def prepare(vlm: VLM, setup: Setup, *, seed: int, device: torch.device) -> VLM:
    """The policy as it is trained, on the device.

    Args:
        vlm: changed in place.
        seed: of fresh adapters.

    Raises:
        MissingPackageError: the setup needs PEFT or bitsandbytes, which is not installed.
        UnsupportedModelError: a model with experts is to be quantised.
    """
    model = cast(PreTrainedModel, vlm.model.float())
    _without_dropout(model)
    _set_tower_attention(model, setup, device)
    if setup.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if setup.quantize:
        _quantise(model, torch.bfloat16 if setup.precision == "bfloat16" else torch.float32, device)
    if lora := setup.lora:
        with_tower = lora.targets == "all"
        model = add_adapters(model, rank=lora.rank, alpha=lora.alpha, with_tower=with_tower, seed=seed)
    elif not setup.trains_tower:
        for part in tower_of(model):
            part.requires_grad_(False)
    if setup.precision == "bfloat16":
        _cast_frozen(model)
    if not setup.trains_tower:
        FeatureCache(base_model(model))
    nn.Module.to(model, device)
    return VLM(model, vlm.family)


def with_reference(
    policy: VLM, recipe: Recipe, steps: int, accelerator: Accelerator, *, sharded: bool = False
) -> tuple[Learner, Reference | WithoutAdapters | None]:
    """Who learns in the stage `rl`, and the reference that it is held to; None where beta is 0.

    Args:
        policy: as `prepare` made it.
        recipe: its objective, setup and optimizer.
        steps: of the whole stage.
        sharded: over the processes, the reference's copy too.
    """
    setup, wanted = recipe.setup, recipe.objective.beta > 0
    reference: Reference | WithoutAdapters | None = None
    if wanted and not setup.lora:
        reference = Reference(policy.model, setup, accelerator.autocast)  # before the policy is wrapped
        if sharded:
            shard(reference, accelerator)
    learner = Learner(policy, recipe.optimisation, steps, accelerator, shard=sharded)
    if wanted and setup.lora:
        reference = WithoutAdapters(learner.scorer, policy.model)
    return learner, reference


class Reference(Scorer):
    """The policy as it is now, frozen: a copy, which shares what is not trained.

    Args:
        model: the policy, before it is wrapped for training.
        setup: under which it is trained: the copy is kept in that precision, and shares a frozen tower.
        autocast: what the policy's forward runs under.
    """

    def __init__(
        self, model: PreTrainedModel, setup: Setup, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        frozen = [] if setup.trains_tower else [*tower_of(model), cast(Any, backbone_of(model)).get_image_features]
        own = copy.deepcopy(model, {id(part): part for part in frozen}).requires_grad_(False)
        if setup.precision == "bfloat16":
            _cast_frozen(own)
        super().__init__(own)
        self._autocast = autocast

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """As `Scorer`, without gradient."""
        with self._autocast():
            return super().forward(*args, **kwargs)


class WithoutAdapters(nn.Module):
    """The reference of a policy with adapters: itself without them, no second copy.

    Args:
        scorer: the policy as it is called in training, perhaps wrapped.

    Attributes:
        disabled: a context in which the policy has no adapters.
    """

    def __init__(self, scorer: nn.Module, model: PreTrainedModel) -> None:
        super().__init__()
        self.module = scorer
        self.disabled: Callable[[], AbstractContextManager[None]] = cast(Any, model).disable_adapter

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """As the scorer."""
        with self.disabled():
            logprobs_N: Tensor = self.module(*args, **kwargs)
        return logprobs_N


def _without_dropout(model: nn.Module) -> None:
    """Off by what the modules hold, not by their mode: checkpointing needs the mode of training.

    Old and new log-probs, and packed and separate rows, must be of one function.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _set_tower_attention(model: PreTrainedModel, setup: Setup, device: torch.device) -> None:
    """Flash attention, which knows images of different sizes side by side, where it is there; it has no float32."""
    if device.type == "cuda" and setup.precision == "bfloat16" and is_flash_attn_2_available():
        model.set_attn_implementation({"vision_config": "flash_attention_2"})


def _cast_frozen(model: nn.Module) -> None:
    """To bfloat16, what autocast would cast at each use. An embedding that is also the head stays as it is."""
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        frozen = not any(parameter.requires_grad for parameter in own)
        if isinstance(module, _CAST) and frozen and id(module.weight) not in embedded:
            for parameter in own:
                if parameter.dtype is torch.float32:  # not what is quantised
                    parameter.data = parameter.data.to(torch.bfloat16)


def _quantise(model: PreTrainedModel, compute: torch.dtype, device: torch.device) -> None:
    """The language model's linear layers to NF4, one after the other: the device never holds them whole."""
    if any(weight.ndim == 3 for weight in language_model_of(model).parameters()):
        raise UnsupportedModelError(
            f"setup.quantize is for dense models: the experts of {model.config.model_type}, nearly all of its weights, "
            "are no linear layers and would stay as they are"
        )
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingPackageError("setup.quantize needs bitsandbytes: pip install 'foveate[qlora]'") from error
    language_model = language_model_of(model)
    linear = [(name, module) for name, module in language_model.named_modules() if type(module) is nn.Linear]
    for name, module in linear:
        layer = bitsandbytes.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=compute,
            quant_type="nf4",
        )
        layer.load_state_dict(module.state_dict())
        # On a CPU that has the instructions it would repack itself, and round once more, in the first rollout.
        layer.support_avx512bf16_for_cpu = False
        language_model.set_submodule(name, layer.to(device).requires_grad_(False))
    cast(Any, model).is_loaded_in_4bit = True  # by this PEFT knows what its adapters stand on
