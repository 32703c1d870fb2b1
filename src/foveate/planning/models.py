"""A model known by its configuration alone: shapes without weights."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from foveate.errors import FoveateError
from foveate.families import EMBEDDED, tiny
from foveate.families.geometry import Geometry, Tiles
from foveate.families.registry import ARCHITECTURES, architecture_of
from foveate.images import PixelBudget
from foveate.planning.published import BUDGETS, CONFIGS


class PlanError(FoveateError, ValueError):
    """Nothing that can be planned for; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """What a configuration says.

    Attributes:
        name: as it was asked for.
        source: where the configuration is from, for people.
        budget: pixels of one view, the checkpoint's own.
    """

    name: str
    source: str
    config: PretrainedConfig
    budget: PixelBudget

    @property
    def text(self) -> Any:
        """The language model's part of the configuration."""
        return self.config.get_text_config()

    @cached_property
    def geometry(self) -> Geometry:
        """What its family makes of pixels."""
        return _geometry_of(self.config)

    @property
    def image_token_id(self) -> int:
        """The placeholder of one visual token."""
        return int(self.config.image_token_id)

    @property
    def text_token_id(self) -> int:
        """Any other."""
        return int(self.image_token_id == 0)

    def model(self, fake: FakeTensorMode | None = None) -> PreTrainedModel:
        """The model in float32, without contents: fake tensors, or torch's meta device where `fake` is None."""
        kind = architecture_of(self.name, self.config.to_dict()).weights
        with fake if fake is not None else nullcontext(), nullcontext() if fake is not None else torch.device("meta"):
            model: PreTrainedModel = cast(Any, kind)(copy.deepcopy(self.config))
            model.eval()
            return model

    @cached_property
    def parameters(self) -> int:
        """All weights; shared ones count once."""
        return sum(parameter.numel() for parameter in self.model().parameters())


def shapes_of(model: str) -> Shapes:
    """Reads a configuration: of a folder, of the embedded model, or of a hub id.

    Of a hub id what was downloaded before is read; then the table of published shapes; only then the hub is asked.

    Raises:
        PlanError: there is none, it is not whole, or it is of a model with experts.
        UnsupportedModelError: the architecture is not one of the supported families.
    """
    path = tiny.path() if model == EMBEDDED else Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise PlanError(f"{path} has no config.json, which says the shapes of a model")
        return replace(_read(str(path), "its config.json"), name=model)
    if model.startswith((".", "/", "~")):
        raise PlanError(f"there is no folder {path}: name a checkpoint's folder with its config.json, or a hub id")
    try:
        return _read(model, "its config.json, downloaded before", local_files_only=True)
    except OSError:
        pass
    if model in CONFIGS:
        written = dict(CONFIGS[model])
        config = AutoConfig.for_model(written.pop("model_type"), **written)
        source = "published shapes that come with foveate: the checkpoint's own config.json was not read"
        return Shapes(model, source, config, BUDGETS[config.model_type])
    try:
        return _read(model, "its config.json on the hub")
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise PlanError(
            f"the configuration of {model} cannot be had ({reason}). Give a folder with its config.json, or one of "
            f"those whose shapes are known here: {', '.join(CONFIGS)}"
        ) from error


def _geometry_of(config: PretrainedConfig) -> Geometry:
    return ARCHITECTURES[config.model_type].family.layout.of(config)


def _read(path: str, source: str, **options: Any) -> Shapes:
    written, _ = PretrainedConfig.get_config_dict(path, **options)
    if not written:
        raise OSError(f"{path} has no config.json")
    architecture_of(path, written)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, **options)
        # Not "num_experts in it": a dense model's configuration may say that there are none.
        if getattr(config.get_text_config(), "num_experts", None):
            raise PlanError(
                f"{path} has experts, which are not planned for: how many tokens each gets depends on the weights"
            )
        return Shapes(path, source, config, _budget(path, config))
    except PlanError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"{path}: its config.json cannot be read: {error}") from error


def _budget(path: str, config: PretrainedConfig) -> PixelBudget:
    """By the checkpoint's processor where its file is there, or as the family was published."""
    file = Path(path) / "preprocessor_config.json"
    usual = BUDGETS[config.model_type]
    if not file.is_file():
        return usual
    said = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(geometry := _geometry_of(config), Tiles):
        return geometry.budget(said.get("min_patches", 1), said.get("max_patches", 12))
    size = said.get("size") or {}
    least = said.get("min_pixels") or size.get("shortest_edge") or usual.min_pixels
    most = said.get("max_pixels") or size.get("longest_edge") or usual.max_pixels
    return PixelBudget(int(least), int(most))
