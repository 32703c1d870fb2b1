"""What a family makes of pixels, as its configuration alone says: visual tokens, and the inputs they come of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import PretrainedConfig

from foveate.images import PixelBudget

Grid = tuple[int, int]
"""Rows and columns of a view: of visual tokens, or of tiles."""


@dataclass(frozen=True, slots=True)
class Geometry(ABC):
    """How views become visual tokens.

    Attributes:
        axes: of position ids: 3 for multimodal rotary embeddings, 1 otherwise.
        patch: the side of what the vision tower embeds, in pixels.
    """

    axes: ClassVar[int]
    patch: int

    @classmethod
    @abstractmethod
    def of(cls, config: PretrainedConfig) -> Self:
        """Read off a model's configuration."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """The side of one visual token, in pixels."""

    @abstractmethod
    def grid(self, pixels: int) -> Grid:
        """Of the nearly square view with the most visual tokens under `pixels`."""

    @abstractmethod
    def visual_tokens(self, grid: Grid) -> int:
        """Of a view."""

    @abstractmethod
    def features_in(self, images: Mapping[str, Tensor]) -> int:
        """How many visual features the model makes of keyword arguments of its forward."""

    @abstractmethod
    def plain(self, grids: Sequence[Grid]) -> dict[str, Tensor]:
        """Pictures of one colour each, as keyword arguments of the model's forward; empty when there are none."""


@dataclass(frozen=True, slots=True)
class Patches(Geometry):
    """One grid of patches, of which each square of `merge` x `merge` is a visual token (Qwen-VL).

    Attributes:
        width: of a patch's row in `pixel_values`: channels x frames x patch x patch.
    """

    axes = 3
    merge: int
    width: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> Self:
        """Read off `vision_config`."""
        vision = config.vision_config
        patch = _side(vision.patch_size)
        width = int(getattr(vision, "in_channels", 3)) * int(vision.temporal_patch_size) * patch**2
        return cls(patch, int(vision.spatial_merge_size), width)

    @property
    def multiple(self) -> int:
        """Patch size times merge size: 28 px, 32 in Qwen3-VL."""
        return self.patch * self.merge

    def grid(self, pixels: int) -> Grid:
        """Rows and columns of visual tokens."""
        tokens = max(1, pixels // self.multiple**2)
        root = int(tokens**0.5)
        rows = max(range(max(1, 2 * root // 3), root + 1), key=lambda rows: tokens // rows * rows)
        return rows, tokens // rows

    def visual_tokens(self, grid: Grid) -> int:
        """All of the grid."""
        return grid[0] * grid[1]

    def features_in(self, images: Mapping[str, Tensor]) -> int:
        """Patches over merge size squared."""
        return len(images["pixel_values"]) // self.merge**2 if "pixel_values" in images else 0

    def plain(self, grids: Sequence[Grid]) -> dict[str, Tensor]:
        """`pixel_values` (patches, width) and `image_grid_thw` (images, 3)."""
        if not grids:
            return {}
        parts = [
            torch.full((rows * columns * self.merge**2, self.width), float(n))
            for n, (rows, columns) in enumerate(grids)
        ]
        sides = [[1, rows * self.merge, columns * self.merge] for rows, columns in grids]
        return {"pixel_values": torch.cat(parts), "image_grid_thw": torch.tensor(sides)}


@dataclass(frozen=True, slots=True)
class Tiles(Geometry):
    """Square tiles of one size, and a thumbnail of the whole where there are several (InternVL).

    Attributes:
        side: of a tile, in pixels.
        downsampling: of its patches to visual tokens, along each side; below 1.
    """

    axes = 1
    side: int
    downsampling: float

    @classmethod
    def of(cls, config: PretrainedConfig) -> Self:
        """Read off `vision_config` and `downsample_ratio`."""
        vision = config.vision_config
        return cls(_side(vision.patch_size), _side(vision.image_size), config.downsample_ratio)

    @property
    def multiple(self) -> int:
        """Patch size over the downsampling: 28 px of a tile."""
        return int(self.patch / self.downsampling)

    @property
    def tile_tokens(self) -> int:
        """Visual tokens of a tile: 256."""
        return int(self.side // self.patch * self.downsampling) ** 2

    def budget(self, fewest: int, most: int) -> PixelBudget:
        """Of so many tiles, without the thumbnail."""
        return PixelBudget(fewest * self.side**2, most * self.side**2)

    def grid(self, pixels: int) -> Grid:
        """One row of tiles, the thumbnail included."""
        tiles = max(1, pixels // self.side**2)
        return 1, tiles + (tiles > 1)

    def visual_tokens(self, grid: Grid) -> int:
        """Of all tiles."""
        return grid[0] * grid[1] * self.tile_tokens

    def features_in(self, images: Mapping[str, Tensor]) -> int:
        """Tiles times 256."""
        return len(images["pixel_values"]) * self.tile_tokens if "pixel_values" in images else 0

    def plain(self, grids: Sequence[Grid]) -> dict[str, Tensor]:
        """`pixel_values` (tiles, channels, side, side)."""
        if not grids:
            return {}
        parts = [torch.full((columns, 3, self.side, self.side), float(n)) for n, (_, columns) in enumerate(grids)]
        return {"pixel_values": torch.cat(parts)}


def _side(size: Any) -> int:
    """Of a square, which configurations write as one number or as two."""
    return int(size[0] if isinstance(size, (list, tuple)) else size)
