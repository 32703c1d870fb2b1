"""The ways to set a run up on a machine: which are looked at, and which is the one to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from foveate.planning.machines import Machine
from foveate.planning.models import PlanError, Shapes
from foveate.planning.option import Option, Planner, Speed
from foveate.planning.workload import Assumed, RowShape, rows_of
from foveate.recipes import Recipe


@dataclass(frozen=True)
class Tokens:
    """Of one question, at the limits and as assumed on average.

    Attributes:
        read: that rollouts read, each context once.
        written: that they write.
        trained: positions of its packed rows.
        separate: positions that separate rows would have.
    """

    read: int
    written: int
    trained: int
    separate: int


@dataclass(frozen=True)
class Plan:
    """The answer.

    Attributes:
        options: all that were looked at; the first that fits is the one to take.
        vllm: bytes on each device that vLLM would want for weights and caches, in the place of the own generator.
        longest_sequence: tokens, prompt and replies.
    """

    shapes: Shapes
    recipe: Recipe
    machine: Machine
    assumed: Assumed
    speed: Speed
    parameters: int
    longest: Tokens
    average: Tokens
    rows: tuple[tuple[RowShape, int], ...]
    longest_sequence: int
    options: tuple[Option, ...]
    vllm: dict[str, int]

    @property
    def best(self) -> Option | None:
        """The one to take; None where nothing fits."""
        return next((option for option in self.options if option.fits), None)


def make_plan(
    shapes: Shapes,
    recipe: Recipe,
    machine: Machine,
    *,
    assumed: Assumed,
    speed: Speed,
    on_progress: Callable[[str], None] = lambda flags: None,
) -> Plan:
    """Looks at the ways to set a run up.

    Full fine-tuning comes before adapters, and among each kind the faster before the slower: what a method trains is
    not given up for speed, only for room.

    Args:
        on_progress: is told which settings are looked at next.

    Raises:
        PlanError: the recipe cannot be run on these devices.
    """
    if recipe.setup.engine.name == "vllm" and machine.count > 1:
        raise PlanError(
            "setup.engine.name=vllm is for one process, whose device the engine shares: plan for one device, or give "
            "vLLM one of its own (setup.engine.name=vllm_server) and plan for the others"
        )
    longest, average = (rows_of(recipe, shapes, assumed, longest=which) for which in (True, False))
    planner = Planner(shapes, machine, assumed, speed)
    options: list[Option] = []
    for kind in _kinds(recipe, machine):
        if "setup.quantize=4bit" in kind and any(option.fits for option in options):
            continue  # slower than what has room already
        without: set[str] = set()
        for way in _ways(recipe, machine, kind):
            if recipe.with_settings(way).setup.shard in without:
                continue
            for tokens in _batches(recipe, shapes, longest):
                flags = [*way, *tokens]
                on_progress(" ".join(flags))
                option = planner.option(recipe.with_settings(flags), flags)
                options.append(option)
                if option.hopeless:
                    without.add(option.recipe.setup.shard)
                if option.fits or option.hopeless:
                    break
    options.sort(key=_preference)
    own = planner.rollouts(options[0].recipe, longest)  # simulated before, unless all are hopeless
    parameters = shapes.parameters
    return Plan(
        shapes=shapes,
        recipe=recipe,
        machine=machine,
        assumed=assumed,
        speed=speed,
        parameters=parameters,
        longest=_tokens(longest, shapes),
        average=_tokens(average, shapes),
        rows=tuple(longest),
        longest_sequence=max(row.sequence(shapes) for row, _ in longest),
        options=tuple(options),
        vllm={"weights": 2 * parameters, "cache": max(one.cache for one in own)},
    )


def _preference(option: Option) -> tuple[bool, bool, bool, float]:
    if not option.fits:
        return True, option.hopeless, False, option.needed
    setup = option.recipe.setup
    return False, setup.lora is not None, setup.quantize is not None, option.total_seconds


def _kinds(recipe: Recipe, machine: Machine) -> list[list[str]]:
    """What is trained: as the recipe says, or less."""
    kinds: list[list[str]] = [[]]
    if recipe.setup.lora is None:
        kinds.append(["setup.lora.rank=16"])
    if recipe.setup.quantize is None and machine.is_gpu:
        kinds.append([*kinds[-1], "setup.quantize=4bit"])
    return kinds


def _ways(recipe: Recipe, machine: Machine, kind: Sequence[str]) -> Iterator[list[str]]:
    """With and without checkpoints and, where all weights are trained on several devices, sharding."""
    precision = ["setup.precision=bfloat16"] if machine.is_gpu and recipe.setup.precision != "bfloat16" else []
    # An engine is given whole weights.
    sharded = machine.count > 1 and not kind and recipe.setup.lora is None and recipe.setup.engine.name == "local"
    for checkpointing in (False, True):
        for shard in ("none", "full") if sharded else ("none",):
            flags = [*precision, *kind]
            if checkpointing != recipe.setup.gradient_checkpointing:
                flags.append(f"setup.gradient_checkpointing={str(checkpointing).lower()}")
            if shard != recipe.setup.shard:
                flags.append(f"setup.shard={shard}")
            yield flags


def _batches(recipe: Recipe, shapes: Shapes, rows: Sequence[tuple[RowShape, int]]) -> list[list[str]]:
    """Positions of a batch: the recipe's, then no more than the longest row has."""
    longest = max(row.positions(shapes) for row, _ in rows)
    fewer = -(-longest // 256) * 256
    flags: list[list[str]] = [[]]
    if fewer < 0.75 * recipe.optimisation.tokens_per_batch:
        flags.append([f"optimisation.tokens_per_batch={fewer}"])
    return flags


def _tokens(rows: Sequence[tuple[RowShape, int]], shapes: Shapes) -> Tokens:
    return Tokens(
        read=sum(count * row.prompt(shapes) for row, count in rows),
        written=sum(count * row.sampled for row, count in rows),
        trained=sum(count * row.positions(shapes) for row, count in rows),
        separate=sum(count * row.branches * (row.sequence(shapes) - 1) for row, count in rows),
    )
