"""LoRA adapters on a model: made, written, and read again with the checkpoint that they were trained on.

A checkpoint of adapters is a folder with `adapter_model.safetensors` and `adapter_config.json` as PEFT writes them. The
latter names the base: a folder, a hub id with its commit, or the embedded model.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from foveate.errors import FoveateError
from foveate.families import tiny
from foveate.families.traits import UnsupportedModelError

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
NAMES_BASE = ("base_model_name_or_path", "revision")
"""What in it says where the base is."""
_ADAPTER = "default"


class MissingPackageError(FoveateError, ImportError):
    """A package that a setting needs is not installed; the message says how to install it."""


class Base(NamedTuple):
    """What adapters were trained on: a folder, hub id or name, and the commit of a hub id."""

    model: str
    revision: str | None


def base_of(folder: str | Path) -> Base | None:
    """What a folder of adapters was trained on; None where the folder holds no adapters.

    Raises:
        UnsupportedModelError: the folder's configuration cannot be read, or names no base.
    """
    file = Path(folder) / CONFIG
    if not file.is_file() or (Path(folder) / "config.json").is_file():
        return None
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        base = Base(str(written["base_model_name_or_path"]), written.get("revision"))
        return base._replace(model=_moved_along(Path(folder), base.model))
    except (ValueError, KeyError) as error:
        raise UnsupportedModelError(f"{file} does not say what the adapters were trained on: {error}") from error


def _moved_along(folder: Path, base: str) -> str:
    """Where the base is now: one that is an earlier stage of the same run goes with the run's folder."""
    was, place = Path(base), folder.resolve()
    if not was.is_absolute() or was.is_dir() or was.parent.name != "checkpoints" or len(place.parents) < 3:
        return base
    now = place.parents[2].joinpath(*was.parts[-3:])
    return str(now) if now.is_dir() else base


def backbone_of(model: PreTrainedModel) -> nn.Module:
    """The model without its head: the language model, and beside it what turns images into features."""
    inner: nn.Module = cast(Any, model).model
    return inner


def language_model_of(model: PreTrainedModel) -> nn.Module:
    """The language model without its head."""
    inner: nn.Module = cast(Any, backbone_of(model)).language_model
    return inner


def tower_of(model: PreTrainedModel) -> list[nn.Module]:
    """What turns images into features: the vision tower, and the projector where it stands beside the tower."""
    language_model = language_model_of(model)
    return [child for child in backbone_of(model).children() if child is not language_model]


def add_adapters(model: PreTrainedModel, *, rank: int, alpha: float, with_tower: bool, seed: int) -> PreTrainedModel:
    """A model with fresh LoRA adapters, all other weights frozen. It computes what it did before, to the bit.

    Args:
        model: changed in place; any family's.
        with_tower: adapters in the vision tower and its projector too, not in the language model alone.
        seed: of the adapters' first weights; torch's own random state is left as it was.

    Returns:
        PEFT's wrapper of it.

    Raises:
        MissingPackageError: PEFT is not installed.
    """
    peft = _peft()
    roots = [language_model_of(model), *(tower_of(model) if with_tower else ())]
    inside = {id(module) for root in roots for module in root.modules()}
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and id(module) in inside]
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=_pattern(model, names))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # PEFT asks it
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(model, config)
    config.base_model_name_or_path, config.revision = _base_name(model)  # PEFT knows the name alone
    return cast(PreTrainedModel, adapted)


def has_adapters(model: nn.Module) -> bool:
    """Whether it is PEFT's wrapper of a model."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


def save_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Writes the adapters alone, in PEFT's layout."""
    from peft.utils import get_peft_model_state_dict

    weights = get_peft_model_state_dict(cast("PeftModel", model), save_embedding_layers=False)
    save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / WEIGHTS)
    config = cast(Any, model).peft_config[_ADAPTER]
    config.inference_mode = True
    try:
        config.save_pretrained(str(folder))
    finally:
        config.inference_mode = False


def put_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Puts the adapters of a folder in the place of those that a model has.

    Raises:
        ValueError: they are adapters of other layers or of another rank.
        OSError: there is no file of weights.
    """
    from peft.utils import set_peft_model_state_dict

    weights = load_file(folder / WEIGHTS)
    found: Any = set_peft_model_state_dict(cast("PeftModel", model), weights)
    own = sum(_ADAPTER in name.split(".") for name in model.state_dict())
    if found.unexpected_keys or len(weights) != own:
        raise ValueError(f"it has adapters of {len(weights)} weights, the model of {own}, or of other layers")


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with the adapters of a folder added to its weights, as fit for training as any checkpoint.

    Raises:
        UnsupportedModelError: the adapters do not fit the base.
        MissingPackageError: PEFT is not installed.
    """
    peft = _peft()
    try:
        adapted = peft.PeftModel.from_pretrained(cast(Any, model), str(folder))
        found = sum(_ADAPTER in name.split(".") for name in adapted.state_dict())
        if found != len(load_file(folder / WEIGHTS)):
            raise ValueError(f"{WEIGHTS} is not of the layers that {CONFIG} names")
        whole = cast(Any, adapted).merge_and_unload()
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UnsupportedModelError(f"{folder}: its adapters do not fit their base: {reason}") from error
    whole.name_or_path = str(folder)
    whole.requires_grad_(True)  # PEFT froze the base; what is trained of it next, its setup says
    return cast(PreTrainedModel, whole)


def _base_name(model: PreTrainedModel) -> Base:
    name = str(model.name_or_path)
    if name == str(tiny.path()):
        return Base("tiny", None)  # wherever the package is installed
    if name and Path(name).is_dir():
        return Base(str(Path(name).resolve()), None)
    return Base(name, getattr(model.config, "_commit_hash", None))


def _pattern(model: nn.Module, names: list[str]) -> str:
    """A regular expression for exactly these modules: one for all blocks of a kind, where none but these fit it."""
    short = "|".join(sorted({re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(name)) for name in names}))
    fit = sum(re.fullmatch(short, name) is not None for name, _ in model.named_modules())
    return short if fit == len(names) else "|".join(map(re.escape, names))


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingPackageError("LoRA needs PEFT: pip install 'foveate[train]'") from error
    return peft
