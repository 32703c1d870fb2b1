"""A model known by its configuration alone: shapes without weights, and what its family makes of pixels."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from foveate.errors import FoveateError
from foveate.families import EMBEDDED, tiny
from foveate.families.registry import architecture_of
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

    @property
    def tiles(self) -> bool:
        """Whether an image is square tiles of one size (InternVL), or one grid of patches."""
        return bool(self.config.model_type == "internvl")

    @property
    def axes(self) -> int:
        """Of position ids."""
        return 1 if self.tiles else 3

    @property
    def _patch(self) -> int:
        size = self.config.vision_config.patch_size
        return int(size[0] if isinstance(size, (list, tuple)) else size)

    @cached_property
    def _tile(self) -> tuple[int, int]:
        """The side of a tile in pixels, and its visual tokens."""
        side = self.config.vision_config.image_size
        side = int(side[0] if isinstance(side, (list, tuple)) else side)
        return side, int(side // self._patch * self.config.downsample_ratio) ** 2

    @property
    def multiple(self) -> int:
        """The side of one visual token, in pixels."""
        if self.tiles:
            return int(self._patch / self.config.downsample_ratio)
        return self._patch * int(self.config.vision_config.spatial_merge_size)

    def grid(self, pixels: int) -> tuple[int, int]:
        """Rows and columns of the nearly square view with the most visual tokens under `pixels`; rows of tiles, 1."""
        if self.tiles:
            side, _ = self._tile
            tiles = max(1, pixels // side**2)
            return 1, tiles + (tiles > 1)  # the thumbnail
        tokens = max(1, pixels // self.multiple**2)
        root = int(tokens**0.5)
        rows = max(range(max(1, 2 * root // 3), root + 1), key=lambda rows: tokens // rows * rows)
        return rows, tokens // rows

    def visual_tokens(self, grid: tuple[int, int]) -> int:
        """Of a view."""
        return grid[0] * grid[1] * (self._tile[1] if self.tiles else 1)

    def images(self, grids: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Pictures of one colour each, as keyword arguments of the model's forward."""
        if not grids:
            return {}
        if self.tiles:
            side = self._tile[0]
            parts = [torch.full((columns, 3, side, side), float(n)) for n, (_, columns) in enumerate(grids)]
            return {"pixel_values": torch.cat(parts)}
        vision, merge = self.config.vision_config, int(self.config.vision_config.spatial_merge_size)
        width = int(getattr(vision, "in_channels", 3)) * int(vision.temporal_patch_size) * self._patch**2
        parts = [torch.full((rows * columns * merge**2, width), float(n)) for n, (rows, columns) in enumerate(grids)]
        sides = [[1, rows * merge, columns * merge] for rows, columns in grids]
        return {"pixel_values": torch.cat(parts), "image_grid_thw": torch.tensor(sides)}

    def features_in(self, images: Mapping[str, Tensor]) -> int:
        """As `Family.features_in`."""
        if "pixel_values" not in images:
            return 0
        if self.tiles:
            return len(images["pixel_values"]) * self._tile[1]
        return len(images["pixel_values"]) // int(self.config.vision_config.spatial_merge_size) ** 2

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
    if config.model_type == "internvl":
        side = config.vision_config.image_size[0] ** 2
        return PixelBudget(said.get("min_patches", 1) * side, said.get("max_patches", 12) * side)
    size = said.get("size") or {}
    least = said.get("min_pixels") or size.get("shortest_edge") or usual.min_pixels
    most = said.get("max_pixels") or size.get("longest_edge") or usual.max_pixels
    return PixelBudget(int(least), int(most))
