"""The policy in training and its optimizer, as Accelerate prepared them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor

from foveate.families.base import VLM
from foveate.recipes import AdamW
from foveate.training.attention import enable_packed_attention
from foveate.training.packing import PackedBatch
from foveate.training.scorer import Scorer, base_model
from foveate.training.skips import Skips, is_sound


class Learner:
    """Descends on whatever loss a stage has.

    Args:
        vlm: the policy; changed in place.
        settings: of the optimizer.
        steps: of the whole stage, for the learning rate's schedule.

    Attributes:
        scorer: the policy as it is called in training, perhaps wrapped.
        vlm: the policy without wrappers, and its family.
        skips: the updates that were not made.
    """

    def __init__(self, vlm: VLM, settings: AdamW, steps: int, accelerator: Accelerator) -> None:
        enable_packed_attention(base_model(vlm.model))
        optimizer = torch.optim.AdamW(
            [parameter for parameter in vlm.model.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.settings, self.steps, self.accelerator = settings, steps, accelerator
        self.scorer, self.optimizer = accelerator.prepare(Scorer(vlm.model), optimizer)
        self.skips = Skips()
        self.vlm = VLM(accelerator.unwrap_model(self.scorer).model, vlm.family)

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

        None where the loss or the norm is not finite: weights and optimizer then stay as they are, on all processes,
        whichever of them it comes from.
        """
        total = torch.zeros((), device=self.accelerator.device)
        # Blocks are computed once more only in the mode of training. Dropout is off in either.
        self.scorer.train(base_model(self.scorer).is_activation_checkpointing)
        for number, batch in enumerate(batches, start=1):
            loss = loss_of(batch)
            total += loss.detach()
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.scorer):
                self.accelerator.backward(loss)
        self.scorer.eval()
        clipped = self.accelerator.clip_grad_norm_(self.scorer.parameters(), self.settings.max_grad_norm)
        norm = float(clipped) if clipped is not None else 0.0
        # The norm is of the reduced gradient, the same everywhere; the loss is each process's own.
        skipped = self.summed(not is_sound(total.item(), norm)) > 0
        self.skips.count(skipped=skipped, loss=total.item(), norm=norm)
        if not skipped:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return None if skipped else norm

    def summed(self, count: int) -> int:
        """A count added up over all processes."""
        counts = torch.tensor(int(count), device=self.accelerator.device)
        return int(self.accelerator.reduce(counts, reduction="sum"))
