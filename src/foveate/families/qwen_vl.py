"""What the Qwen-VL families share: images as patches of one grid, vision tokens, three-axis rotary positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from foveate.families.base import ContextError, Family
from foveate.families.geometry import Patches
from foveate.families.traits import UnsupportedModelError
from foveate.images import PixelBudget, View


class QwenVL(Family):
    """Qwen2-VL and what came of it. An image is one grid of patches, of which each square of four is a visual token."""

    layout = Patches
    geometry: Patches

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, image_processor: Any) -> None:
        super().__init__(config, tokenizer, image_processor)
        patch, merge = self.geometry.patch, self.geometry.merge
        if (image_processor.patch_size, image_processor.merge_size) != (patch, merge):
            raise UnsupportedModelError(
                f"the image processor makes patches of {image_processor.patch_size} pixels, merged by "
                f"{image_processor.merge_size}; the model expects {patch}, merged by {merge}"
            )

    @property
    def budget(self) -> PixelBudget:
        """`shortest_edge` and `longest_edge` of the processor, which hold areas, not edges."""
        size = self.image_processor.size
        return PixelBudget(int(size["shortest_edge"]), int(size["longest_edge"]))

    @property
    def image_token_id(self) -> int:
        """`<|image_pad|>`."""
        return int(self.config.image_token_id)

    @property
    def image_marker(self) -> str:
        """`<|image_pad|>`, written once per image by the template."""
        return "<|image_pad|>"

    @property
    def vision_tokens(self) -> tuple[str, ...]:
        """The five of every Qwen-VL."""
        return ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")

    def placeholders(self, view: View) -> str:
        """One `<|image_pad|>` per merged patch."""
        return self.image_marker * self.feature_count(view)

    def pixels(self, view: View) -> Mapping[str, Tensor]:
        """`pixel_values` (patches, channels x 2 x patch x patch) and `image_grid_thw` (1, 3).

        Raises:
            ContextError: a side of the view is not a multiple of a visual token's.
        """
        if view.size[0] % self.multiple or view.size[1] % self.multiple:
            raise ContextError(f"a view of {view.size} pixels is not made of visual tokens of {self.multiple} pixels")
        processed = self.image_processor(images=[view.image], do_resize=False, return_tensors="pt")
        return {"pixel_values": processed["pixel_values"], "image_grid_thw": processed["image_grid_thw"]}

    def positions(self, token_ids: Sequence[int], views: Sequence[View]) -> Tensor:
        """As the model's own `get_rope_index`: text advances all axes, an image spans its grid from one start.

        Raises:
            ContextError: the placeholders among the tokens are not those of the views.
        """
        runs: list[Tensor] = []
        start, remaining = 0, iter(views)
        for is_image, run in groupby(token_ids, key=lambda token: token == self.image_token_id):
            length = len(list(run))
            if not is_image:
                runs.append(torch.arange(start, start + length).expand(3, -1))
                start += length
                continue
            while length:  # two images side by side, with no text between, are one run of placeholders
                view = next(remaining, None)
                if view is None or self.feature_count(view) > length:
                    raise ContextError("the placeholders among the tokens are not those of the views")
                columns, rows = view.size[0] // self.multiple, view.size[1] // self.multiple
                grid_HW = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
                axes_HW = [torch.zeros(rows, columns, dtype=torch.long), *grid_HW]
                runs.append(torch.stack(axes_HW).reshape(3, -1) + start)
                start += max(columns, rows)
                length -= columns * rows
        if next(remaining, None) is not None:
            raise ContextError("there are more views than placeholders among the tokens")
        return torch.cat(runs, dim=1)
