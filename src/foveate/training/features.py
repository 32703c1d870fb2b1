"""Visual features of a frozen vision tower, kept for as long as they hold.

Within a step the same views are run by the rollouts, by the log-probs before several updates, by the policy and by the
reference. The model's own forward is what runs: only its `get_image_features` is asked here first.
"""

from __future__ import annotations

import hashlib
import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foveate.families.adapters import backbone_of, tower_of

KEPT_BYTES = 1 << 30
"""Of features, on the model's device. In bfloat16 a 7B model makes 9 MB of an image of 1,280 visual tokens."""


@dataclass(frozen=True, slots=True)
class _Features:
    """Of one image: what the language model takes in the placeholders' place, and what some add in deeper layers.

    `kind` is the class they came in, `stacked` whether those of several images are rows of one tensor.
    """

    kind: type
    stacked: bool
    pooled: Tensor
    deeper: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        return sum(tensor.nbytes for tensor in (self.pooled, *self.deeper))


class FeatureCache:
    """In the place of a backbone's `get_image_features`.

    Features are found by what makes them: the pixels, the precision, and the tower's weights. Of the pixels a digest is
    kept; the weights are watched, and a change of any drops all features. A tower of which anything is trained gets no
    features from here at all. Each image is run alone, so that its features do not depend on what it came with.

    Args:
        model: with or without adapters; its features are asked from here from now on.
        limit: bytes of features; over it those that were not used for longest go.

    Attributes:
        hits: images whose features were there.
        misses: images that were run.
    """

    def __init__(self, model: PreTrainedModel, *, limit: int = KEPT_BYTES) -> None:
        backbone: Any = backbone_of(model)
        self.hits = self.misses = 0
        self._tower = tower_of(model)
        self._compute: Callable[..., Any] = backbone.get_image_features
        self._limit, self._held = limit, 0
        self._kept: OrderedDict[Hashable, _Features] = OrderedDict()
        self._weights: list[Tensor] = []
        self._state: list[tuple[int, tuple[int, float]]] = []
        backbone.get_image_features = self

    def __call__(self, pixel_values: Tensor, image_grid_thw: Tensor | None = None, **kwargs: Any) -> Any:
        """As the backbone's own: `pooler_output`, and `deepstack_features` where the model has them."""
        grid = {} if image_grid_thw is None else {"image_grid_thw": image_grid_thw}
        if self._is_trained():
            self.clear()
            return self._compute(pixel_values, **grid, **kwargs)
        self._drop_what_is_stale()
        return _joined([self._of(image, own, kwargs) for image, own in _images(pixel_values, grid)])

    def clear(self) -> None:
        """Forgets all features."""
        self._kept.clear()
        self._held = 0

    def _of(self, image: Tensor, grid: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> _Features:
        key = _key(image, grid)
        if features := self._kept.get(key):
            self.hits += 1
            self._kept.move_to_end(key)
            return features
        self.misses += 1
        with torch.no_grad():
            output = self._compute(image, **grid, **kwargs)
        pooled, deeper = output.pooler_output, getattr(output, "deepstack_features", None) or ()
        stacked = isinstance(pooled, Tensor)
        features = _Features(
            type(output), stacked, pooled if stacked else pooled[0], tuple(layer[0] for layer in deeper)
        )
        self._kept[key] = features
        self._held += features.size
        while self._held > self._limit:
            self._held -= self._kept.popitem(last=False)[1].size
        return features

    def _tensors(self) -> Iterator[Tensor]:
        for part in self._tower:
            yield from part.parameters()
            yield from part.buffers()

    def _is_trained(self) -> bool:
        return any(tensor.requires_grad for tensor in self._tensors())

    def _drop_what_is_stale(self) -> None:
        """A tensor in another's place, one that was written to, and one that adds up to something else are a change.

        torch counts what is written to a tensor, but not through its `.data`: hence the sums, two passes over the
        weights, which is little beside running the tower. They miss what is only moved about inside a tensor that way.
        """
        weights = list(self._tensors())
        state = list(zip((tensor._version for tensor in weights), _sums(weights), strict=True))
        same = len(weights) == len(self._weights) and all(map(operator.is_, weights, self._weights))
        if not same or state != self._state:
            self.clear()
            self._weights, self._state = weights, state


def _sums(tensors: Sequence[Tensor]) -> list[tuple[int, float]]:
    """Of each tensor's bits, and of its elements: what cancels out in the one does not in the other."""
    if not tensors:
        return []
    bits = torch.stack([torch.hash_tensor(tensor.detach()).view(torch.int64) for tensor in tensors])
    totals = torch.stack([tensor.detach().sum(dtype=torch.float64) for tensor in tensors])
    return list(zip(bits.tolist(), totals.tolist(), strict=True))


def _images(pixels: Tensor, grid: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Each image alone: its rows of the pixels, and of the grid where the family has one."""
    if not grid:
        yield from ((image, {}) for image in pixels.split(1))
        return
    (name, grid_N3) = next(iter(grid.items()))
    parts = pixels.split(grid_N3.prod(-1).tolist())
    yield from ((image, {name: own}) for image, own in zip(parts, grid_N3.split(1), strict=True))


def _key(image: Tensor, grid: Mapping[str, Tensor]) -> Hashable:
    """The pixels' bytes and shape, and the precision in force."""
    content = image.detach().contiguous().cpu().view(torch.uint8).numpy().data
    kind = image.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    shape = (*image.shape, *(side for tensor in grid.values() for side in tensor.flatten().tolist()))
    return hashlib.blake2b(content, digest_size=16).digest(), shape, precision


def _joined(found: Sequence[_Features]) -> Any:
    """In the form of the backbone's own output."""
    first = found[0]
    join = torch.cat if first.stacked else tuple
    deeper = [tuple(one.deeper[layer] for one in found) for layer in range(len(first.deeper))]
    extra = {"deepstack_features": deeper} if deeper else {}
    return first.kind(pooler_output=join([one.pooled for one in found]), **extra)
