"""`foveate bench`: speed and memory."""

from __future__ import annotations

from typing import Annotated

import typer

from foveate.cli.common import Json, Set, friendly


@friendly
def bench_update(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and repeats; under two minutes.")] = False,
    json_file: Json = None,
) -> None:
    """Packed rows against separate rows, and against TRL where it is installed.

    Example: `foveate bench update --quick --json update.json`
    """
    from foveate.bench import update

    update.main(quick=quick, json_path=json_file)


@friendly
def bench_reading(
    quick: Annotated[bool, typer.Option("--quick", help="60 questions instead of 1,000.")] = False,
    json_file: Json = None,
) -> None:
    """Decodes and memory of an evaluation on 8K pictures, without a model. Linux only.

    Example: `foveate bench reading --json reading.json`
    """
    from foveate.bench import reading

    reading.main(quick=quick, json_path=json_file)


@friendly
def bench_rollout(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and repeats; under two minutes.")] = False,
    json_file: Json = None,
) -> None:
    """Shared prefill against transformers' generate(num_return_sequences=G).

    Example: `foveate bench rollout --json rollout.json`
    """
    from foveate.bench import rollout

    rollout.main(quick=quick, json_path=json_file)


@friendly
def bench_memory(
    quick: Annotated[bool, typer.Option("--quick", help="Three very small cases.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or a CUDA device.")] = "cpu",
    json_file: Json = None,
) -> None:
    """What `foveate plan` predicts of memory against what is measured.

    Example: `foveate bench memory --json memory.json`
    """
    from foveate.bench import memory

    memory.main(quick=quick, json_path=json_file, device=device)


@friendly
def bench_step(
    model: Annotated[
        str | None, typer.Option(help="A Qwen2.5-VL (hub id or folder) whose shapes are taken. Default: a small one.")
    ] = None,
    settings: Set = None,
    visual_tokens: Annotated[int, typer.Option(help="Of the small view, and of each crop: 300, 640 or 1280.")] = 1280,
    questions: Annotated[int, typer.Option(min=1, help="Questions of the step.")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each reply.")] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="300 visual tokens, two episodes; under a minute.")] = False,
    json_file: Json = None,
) -> None:
    """A step of HART with random weights, phase by phase, beside the same update as separate rows.

    Example: `foveate bench step --model Qwen/Qwen2.5-VL-7B-Instruct --device cuda --set setup.precision=bfloat16
    --set setup.lora.rank=16`
    """
    from foveate.bench import step

    step.main(
        quick=quick,
        json_path=json_file,
        model=model,
        settings=settings or (),
        visual_tokens=visual_tokens,
        questions=questions,
        tokens=tokens,
        device=device,
    )
