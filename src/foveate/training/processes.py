"""Several processes as one: what they tell one another, and how they end together."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState, is_initialized
from accelerate.utils import gather_object
from PIL import Image

from foveate.context import Context, Message
from foveate.episodes import Episode, Group
from foveate.errors import FoveateError
from foveate.images import View
from foveate.training.order import Share

T = TypeVar("T")


class ProcessError(FoveateError, RuntimeError):
    """Another process has failed, or the processes do not know of one another; the message says which."""


_MIXED = {"float32": "no", "bfloat16": "bf16"}
"""A setup's precision, as Accelerate calls it."""


def begin(precision: str) -> Accelerator:
    """The processes that were launched together, as Accelerate knows them.

    Args:
        precision: of the setup.

    Raises:
        ProcessError: several were launched, and each would run alone; or a run of another precision was begun before.
    """
    if is_initialized() and AcceleratorState().mixed_precision != _MIXED[precision]:
        raise ProcessError(
            f"a run of another precision was begun in this process, and Accelerate keeps one for good: train with "
            f"setup.precision={precision} in a process of its own"
        )
    # Without it Accelerate takes processes on a CPU that torchrun started for independent ones.
    accelerator = Accelerator(
        mixed_precision=_MIXED[precision],
        cpu=not torch.accelerator.is_available() and not by_deepspeed(),
        # The only buffers are constants; broadcasting them would tie the forwards of the processes to one another.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ProcessError(
            f"{launched} processes were launched (WORLD_SIZE), and {accelerator.num_processes} found one another: "
            "launch with torchrun or accelerate launch, and with as many processes a node as it has GPUs at most"
        )
    return accelerator


@contextmanager
def one_process(precision: str, device: str = "cpu") -> Iterator[Accelerator]:
    """An accelerator of one process. Accelerate keeps one state a process: another's is put back afterwards."""
    states: list[dict[str, Any]] = [state._shared_state for state in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in states]
    for state in states:
        state.clear()
    try:
        yield Accelerator(cpu=device == "cpu", mixed_precision=_MIXED[precision])
    finally:
        for state, kept in zip(states, before, strict=True):
            state.clear()
            state.update(kept)


def by_deepspeed() -> bool:
    """Whether Accelerate was launched with DeepSpeed configured."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def is_first() -> bool:
    """Whether this process is the one that writes and speaks: as the launcher says, before the others are met."""
    return int(os.environ.get("RANK", "0")) == 0


def end() -> None:
    """Takes leave of the other processes, after which none of them can be asked.

    A process alone has nobody to take leave of: a group that it has is an engine's own, which ends it itself.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        gc.collect()  # models in cycles hold groups, whose threads would outlive them
        torch.distributed.destroy_process_group()


def from_all(accelerator: Accelerator, own: Sequence[T]) -> list[T]:
    """What all processes have, one process after the other. All must call it."""
    return list(gather_object(list(own))) if accelerator.num_processes > 1 else list(own)


def in_order(accelerator: Accelerator, share: Share, own: Sequence[T], light: Callable[[T], T]) -> list[T]:
    """One thing per question of a step, of all processes, in the order of the questions. All must call it.

    Args:
        own: of this process's questions; they stay what they are.
        light: what of each is sent to the others.
    """
    if accelerator.num_processes == 1:
        return list(own)
    mine = dict(zip(share.numbers, own, strict=True))
    sent = dict(from_all(accelerator, [(number, light(one)) for number, one in mine.items()]))
    return [mine.get(number, sent[number]) for number in range(len(share.indices))]


def on_any(accelerator: Accelerator, own: bool) -> bool:
    """Whether it is so on any process. All must call it."""
    return any(from_all(accelerator, [own]))


@contextmanager
def failing_together(accelerator: Accelerator) -> Iterator[None]:
    """An error of one process within ends all of them at the end of the block, instead of leaving them waiting.

    For work that a process does without the others.

    Raises:
        ProcessError: another process has failed.
    """
    if accelerator.num_processes == 1:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    said = from_all(accelerator, [failure and f"{type(failure).__name__}: {failure}"])
    if failure is not None:
        raise failure
    for number, message in enumerate(said):
        if message is not None:
            raise ProcessError(f"process {number} has failed ({message})")


@dataclass(frozen=True, slots=True)
class NoPicture:
    """In the place of a picture that stayed with its process: its size alone."""

    size: tuple[int, int]


def without_pictures(group: Group) -> Group:
    """A group that is light enough to be sent to other processes: all but what its pictures show."""
    contexts: dict[int, Context] = {}

    def light(context: Context) -> Context:
        if id(context) not in contexts:
            contexts[id(context)] = Context(
                tuple(Message(message.role, tuple(map(_light, message.parts))) for message in context.messages)
            )
        return contexts[id(context)]

    question = replace(group.question, image=b"", others=())
    return Group(
        question,
        tuple(
            Episode(
                question,
                tuple(replace(turn, context=light(turn.context)) for turn in episode.turns),
                episode.answer,
                episode.stop,
            )
            for episode in group.episodes
        ),
    )


def _light(part: Any) -> Any:
    return replace(part, image=cast(Image.Image, NoPicture(part.size))) if isinstance(part, View) else part
