"""Models with few blocks in the place of deep ones: what a block that is like others does is counted once for each.

The blocks of a stack differ in their weights' values alone, or are of a few kinds. So the first and last ones, and one
of each kind between, are run; what a ledger wrote down while one of the latter had its turn is repeated for each such
block, in the order in which the deep model comes to them. Sums and peaks are those of the deep model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from foveate.families.adapters import language_model_of, tower_of
from foveate.planning.ledger import Ledger, Place, Span
from foveate.planning.models import Shapes

_ENDS = 2
"""Blocks at either end of a stack that are not taken for any other: they free what came before the stack."""


@dataclass(frozen=True)
class Shortened:
    """A model with fewer blocks, and what each of the deep one's is like.

    Attributes:
        like: by stack (`text`, `tower`): of each block of the deep model, which of the short one's stands for it.
    """

    shapes: Shapes
    like: Mapping[str, tuple[int, ...]]

    def extra(self, model: PreTrainedModel, size: Callable[[nn.Module], int]) -> int:
        """What the blocks that the short model is without have more of: the sum of the sizes of those like them."""
        total = 0
        for name, blocks in stacks(model).items():
            sizes = [size(block) for block in blocks]
            total += sum(sizes[index] for index in self.like[name]) - sum(sizes)
        return total

    def unfold(self, spans: Sequence[Span]) -> Iterator[Span]:
        """The spans of the deep model's work, in order, from those of the short one's."""
        for run in _runs(spans):
            place = run[0][0].place
            if place is None:
                yield from map(self._deep, run[0])
                continue
            turns = {turn[0].place[1]: turn for turn in run if turn[0].place}
            blocks = [index for index in self.like[place[0]] if index in turns]
            down = place[1] > min(turns)
            for index in reversed(blocks) if down else blocks:
                yield from map(self._deep, turns[index])

    def _deep(self, span: Span) -> Span:
        """With what all the blocks left that one of the short model stands for."""
        more = sum(size * (self.like[stack].count(index) - 1) for (stack, index), size in span.left.items())
        return replace(span, held=span.held - more) if more else span


def stacks(model: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """The blocks of the language model and those of the vision tower."""
    tower = [part for root in tower_of(model) for part in root.modules() if isinstance(part, nn.ModuleList)]
    layers: Any = language_model_of(model).layers
    return {"text": list(layers), "tower": list(max(tower, key=lambda blocks: sum(1 for _ in blocks)))}


def shorten(shapes: Shapes) -> Shortened:
    """The least model of which all figures of the given one can be told."""
    config = copy.deepcopy(shapes.config)
    text, vision = config.get_text_config(), config.vision_config
    deep = list(getattr(vision, "deepstack_visual_indexes", None) or ())
    whole = list(getattr(vision, "fullatt_block_indexes", None) or ())
    depth = "depth" if hasattr(vision, "depth") else "num_hidden_layers"
    types = list(getattr(text, "layer_types", None) or [""] * text.num_hidden_layers)
    # What branches off a block of the tower (deepstack) is added behind one of the first layers.
    kept, like = _few(types, max(_ENDS, len(deep) + 1))
    kinds = [_kind(index, deep, whole) for index in range(_depth(vision))]
    kept_tower, like_tower = _few(kinds, _ENDS)
    text.num_hidden_layers = len(kept)
    if getattr(text, "layer_types", None):
        text.layer_types = [types[index] for index in kept]
    setattr(vision, depth, len(kept_tower))
    for name, indices in (("deepstack_visual_indexes", deep), ("fullatt_block_indexes", whole)):
        if indices:
            setattr(vision, name, [new for new, index in enumerate(kept_tower) if index in indices])
    return Shortened(replace(shapes, config=config), {"text": like, "tower": like_tower})


def unshortened(shapes: Shapes) -> Shortened:
    """The model as it is, each block of which stands for itself."""
    layers = shapes.config.get_text_config().num_hidden_layers
    return Shortened(shapes, {"text": tuple(range(layers)), "tower": tuple(range(_depth(shapes.config.vision_config)))})


@contextmanager
def noted(ledger: Ledger, model: PreTrainedModel) -> Iterator[None]:
    """Inside, the ledger is told whose turn it is: going forward, backward, or repeating a layer's cache."""
    for name, blocks in stacks(model).items():
        for index, block in enumerate(blocks):
            _note(ledger, block, (name, index))

    def select(cache: Any, indices: Tensor) -> None:
        for index, layer in enumerate(cache.layers):
            ledger.turn(("text", index))
            layer.batch_select_indices(indices)

    cache: Any = DynamicCache
    cache.batch_select_indices = select
    try:
        yield
    finally:
        del cache.batch_select_indices  # the inherited one is left


def _note(ledger: Ledger, block: nn.Module, place: Place) -> None:
    def forward(*_: Any) -> None:
        ledger.turn(place)

    def backward(_module: nn.Module, _args: Any, output: Any) -> None:
        out: Tensor = output[0] if isinstance(output, tuple) else output
        if out.requires_grad:
            out.register_hook(forward)

    block.register_forward_pre_hook(forward)
    block.register_forward_hook(backward)


def _depth(vision: Any) -> int:
    return int(vision.depth if hasattr(vision, "depth") else vision.num_hidden_layers)


def _kind(index: int, deep: Sequence[int], whole: Sequence[int]) -> Hashable:
    """Of a tower's block. Behind one from which something branches off, the backward pass of that has its turn."""
    if index in deep or index - 1 in deep:
        return index
    return "full" if index in whole else ""


def _few(kinds: Sequence[Hashable], first: int) -> tuple[list[int], tuple[int, ...]]:
    """Which blocks are kept, and which of these each block is like."""
    last = max(first, len(kinds) - _ENDS)
    middle = {kind: index for index, kind in reversed(list(enumerate(kinds[first:last], first)))}
    kept = sorted({*range(min(first, len(kinds))), *middle.values(), *range(last, len(kinds))})
    like = [middle[kind] if first <= index < last else index for index, kind in enumerate(kinds)]
    return kept, tuple(kept.index(index) for index in like)


def _runs(spans: Sequence[Span]) -> Iterator[list[list[Span]]]:
    """Turns of neighbouring blocks, one after the other, up or down."""
    run: list[list[Span]] = []
    for _, turn in groupby(spans, lambda span: (span.phase, span.place)):
        now = list(turn)
        if run and not _goes_on([before[0].place for before in run], now[0].place):
            yield run
            run = []
        run.append(now)
    if run:
        yield run


def _goes_on(run: Sequence[Place | None], place: Place | None) -> bool:
    if place is None or run[-1] is None or run[-1][0] != place[0]:
        return False
    step = place[1] - run[-1][1]
    return abs(step) == 1 if len(run) == 1 or run[-2] is None else step == run[-1][1] - run[-2][1]
