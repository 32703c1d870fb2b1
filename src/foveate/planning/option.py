"""What one way to set a run up needs on a machine, and how long its step takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from foveate.planning.machines import GIB, Machine
from foveate.planning.models import Shapes
from foveate.planning.simulate import Rollout, Update, simulate_rollout, simulate_update
from foveate.planning.workload import Assumed, Rows, RowShape, in_batches, rows_of
from foveate.recipes import Recipe

CONTEXT = GIB * 6 // 10
"""The CUDA context with torch's kernels and cuBLAS's workspaces: 0.5 to 0.6 GiB on recent chips."""
NCCL = GIB
"""Buffers of NCCL's channels, where there are several GPUs: a few hundred MiB to 1 GiB a communicator."""
FRAGMENTS = 0.06
"""Of the tensors, on a GPU: what its caching allocator cannot use, rounding and splitting blocks."""
UNREPORTED = 0.015
"""Of a GPU's nominal memory: what its driver and error correction keep."""
_ENGINE = "vLLM"
CPU_CACHE = GIB
"""What vLLM reserves for caches on a CPU, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""
FREE_ON_CPU = 0.2
"""Of a CPU's memory: for the process, the data, and everything else that runs."""


@dataclass(frozen=True)
class Speed:
    """How much of what a chip can do is taken to be reached. Estimates, to be set to what one sees.

    Attributes:
        update: of its TFLOP/s, forward and backward.
        prefill: of its TFLOP/s, reading contexts.
        bandwidth: of its memory's, writing replies.
        link: of the bandwidth between devices, where weights are sharded.
        launch: seconds that a layer of the language model takes at least in a decoding step of the training's own
            generator, which is called kernel by kernel.
    """

    update: float = 0.4
    prefill: float = 0.5
    bandwidth: float = 0.6
    link: float = 0.6
    launch: float = 3e-4


@dataclass(frozen=True)
class Phase:
    """Bytes on one device, by what they are for; parts with a size of 0 are left out when shown."""

    name: str
    parts: dict[str, int]
    peak: int

    @property
    def engine(self) -> int:
        """Of which vLLM manages itself."""
        return self.parts.get(_ENGINE, 0)


@dataclass(frozen=True)
class Option:
    """One way to set a run up.

    Attributes:
        flags: settings that differ from the recipe's.
        phases: what each needs.
        needed: the most of a phase, with allowances; what stands all the time where `hopeless`.
        capacity: that a device has.
        seconds: of a step, by phase; estimates. None where `hopeless`.
        hopeless: what stands all the time has no room, whatever the rows are: it was not looked at any further.
    """

    flags: tuple[str, ...]
    recipe: Recipe = field(repr=False)
    phases: tuple[Phase, ...] = field(repr=False)
    needed: int
    capacity: int
    seconds: dict[str, float]
    hopeless: bool = False

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.needed <= self.capacity

    @property
    def total_seconds(self) -> float:
        """Of a step."""
        return sum(self.seconds.values())

    @property
    def full(self) -> bool:
        """Whether all weights are trained."""
        return self.recipe.setup.lora is None


class Planner:
    """Finds what each way needs on one machine. What ways have in common is simulated once."""

    def __init__(self, shapes: Shapes, machine: Machine, assumed: Assumed, speed: Speed) -> None:
        self._shapes, self._machine, self._assumed, self._speed = shapes, machine, assumed, speed
        self._updates: dict[tuple[object, ...], Update] = {}
        self._rollouts: dict[tuple[object, ...], list[Rollout]] = {}

    def option(self, recipe: Recipe, flags: Sequence[str]) -> Option:
        """One way: the recipe with these flags set already."""
        machine, standing = self._machine, self._standing(recipe)
        capacity = int(machine.memory * (1 - (UNREPORTED if machine.is_gpu else FREE_ON_CPU)))
        if (least := self._with_allowances(_lasting(standing, self._devices(recipe)))) > capacity:
            return Option(tuple(flags), recipe, (), least, capacity, {}, hopeless=True)
        rows = rows_of(recipe, self._shapes, self._assumed, longest=True)
        update, rollouts = self._update(recipe, rows), self.rollouts(recipe, rows)
        phases = self._phases(recipe, update, rollouts)
        needed = max(self._with_allowances(phase.peak - phase.engine) + phase.engine for phase in phases)
        return Option(tuple(flags), recipe, phases, needed, capacity, self._seconds(recipe, update, rollouts, rows))

    def _devices(self, recipe: Recipe) -> int:
        """Over which weights, gradients and optimizer are shared out."""
        return self._machine.count if recipe.setup.shard == "full" else 1

    def _with_allowances(self, tensors: int) -> int:
        if not self._machine.is_gpu:
            return tensors
        return int(tensors * (1 + FRAGMENTS)) + CONTEXT + (NCCL if self._machine.count > 1 else 0)

    def rollouts(self, recipe: Recipe, rows: Sequence[tuple[RowShape, int]]) -> list[Rollout]:
        """Of each turn."""
        setup = recipe.setup.model_copy(update={"quantize": None, "gradient_checkpointing": False})
        alike = recipe.model_copy(update={"setup": setup})
        key = (setup.model_dump_json(), *rows)
        if key not in self._rollouts:
            questions = self._questions(recipe)
            self._rollouts[key] = [
                simulate_rollout(self._shapes, alike, row, count * questions, gpu=self._machine.is_gpu)
                for row, count in rows
            ]
        return self._rollouts[key]

    def _questions(self, recipe: Recipe) -> int:
        """Of a step, that one device has."""
        return math.ceil(recipe.optimisation.questions_per_step / self._machine.count)

    def _in_batches(self, recipe: Recipe, rows: Sequence[tuple[RowShape, int]]) -> list[Rows]:
        each = recipe.optimisation.questions_per_update or recipe.optimisation.questions_per_step
        questions = math.ceil(each / self._machine.count)
        return in_batches(list(rows), self._shapes, questions, recipe.optimisation.tokens_per_batch)

    def _update(self, recipe: Recipe, rows: Sequence[tuple[RowShape, int]]) -> Update:
        setup = recipe.setup.model_copy(update={"quantize": None})
        kinds = self._in_batches(recipe, rows)
        key = (setup.model_dump_json(), *kinds)
        if key not in self._updates:
            self._updates[key] = simulate_update(
                self._shapes, recipe.model_copy(update={"setup": setup}), kinds, gpu=self._machine.is_gpu
            )
        found = self._updates[key]
        if setup.shard == "full":
            found = replace(self._standing(recipe), passing=found.passing, stepping=found.stepping, flops=found.flops)
        return found.quantised() if recipe.setup.quantize else found

    def _standing(self, recipe: Recipe) -> Update:
        """What stands all the time, unsharded; nothing is computed."""
        setup = recipe.setup.model_copy(update={"quantize": None, "shard": "none", "gradient_checkpointing": False})
        key = (setup.model_dump_json(),)
        if key not in self._updates:
            alike = recipe.model_copy(update={"setup": setup})
            self._updates[key] = simulate_update(self._shapes, alike, (), gpu=self._machine.is_gpu)
        found = self._updates[key]
        return found.quantised() if recipe.setup.quantize else found

    def _phases(self, recipe: Recipe, update: Update, rollouts: Sequence[Rollout]) -> tuple[Phase, ...]:
        devices = self._devices(recipe)
        lasting = {
            "weights": update.weights // devices,
            "reference": update.reference // devices,
            "optimizer": update.states // devices,
        }
        engine, stays = self._engine(recipe)
        always = {_ENGINE: engine if stays else 0}
        training = {
            **lasting,
            "gradients": update.gradients // devices,
            "gathered": update.gathered if devices > 1 else 0,
            "activations": update.passing,
            **always,
        }
        stepping = {
            **lasting,
            "gradients": update.gradients // devices,
            "temporaries": update.stepping // devices,
            **always,
        }
        writing = {**lasting, "gathered": update.whole if devices > 1 else 0}
        if recipe.setup.engine.name == "local":
            writing["cache and activations"] = max(one.peak for one in rollouts)
        else:
            writing[_ENGINE] = engine
        going = update.going + always[_ENGINE] if devices == 1 else sum(training.values())
        return (
            Phase("rollout", writing, sum(writing.values())),
            Phase("forward and backward", training, going),
            Phase("optimizer step", stepping, sum(stepping.values())),
        )

    def _engine(self, recipe: Recipe) -> tuple[int, bool]:
        """Bytes that vLLM in the training's process takes, and whether it keeps them while weights are updated."""
        engine = recipe.setup.engine
        if engine.name != "vllm":
            return 0, False
        if not self._machine.is_gpu:
            width = 2 if recipe.setup.precision == "bfloat16" else 4
            return width * self._shapes.parameters + CPU_CACHE, True
        return int(engine.gpu_memory * self._machine.memory), not engine.sleep

    def _seconds(
        self, recipe: Recipe, update: Update, rollouts: Sequence[Rollout], rows: Sequence[tuple[RowShape, int]]
    ) -> dict[str, float]:
        chip, speed, shapes = self._machine.chip, self._speed, self._shapes
        half = recipe.setup.precision == "bfloat16"
        flops = 1e12 * (chip.bf16 if half else chip.fp32)
        usual = rows_of(recipe, shapes, self._assumed, longest=False)
        rounds = recipe.optimisation.questions_per_step / (
            recipe.optimisation.questions_per_update or recipe.optimisation.questions_per_step
        )
        # Per position, arithmetic differs little between a longest row and a usual one.
        work = batches = 0.0
        at_once = {kind.row.name: kind for kind in self._in_batches(recipe, rows)}
        for kind in self._in_batches(recipe, usual):
            simulated = at_once[kind.row.name]
            each = update.flops[kind.row.name] / (simulated.together * simulated.row.positions(shapes))
            work += rounds * each * kind.count * kind.row.positions(shapes)
            batches += rounds * kind.batches
        seconds = {"update": work / (flops * speed.update)}
        if recipe.setup.shard == "full":
            # Weights are fetched twice and gradients sent once, in halves of float32, for every batch.
            moved = 4 * update.whole * (self._machine.count - 1) / self._machine.count
            seconds["sharding"] = batches * moved / (1e9 * chip.link * speed.link)
        questions = self._questions(recipe)
        reading = writing = 0.0
        weights = (2 if half else 4) * shapes.parameters
        for one, (row, count), (most, _) in zip(rollouts, usual, rows, strict=True):
            contexts = count * questions
            reading += row.turns * contexts * one.prefill_flops * row.prompt(shapes) / most.prompt(shapes)
            filled = one.cache * (row.sequence(shapes) - row.reply / 2) / most.sequence(shapes)  # it grows meanwhile
            step = max(
                (weights + filled) / (1e9 * chip.bandwidth * speed.bandwidth),
                one.samples * one.decode_flops / (flops * speed.prefill),
                shapes.text.num_hidden_layers * speed.launch if self._machine.is_gpu else 0.0,
            )
            writing += math.ceil(contexts / one.contexts) * row.turns * row.reply * step
        reading /= flops * speed.prefill
        return {"read contexts": reading, "write replies": writing, **seconds}


def _lasting(update: Update, devices: int) -> int:
    """Bytes on one device that stand all the time; gradients do so in the optimizer's step."""
    return (update.weights + update.reference + update.states + update.gradients) // devices
