"""The policy in training and its optimizer, as Accelerate prepared them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from foveate.context import Context
from foveate.episodes import Episode, StopReason
from foveate.families.base import VLM
from foveate.images import View
from foveate.protocols.base import Completion, FinishReason, Turn
from foveate.questions.schema import Question
from foveate.recipes import AdamW
from foveate.regions import Box
from foveate.training import sharding
from foveate.training.attention import enable_packed_attention
from foveate.training.packing import PackedBatch, pack
from foveate.training.processes import from_all, on_any
from foveate.training.scorer import Scorer, base_model
from foveate.training.skips import Skips, SpoiltWeightsError, is_sound


class Learner:
    """Descends on whatever loss a stage has.

    Args:
        vlm: the policy; changed in place.
        settings: of the optimizer.
        steps: of the whole stage, for the learning rate's schedule.
        shard: share weights, gradients and optimizer out over the processes, instead of each having them all.

    Attributes:
        scorer: the policy as it is called in training, perhaps wrapped.
        vlm: the policy without wrappers, and its family.
        skips: the updates that were not made.
    """

    def __init__(self, vlm: VLM, settings: AdamW, steps: int, accelerator: Accelerator, *, shard: bool = False) -> None:
        enable_packed_attention(base_model(vlm.model))
        scorer = Scorer(vlm.model)
        if shard:
            sharding.shard(scorer, accelerator)  # before the optimizer, which is to have the shards
        # By default torch steps on all weights together on a GPU, and holds one more float32 copy of them meanwhile.
        fused = accelerator.device.type == "cuda" and accelerator.state.deepspeed_plugin is None
        optimizer = torch.optim.AdamW(
            [parameter for parameter in vlm.model.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=fused or None,
        )
        self.settings, self.steps, self.accelerator = settings, steps, accelerator
        self.scorer: nn.Module
        self.optimizer: torch.optim.Optimizer
        if plugin := accelerator.state.deepspeed_plugin:
            # It clips by itself, and wants to know a size of batches, which here have none of their own.
            plugin.deepspeed_config |= {
                "gradient_clipping": settings.max_grad_norm,
                "train_micro_batch_size_per_gpu": 1,
                "zero_allow_untested_optimizer": True,
            }
        with warnings.catch_warnings():
            # Newer versions of torch have another word for it, older ones and Accelerate this one only.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            self.scorer, self.optimizer = (scorer, optimizer) if shard else accelerator.prepare(scorer, optimizer)
        self.skips = Skips()
        self.vlm = vlm

    def begin(self, step: int) -> None:
        """Sets the learning rate of a step: warm-up, then the schedule."""
        self.skips.begin()
        settings = self.settings
        factor = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        if settings.schedule == "linear":
            factor = min(factor, (self.steps - step) / max(self.steps - settings.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor

    def descend(self, batches: Sequence[PackedBatch], loss_of: Callable[[PackedBatch], Tensor]) -> float | None:
        """One optimizer step on the sum of the batches' losses; returns the gradient's norm before clipping.

        All processes must call it, each with its own batches, perhaps none: those who have fewer run idle ones. None
        where the loss or the norm is not finite: weights and optimizer then stay as they are, on all processes,
        whichever of them it comes from.

        Args:
            loss_of: times the number of processes, over which gradients are averaged. An idle batch has no label.

        Raises:
            SpoiltWeightsError: such an update was made by DeepSpeed, which does not ask.
        """
        total = torch.zeros((), device=self.accelerator.device)
        # Blocks are computed once more only in the mode of training. Dropout is off in either.
        self.scorer.train(base_model(self.scorer).is_activation_checkpointing)
        count = max(from_all(self.accelerator, [len(batches)]))
        for number in range(count):
            last = number + 1 == count
            self.accelerator.sync_gradients = last  # DeepSpeed takes its step in the last backward
            # DDP decides in the forward whether the backward sums gradients over processes: once an update is enough.
            # A sharded gradient is shared out at once: whole ones are what there is no room for.
            with nullcontext() if last or self.is_sharded else self.accelerator.no_sync(self.scorer):
                loss = loss_of(batches[number] if number < len(batches) else self._idle)
                total += loss.detach()
                self.accelerator.backward(loss)
        self.scorer.eval()
        norm = self._clip()
        # The norm is of the reduced gradient, the same everywhere; the loss is each process's own.
        skipped = on_any(self.accelerator, not is_sound(total.item(), norm))
        self.skips.count(skipped=skipped, loss=total.item(), norm=norm)
        if skipped and self.accelerator.state.deepspeed_plugin:
            raise SpoiltWeightsError(
                f"DeepSpeed has made an update that is not finite ({self.skips.last}): the weights are spoilt, and not "
                "saved. Start anew from the last checkpoint (--model) with a lower learning rate or "
                "setup.precision=float32, or with DDP or FSDP2, which skip such updates"
            )
        if not skipped:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return None if skipped else norm

    def _clip(self) -> float:
        parameters, longest = self.scorer.parameters(), self.settings.max_grad_norm
        if self.is_sharded:
            norm = torch.nn.utils.clip_grad_norm_(parameters, longest)
            return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        norm = self.accelerator.clip_grad_norm_(parameters, longest)
        return float(norm) if norm is not None else 0.0

    @property
    def plain_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer as torch knows it."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    @property
    def is_sharded(self) -> bool:
        """Whether each process has a part of the weights only."""
        return sharding.is_sharded(self.scorer)

    def gathered(self) -> AbstractContextManager[None]:
        """The whole weights on every process, for forwards that the processes do not make in step."""
        return sharding.gathered(self.scorer)

    def summed(self, *values: float) -> list[float]:
        """Each value added up over all processes. All must call it."""
        return [sum(column) for column in zip(*from_all(self.accelerator, [values]), strict=True)]

    def full_state(self) -> tuple[dict[str, Tensor] | None, dict[str, Any] | None]:
        """Weights and optimizer for a checkpoint that any number of processes can load. All processes must call it.

        Returns:
            Weights, None where `vlm` has them whole already; the optimizer's state dict, None where DeepSpeed keeps it
            to itself. Only on the main process.
        """
        if self.accelerator.state.deepspeed_plugin:
            return None, None
        if not self.is_sharded:
            return None, self.plain_optimizer.state_dict()
        keep = self.accelerator.is_main_process
        weights = sharding.full_weights(self.scorer, self.vlm.model, keep=keep)
        return weights, sharding.full(self.plain_optimizer.state_dict(), keep=keep)

    @cached_property
    def _idle(self) -> PackedBatch:
        """The least there can be of what goes through the whole model, of which nothing counts."""
        side = 2 * self.vlm.family.multiple
        view = View(Image.new("RGB", (side, side)), Box(0, 0, side, side), (side, side))
        reply = Completion((self.vlm.family.eos_token_id,), (), "", FinishReason.END)
        question = Question(id="idle", image=b"", text="", answer="")
        turn = Turn(Context.user(view, ""), reply)
        [batch] = pack(self.vlm.family, [Episode(question, (turn,), None, StopReason.UNPARSED)])
        none_N = torch.zeros(0, dtype=torch.long)
        return replace(batch, keep_BK=torch.zeros_like(batch.keep_BK), episode_N=none_N, token_N=none_N)
