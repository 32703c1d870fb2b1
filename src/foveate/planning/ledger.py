"""What a piece of work would allocate and compute, without doing it.

The work's own code runs on tensors that have a shape and a type but no contents (torch's fake tensors), and every
operation's results are written into a ledger as they come and go. So the figures are those of the architecture as it
is programmed: layers, checkpoints, adapters and casts need no formula of their own here.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_CONTENTS_AT_MOST = 1 << 20
"""Elements of a newly made float tensor that may have contents: small constants, which others are computed from."""

_aten = torch.ops.aten
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._unsafe_index.Tensor}
_ITEM = _aten._local_scalar_dense.default
_DEVICE = torch.ops.prim.device.default
_CPU_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu
_CPU_ATTENTION_BACKWARD = _aten._scaled_dot_product_flash_attention_for_cpu_backward
_GPU_BACKWARD = (
    _aten._scaled_dot_product_flash_attention_backward,
    _aten._scaled_dot_product_efficient_attention_backward,
)


Place = tuple[str, int]
"""A block: its stack, and which of it."""


@dataclass(frozen=True)
class Span:
    """What happened between two turns.

    Attributes:
        phase: as it was named by `mark`.
        place: of the block whose turn it was; None before any has one.
        held: bytes by which what is alive grew, negative where it shrank.
        lasting: the same of what was declared as lasting.
        high: the most bytes that were alive, over those at its beginning.
        passing_high: the same of what is not lasting.
        flops: as `Ledger.flops`.
        left: bytes that were released at its beginning, by the block that they were made for: of blocks that are no
            neighbours, which had them kept (autocast's copies of weights, caches).
    """

    phase: str
    place: Place | None
    held: int
    lasting: int
    high: int
    passing_high: int
    flops: int
    left: Mapping[Place, int]


class Ledger(TorchDispatchMode):
    """Counts bytes and arithmetic of all operations inside `with`.

    Tensors with contents (token ids, masks, positions) stay what they are and are computed for real, because the
    code's course depends on them; whatever meets a tensor without contents has none. A number read from one is 1.

    Attributes:
        held: bytes alive now, of tensors made inside or given to `enter`.
        peak: the most bytes that were alive together since the last turn.
        lasting: bytes of weights, gradients and optimizer states, as far as they were declared.
        passing_peak: the most bytes alive beside the lasting ones since the last turn.
        flops: multiply-adds times two of all matrix products, convolutions and attention.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.held = self.peak = self.lasting = self.passing_peak = self.flops = 0
        self._contents_at_most = _CONTENTS_AT_MOST
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lasting: weakref.WeakSet[Any] = weakref.WeakSet()
        self._spans: list[Span] = []
        self._left: dict[Place, int] = {}
        self._began: tuple[str, Place | None, int, int, int] = ("", None, 0, 0, 0)

    def __enter__(self) -> Ledger:
        self.fake.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.fake.__exit__(*error)

    @contextmanager
    def without_contents(self) -> Iterator[None]:
        """Inside, no new float tensor has contents, however small: for what makes weights."""
        self._contents_at_most = 0
        try:
            yield
        finally:
            self._contents_at_most = _CONTENTS_AT_MOST

    def mark(self, phase: str) -> None:
        """Begins a phase."""
        self._turn(phase, None)

    def turn(self, place: Place) -> None:
        """Says whose turn it is from now on."""
        if place != self._began[1]:
            self._turn(self._began[0], place)

    def spans(self) -> list[Span]:
        """What happened since this was last asked for, in order."""
        self._turn(self._began[0], self._began[1])
        spans, self._spans = self._spans, []
        return spans

    def _turn(self, phase: str, place: Place | None) -> None:
        before, where, held, lasting, flops = self._began
        self._spans.append(
            Span(
                phase=before,
                place=where,
                held=self.held - held,
                lasting=self.lasting - lasting,
                high=self.peak - held,
                passing_high=self.passing_peak - (held - lasting),
                flops=self.flops - flops,
                left=self._left,
            )
        )
        self._left = {}
        self._began = (phase, place, self.held, self.lasting, self.flops)
        self.peak, self.passing_peak = self.held, self.held - self.lasting

    def enter(self, tensor: Tensor) -> None:
        """Writes down a tensor's storage, until it is released."""
        self._enter(tensor.untyped_storage())

    def _enter(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._leave, size, self._began[1])
        self._add(size)

    def keep(self, storages: Iterable[torch.UntypedStorage]) -> None:
        """Declares memory as lasting, until it is released."""
        for storage in storages:
            self._enter(storage)
            if storage not in self._lasting:
                self._lasting.add(storage)
                size = storage.nbytes()
                weakref.finalize(storage, self._end, size)
                self.lasting += size

    def keep_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Declares the parameters' gradients as lasting as soon as there are any."""

        def accumulated(parameter: Tensor) -> None:
            if parameter.grad is not None:
                self.keep([parameter.grad.untyped_storage()])

        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(accumulated)

    def _add(self, size: int) -> None:
        self.held += size
        self.peak = max(self.peak, self.held)
        self.passing_peak = max(self.passing_peak, self.held - self.lasting)

    def _leave(self, size: int, made: Place | None) -> None:
        phase, turn, *_ = self._began
        if made and not (turn and turn[0] == made[0] and abs(turn[1] - made[1]) <= 1):
            if not self._left:
                self._turn(phase, turn)
            self._left[made] = self._left.get(made, 0) + size
        self._release(size)

    def _release(self, size: int) -> None:
        self.held -= size

    def _end(self, size: int) -> None:
        self.lasting -= size

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # asked for at every turn
        kwargs = kwargs or {}
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        if any(isinstance(tensor, FakeTensor) for tensor in tensors):
            if func is _ITEM:
                return 1.0 if tensors[0].is_floating_point() else 1
            if func in _INDEXED:
                args = (args[0], _places(args[1]), *args[2:])
            out = func(*args, **kwargs)
        elif not tensors and _float_elements(args, kwargs) > self._contents_at_most:
            out = func(*args, **kwargs)
        else:
            with unset_fake_temporarily():
                out = func(*args, **kwargs)
        for tensor in _tensors((out,)):
            self.enter(tensor)
        self._compute(func.overloadpacket, args, kwargs, out)
        return out

    def _compute(self, packet: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        if packet is _CPU_ATTENTION:
            self.flops += sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
        elif packet is _CPU_ATTENTION_BACKWARD:
            self.flops += sdpa_backward_flop_count(*(tensor.shape for tensor in args[:4]))
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        if packet in _GPU_BACKWARD:
            # The gradient of the queries is summed up in float32 inside CUDA's kernels.
            inside = 4 * args[1].numel()
            self._add(inside)
            self._release(inside)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _places(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Boolean masks as the places where they are True: how many there are must be known."""
    places: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype is torch.bool and not isinstance(index, FakeTensor):
            with unset_fake_temporarily():
                places += index.nonzero().unbind(1)
        else:
            places.append(index)
    return places


def _float_elements(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """How many floats a new tensor has; 0 of other types."""
    dtype = kwargs.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        return 0
    sizes = args[0] if args and isinstance(args[0], (list, tuple)) else (0,)
    return math.prod(int(size) for size in sizes)
