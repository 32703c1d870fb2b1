"""InternVL as transformers knows it: coordinates from 0 to 1000, images as square tiles, one-axis rotary positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from foveate.families.base import ContextError, Family
from foveate.families.geometry import Tiles
from foveate.families.traits import UnsupportedModelError
from foveate.images import PixelBudget, View
from foveate.regions import Frame

_TOWERS = ("llama", "qwen2", "qwen3", "qwen3_moe")
"""Language models that are known to attend plainly. gpt_oss, of InternVL3.5, has attention sinks, which a packed row
would leave out."""


class InternVL(Family):
    """InternVL 2.5, 3 and 3.5 as converted for transformers, the `-hf` checkpoints (arXiv 2504.10479).

    A view is resized to the grid of tiles (448 px) whose aspect ratio is closest to its own, and cut into them; where
    there are several, a thumbnail of the whole follows. The checkpoint's own processor does that, with one difference:
    no more tiles than the view has pixels for. A view of 448 x 336 would become twelve tiles otherwise, and a pixel
    budget would mean nothing. The thumbnail comes on top of the budget.
    """

    name = "internvl"
    frame = Frame.THOUSAND
    layout = Tiles
    geometry: Tiles

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, image_processor: Any) -> None:
        if (tower := config.get_text_config().model_type) not in _TOWERS:
            raise UnsupportedModelError(
                f"the language model is {tower!r}, of which it is not known that all its layers attend plainly, as "
                f"packed rows need it: one of {', '.join(_TOWERS)} can be used"
            )
        super().__init__(config, tokenizer, image_processor)
        seen, made = tuple(config.vision_config.image_size), image_processor.size
        if seen != (made["height"], made["width"]) or seen[0] != seen[1]:
            raise UnsupportedModelError(
                f"the image processor makes tiles of {made['height']} x {made['width']} pixels; the model expects "
                f"{seen[0]} x {seen[1]}, and foveate square ones"
            )

    @property
    def budget(self) -> PixelBudget:
        """As many tiles as the processor makes, 1 to 12, without the thumbnail."""
        return self.geometry.budget(self.image_processor.min_patches, self.image_processor.max_patches)

    @property
    def image_token_id(self) -> int:
        """`<IMG_CONTEXT>`."""
        return int(self.config.image_token_id)

    @property
    def image_marker(self) -> str:
        """`<IMG_CONTEXT>`, written once per image by the template."""
        return str(getattr(self.tokenizer, "context_image_token", "<IMG_CONTEXT>"))

    @property
    def vision_tokens(self) -> tuple[str, ...]:
        """`<img>`, `</img>` and `<video>`."""
        return (*self._around, str(getattr(self.tokenizer, "video_token", "<video>")))

    def placeholders(self, view: View) -> str:
        """One `<IMG_CONTEXT>` per feature of every tile, between `<img>` and `</img>`."""
        before, after = self._around
        return before + self.image_marker * self.feature_count(view) + after

    def feature_count(self, view: View) -> int:
        """Tiles, the thumbnail included, times 256."""
        width, height = view.size
        tiles = self.image_processor.get_number_of_image_patches(height, width, self._tiling(view))
        return self.geometry.visual_tokens((1, int(tiles)))

    def pixels(self, view: View) -> Mapping[str, Tensor]:
        """`pixel_values` (tiles, channels, 448, 448): row by row, the thumbnail last."""
        processed = self.image_processor(images=[view.image], return_tensors="pt", **self._tiling(view))
        return {"pixel_values": processed["pixel_values"]}

    def positions(self, token_ids: Sequence[int], views: Sequence[View]) -> Tensor:
        """One axis: every token, of text or image, one further than the one before.

        Raises:
            ContextError: the placeholders among the tokens are not those of the views.
        """
        found, expected = list(token_ids).count(self.image_token_id), sum(map(self.feature_count, views))
        if found != expected:
            raise ContextError(f"{found} placeholders among the tokens for {expected} features of the views")
        return torch.arange(len(token_ids))[None]

    @property
    def _around(self) -> tuple[str, str]:
        named = (("start_image_token", "<img>"), ("end_image_token", "</img>"))
        before, after = (str(getattr(self.tokenizer, name, usual)) for name, usual in named)
        return before, after

    def _tiling(self, view: View) -> dict[str, Any]:
        """The processor's settings for a view: at most as many tiles as its pixels fill, within the processor's own."""
        fewest, most = self.image_processor.min_patches, self.image_processor.max_patches
        filled = round(view.size[0] * view.size[1] / self.geometry.side**2)
        return {"crop_to_patches": True, "min_patches": fewest, "max_patches": min(max(filled, fewest), most)}
