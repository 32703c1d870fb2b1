"""A plan as plain figures: what is shown and what is written are the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from foveate.planning import option as planning
from foveate.planning.machines import GIB
from foveate.planning.option import Option
from foveate.planning.plan import Plan


def as_json(plan: Plan, recipe: str, typed: str = "") -> dict[str, Any]:
    """All figures by name; bytes as bytes, on one device.

    Args:
        recipe: as it was named.
        typed: settings that were given beside it, as they stand on a command line.
    """
    best, machine = plan.best, plan.machine
    return {
        "model": {
            "name": plan.shapes.name,
            "type": plan.shapes.config.model_type,
            "configuration": plan.shapes.source,
            "parameters": plan.parameters,
        },
        "recipe": recipe,
        "machine": {
            "devices": machine.count,
            "bytes": machine.memory,
            "chip": asdict(machine.chip),
            "chip_assumed": machine.assumed,
            "text": str(machine),
        },
        "rows": [
            {
                "turn": row.name,
                "per_question": count,
                "visual_tokens": sum(map(plan.shapes.geometry.visual_tokens, row.images)),
                "prompt": row.prompt(plan.shapes),
                "branches": row.branches,
                "branch": row.branch(plan.shapes),
                "positions": row.positions(plan.shapes),
            }
            for row, count in plan.rows
        ],
        "tokens_per_question": {"longest": asdict(plan.longest), "usual": asdict(plan.average)},
        "questions_per_step": plan.recipe.optimisation.questions_per_step,
        "options": [_option(option) for option in plan.options],
        "best": _option(best) if best else None,
        "nearest": None if best or plan.options[0].hopeless else _option(plan.options[0]),
        "command": _command(plan, best, recipe, typed) if best else None,
        "vllm": _vllm(plan),
        "assumptions": _assumptions(plan),
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        "settings": list(option.flags),
        "fits": option.fits,
        "hopeless": option.hopeless,
        "needed": option.needed,
        "capacity": option.capacity,
        "phases": [{"name": phase.name, "peak": phase.peak, "parts": phase.parts} for phase in option.phases],
        "seconds": option.seconds | {"step": option.total_seconds} if option.seconds else None,
    }


def _command(plan: Plan, best: Option, recipe: str, typed: str) -> str:
    launcher = "" if plan.machine.count == 1 else f"torchrun --nproc-per-node {plan.machine.count} -m "
    flags = " ".join(f"--set {flag}" for flag in best.flags)
    words = (
        f"{launcher}foveate train {recipe} --model {plan.shapes.name}",
        "--data my.jsonl --out runs/my",
        typed,
        flags,
    )
    return " ".join(word for word in words if word)


def _vllm(plan: Plan) -> dict[str, Any] | None:
    """What vLLM wants on a GPU: beside the training on one device, or on one of its own where there are several."""
    if not plan.machine.is_gpu:
        return None
    engine, beside = plan.recipe.setup.engine, plan.machine.count == 1
    cache = plan.vllm["cache"] * plan.machine.count
    wanted = plan.vllm["weights"] + cache + planning.CONTEXT
    return {
        "weights": plan.vllm["weights"],
        "cache": cache,
        "beside_the_training": beside,
        "share": -(-100 * wanted // plan.machine.memory) / 100,
        "set": engine.gpu_memory if engine.name == "vllm" else None,
        "too_little": engine.gpu_memory * plan.machine.memory < plan.vllm["weights"] + planning.CONTEXT,
        "max_length": plan.longest_sequence,
    }


def _assumptions(plan: Plan) -> list[str]:
    machine, speed, assumed = plan.machine, plan.speed, plan.assumed
    lines = [
        f"text of a context: {assumed.prompt_tokens} tokens; usually "
        f"{assumed.reply_tokens or plan.recipe.rollout.max_new_tokens // 4} tokens a reply and {assumed.crops} crop(s)",
        "memory: every reply and every number of crops at its limit",
    ]
    if plan.recipe.setup.engine.name != "local":
        lines.append("seconds: replies take as long as by the training's own generator, vLLM is faster")
    if machine.is_gpu:
        several = f", {planning.NCCL / GIB:.0f} GiB for NCCL" if machine.count > 1 else ""
        lines += [
            f"allowances: {planning.FRAGMENTS:.0%} of the tensors for fragments, {planning.CONTEXT / GIB:.1f} GiB for "
            f"the CUDA context{several}; {planning.UNREPORTED:.1%} of the memory is the driver's",
            f"chip: {machine.chip.name}{', concluded from its memory' if machine.assumed else ''}: "
            f"{machine.chip.bf16:g} TFLOP/s bfloat16, {machine.chip.bandwidth:g} GB/s, {machine.chip.link:g} GB/s "
            "between devices",
            f"reached: {speed.update:.0%} of the TFLOP/s in updates, {speed.prefill:.0%} reading contexts, "
            f"{speed.bandwidth:.0%} of the bandwidth writing, at least {1e3 * speed.launch:.1f} ms a layer and token",
        ]
    else:
        lines += [
            f"allowance: {planning.FREE_ON_CPU:.0%} of the memory for everything else that runs",
            f"speed: {machine.chip.fp32:g} TFLOP/s and {machine.chip.bandwidth:g} GB/s, whatever the CPU",
        ]
    return lines
