"""Training, and what comes before it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.common import FILES, Data, Json, Model, Seed, Set, console, friendly, write_json


@friendly
def demo(
    out: Annotated[Path, typer.Option(help="Run folder; an earlier demo in it is replaced.")] = Path("runs/demo"),
    seed: Seed = 0,
    held_out: Annotated[int, typer.Option(min=1, help="Scenes to measure on.")] = 300,
    settings: Set = None,
    json_file: Json = None,
) -> None:
    """Train a tiny model to look, on this machine, and see it in pictures.

    Example: `foveate demo --seed 1`
    """
    import shutil

    from foveate.demo import run_demo

    if (out / "summary.json").exists() or (out / "metrics.jsonl").exists():
        shutil.rmtree(out)
    write_json(json_file, run_demo(out, seed=seed, overrides=settings or [], held_out=held_out, console=console))


@friendly
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see 'foveate recipes list') or a .yaml file.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Run folder.")],
    model: Model = "tiny",
    seed: Seed = 0,
    settings: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 20,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="TRACKER", help="Log to tensorboard, trackio or wandb too; may be given several times."),
    ] = None,
    sft_data: Annotated[
        str | None, typer.Option(help="Questions of the stage sft, where --data has those of rl alone.")
    ] = None,
) -> None:
    """Post-train a model by a recipe on questions and answers.

    Example: `foveate train hart --model Qwen/Qwen2.5-VL-7B-Instruct --data my.jsonl --out runs/hart
    --set objective.k=0.3`

    Ctrl-C and SIGTERM save a checkpoint after the step under way and end with status 130 or 143; --resume goes on
    from it. On several GPUs it is started by torchrun or accelerate launch (docs/distributed.md). With two stages
    (--set stages=rl,sft) each gets questions of its own, and a folder of its own in the run folder.
    """
    from foveate.display import TrainingDisplay
    from foveate.recipes import load_recipe
    from foveate.runs import start
    from foveate.training.processes import end, is_first

    tracked = [f"setup.trackers=[{','.join(track)}]"] if track else []
    resolved = load_recipe(recipe, [*(settings or []), *tracked])
    console.quiet = not is_first()
    with TrainingDisplay(console) as display:
        standing = start(
            resolved,
            model,
            data,
            out,
            seed=seed,
            resume=resume,
            save_every=save_every,
            observers=[display],
            sft_data=sft_data,
            warn=display.warn,
        )
    stopped = f"stopped after step {standing.step} of {standing.steps} of {standing.stage}; go on with --resume"
    state = "finished" if standing.finished else stopped
    console.print(f"{state}. Checkpoints, metrics and rollouts are in {out}")
    end()
    if standing.signal is not None and not standing.finished:
        raise typer.Exit(128 + standing.signal)


@friendly
def launcher(
    name: Annotated[str, typer.Argument(help="ddp, fsdp2, deepspeed or cpu.")],
) -> None:
    """Print a configuration of accelerate launch, which trains on several processes (docs/distributed.md).

    Example: `foveate launcher fsdp2 > fsdp2.yaml`
    """
    from importlib import resources

    shipped = {Path(file.name).stem: file for file in resources.files("foveate").joinpath("launchers").iterdir()}
    if name not in shipped:
        raise typer.BadParameter(f"there is no {name!r}, only {', '.join(sorted(shipped))}")
    typer.echo(shipped[name].read_text(encoding="utf-8"), nl=False)


@friendly
def select_resolution(
    data: Annotated[str, typer.Option(help=f"{FILES}.")],
    out: Annotated[Path, typer.Option(help="Folder for the new data set, which training reads.")],
    model: Model = "tiny",
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS,...", help="Pixel budgets to go down by. Default: halves, down to 4 visual tokens."
        ),
    ] = None,
    original_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Pixel budget that stands for the original. Default: the model's own."),
    ] = None,
    unchanged: Annotated[
        str, typer.Option(metavar="drop|keep", help="Questions whose answer never changes; keep: at the lowest level.")
    ] = "drop",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; nothing is asked twice.")] = False,
    json_file: Json = None,
) -> None:
    """Find, for each question, the resolution at which the model's answer changes (LFPC's stage I data).

    Example: `foveate select-resolution --data my.jsonl --model Qwen/Qwen2.5-VL-7B-Instruct --out data/gap`

    Then: foveate train lfpc-1 --data data/gap ... The full image is shown at the resolution chosen, crops are cut from
    the original.
    """
    from foveate.display import counting, levels_table
    from foveate.families import EMBEDDED
    from foveate.generators import LocalGenerator
    from foveate.questions.benchmarks import load_named
    from foveate.runs import load_policy
    from foveate.training.resolution import select_resolutions

    try:
        budgets = [int(level) for level in levels.split(",")] if levels else None
    except ValueError:
        raise typer.BadParameter(f"--levels is {levels!r}: write numbers of pixels, such as 401408,200704") from None
    questions = load_named(data)
    vlm = load_policy(model)
    with counting(console, "selecting", len(questions)) as progress:
        selection = select_resolutions(
            questions,
            LocalGenerator(vlm),
            out,
            levels=budgets,
            original_pixels=original_pixels,
            unchanged=unchanged,  # type: ignore[arg-type]  # checked there
            model=model if model == EMBEDDED else str(vlm.model.name_or_path),  # of a run, the checkpoint
            max_new_tokens=max_new_tokens,
            resume=resume,
            on_progress=progress,
        )
    console.print(levels_table(selection.summary))
    console.print(f"{selection.summary['kept']} questions in {selection.path}", highlight=False, soft_wrap=True)
    write_json(json_file, selection.summary)
