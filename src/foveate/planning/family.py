"""A family without tokenizer and image processor: contexts of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch

from foveate.context import Context
from foveate.families.base import Encoded, Family
from foveate.families.geometry import Grid
from foveate.images import PixelBudget, View
from foveate.planning.models import Shapes
from foveate.regions import Frame


class Sized(Family):
    """As much of a family as training and generators need where there are shapes alone.

    Attributes:
        text: tokens of text that every context has.
        grids: rows and columns of visual tokens of the views that every context has.
    """

    name = "sized"
    frame = Frame.PIXEL

    def __init__(self, shapes: Shapes) -> None:
        self.config, self.geometry, self._shapes = shapes.config, shapes.geometry, shapes
        self.text = 1
        self.grids: Sequence[Grid] = ()

    @property
    def budget(self) -> PixelBudget:
        """The checkpoint's."""
        return self._shapes.budget

    @property
    def image_token_id(self) -> int:
        """The configuration's."""
        return self._shapes.image_token_id

    @property
    def image_marker(self) -> str:
        """None is ever written."""
        return ""

    @property
    def vision_tokens(self) -> tuple[str, ...]:
        """None: there is no vocabulary."""
        return ()

    @property
    def eos_token_id(self) -> int:
        """Never sampled: replies are as long as they may be."""
        return -1

    @property
    def pad_token_id(self) -> int:
        """Any."""
        return self._shapes.text_token_id

    def forbidden_token_ids(self) -> tuple[int, ...]:
        """The placeholder."""
        return (self.image_token_id,)

    def encode(self, context: Context) -> Encoded:
        """The views, then the text."""
        shapes, geometry = self._shapes, self.geometry
        shown = sum(map(geometry.visual_tokens, self.grids))
        ids = (shapes.image_token_id,) * shown + (shapes.text_token_id,) * self.text
        return Encoded(ids, torch.arange(len(ids)).expand(geometry.axes, -1), geometry.plain(self.grids))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Nothing."""
        return ""

    def placeholders(self, view: View) -> NoReturn:
        """There are no views."""
        raise NotImplementedError

    def pixels(self, view: View) -> NoReturn:
        """There are no views."""
        raise NotImplementedError

    def positions(self, token_ids: Sequence[int], views: Sequence[View]) -> NoReturn:
        """There are no views."""
        raise NotImplementedError
