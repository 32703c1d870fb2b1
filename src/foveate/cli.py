"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from foveate.errors import FoveateError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a vision-language model where to look.",
    epilog="Start here: `foveate demo` (two minutes, no GPU, no download).",
)
data_app = typer.Typer(no_args_is_help=True, help="Make and check data sets.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed and memory, both sides in one run.")
recipes_app = typer.Typer(no_args_is_help=True, help="The methods, as settings.")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.add_typer(recipes_app, name="recipes")
console = Console()

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SETTING=VALUE", help="Change a setting, e.g. objective.k=0.3.")
]
Model = Annotated[
    str, typer.Option(help="Checkpoint folder, run folder, hub id, or 'tiny' (embedded).", show_default=True)
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides the order of questions and every sample.")]


def _friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Failures that a person can mend end with their message and status 2, not with a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        # Both are read when torch and transformers are imported, which only some commands do. Our own progress bars are
        # enough; and CPU threads that wait for one another must soon sleep instead of spinning: beside one other busy
        # program on two cores a step of the demo otherwise takes 25 seconds, and so it takes one.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        try:
            command(*args, **kwargs)
        except (FoveateError, OSError, ImportError) as error:
            Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
            raise typer.Exit(2) from error

    return run


def _write_json(path: Path | None, figures: Any) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2, default=str) + "\n", encoding="utf-8")


@app.command()
@_friendly
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
    _write_json(json_file, run_demo(out, seed=seed, overrides=settings or [], held_out=held_out, console=console))


@app.command()
@_friendly
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see 'foveate recipes list') or a .yaml file.")],
    data: Annotated[str, typer.Option(help="JSONL or Parquet file, a folder with one, or 'scenes'.")],
    out: Annotated[Path, typer.Option(help="Run folder.")],
    model: Model = "tiny",
    seed: Seed = 0,
    settings: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 20,
    sft_data: Annotated[
        str | None, typer.Option(help="Questions of the stage sft, where --data has those of rl alone.")
    ] = None,
) -> None:
    """Post-train a model by a recipe on questions and answers.

    Example: `foveate train hart --model Qwen/Qwen2.5-VL-7B-Instruct --data my.jsonl --out runs/hart
    --set objective.k=0.3`

    Ctrl-C saves a checkpoint after the step under way; --resume goes on from it. With two stages (--set stages=rl,sft)
    each gets questions of its own, and a folder of its own in the run folder.
    """
    from foveate.display import TrainingDisplay
    from foveate.recipes import load_recipe
    from foveate.runs import start

    resolved = load_recipe(recipe, settings or [])
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
        )
    stopped = f"stopped after step {standing.step} of {standing.steps} of {standing.stage}; go on with --resume"
    state = "finished" if standing.finished else stopped
    console.print(f"{state}. Checkpoints, metrics and rollouts are in {out}")


@app.command("select-resolution")
@_friendly
def select_resolution(
    data: Annotated[Path, typer.Option(help="JSONL or Parquet file, or a folder with one.")],
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
    from foveate.questions.readers import load_questions
    from foveate.runs import load_policy
    from foveate.training.resolution import select_resolutions

    try:
        budgets = [int(level) for level in levels.split(",")] if levels else None
    except ValueError:
        raise typer.BadParameter(f"--levels is {levels!r}: write numbers of pixels, such as 401408,200704") from None
    questions = load_questions(data)
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
    _write_json(json_file, selection.summary)


@app.command("eval")
@_friendly
def evaluate_command(
    data: Annotated[str, typer.Option(help="JSONL or Parquet file, a folder with one, or 'scenes'.")],
    model: Model = "tiny",
    recipe: Annotated[str, typer.Option(help="Whose protocol and pixel budgets to use.")] = "hart",
    settings: Set = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first questions.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples per question.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Score a model: answers, and where it looked when the data has true boxes.

    Example: `foveate eval --model runs/hart --data test.jsonl --json scores.json`
    """
    from functools import partial

    from foveate.display import counting
    from foveate.evaluation.runner import FIGURES
    from foveate.evaluation.scores import write_scores
    from foveate.recipes import load_recipe
    from foveate.runs import evaluate_model

    result = evaluate_model(
        load_recipe(recipe, settings or []),
        model,
        data,
        limit=limit,
        samples=samples,
        temperature=temperature,
        seed=seed,
        counting=partial(counting, console, "asking"),
    )
    for name in FIGURES:
        value = result.summary.figure(name)
        if value is not None:
            low, high = result.summary.intervals[name]
            console.print(f"{name:12} {value:.3f}   (95 % interval {low:.3f} to {high:.3f})", highlight=False)
    wrong_place = result.joint.wrong_place_among_right_answers
    if wrong_place is not None:
        console.print(f"{wrong_place:.1%} of the right answers pointed at a wrong place", highlight=False)
    console.print(f"{result.summary.questions} questions; episodes ended: {result.stops}", highlight=False)
    if json_file is not None:
        write_scores(json_file, result, model=model)


@app.command()
@_friendly
def study(
    quick: Annotated[bool, typer.Option("--quick", help="Three methods, two seeds, from the shipped base.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: runs/study, or runs/study-quick.")] = None,
    only: Annotated[
        str | None, typer.Option(metavar="METHOD,...", help="Only these methods, and what they start from.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds. Default: 5, or 2 of the quick one.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time, each of about 1 GB. Default: one a core.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it costs, and run nothing.")] = False,
) -> None:
    """Compare methods in miniature: seeds, intervals, paired tests, plots, and the papers' claims put to the test.

    Examples: `foveate study --quick`, in minutes; `foveate study --dry-run`, what the full one costs: hours;
    `foveate study --only hart,mgpo --seeds 2`, a part of it

    What is finished is kept: run it again to go on. Bases beside the shipped one are built on first use and kept in
    ~/.cache/foveate. The folder gets report.md, plots/, a file for each cell in cells/, and the models in runs/.
    """
    from foveate.study.command import narrowed, run_study
    from foveate.study.plans import FULL, QUICK

    folder = out or Path("runs", "study-quick" if quick else "study")
    chosen = narrowed(QUICK if quick else FULL, [name.strip() for name in only.split(",")] if only else [], seeds)
    options = (" --quick" if quick else "", f" --only {only}" if only else "", f" --seeds {seeds}" if seeds else "")
    command = "foveate study" + "".join(options)
    report = run_study(chosen, folder, command=command, workers=workers, dry_run=dry_run, console=console)
    if report:
        console.print(f"the report is in {report}", highlight=False, soft_wrap=True)


@app.command()
@_friendly
def ask(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    model: Model = "tiny",
    recipe: Annotated[str, typer.Option(help="Whose protocol and pixel budgets to use.")] = "hart",
    choices: Annotated[str | None, typer.Option(help="Options separated by '|': 'red|green|blue'.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the annotated picture goes.")] = None,
) -> None:
    """Ask one question about one picture; prints the answer and draws where the model looked.

    Example: `foveate ask photo.jpg "What is written on the sign?" --model runs/hart`
    """
    from foveate.episodes import run_episodes
    from foveate.evaluation.pictures import annotated
    from foveate.generators import LocalGenerator, Sampling
    from foveate.images import open_image
    from foveate.questions.schema import Question, choice_letters
    from foveate.recipes import load_recipe
    from foveate.runs import load_policy

    options = [option.strip() for option in choices.split("|")] if choices else None
    lettered = dict(zip(choice_letters(len(options)), options, strict=True)) if options else None
    asked = Question(id=image.name, image=image, text=question, answer="", choices=lettered)
    resolved = load_recipe(recipe)
    vlm = load_policy(model)
    protocol = resolved.build_protocol(vlm.family.budget)
    sampling = Sampling(0.0, resolved.rollout.max_new_tokens)
    [[_, [episode]]] = run_episodes([asked], protocol, LocalGenerator(vlm), sampling=sampling)
    answer = episode.answer
    if lettered and answer:
        answer = f"{answer} ({lettered[answer]})"
    console.print(answer if answer is not None else f"no answer: {episode.stop}", highlight=False, markup=False)
    if problems := [turn.problem for turn in episode.turns if turn.problem]:
        console.print(f"problem with the reply: {', '.join(problems)}", highlight=False)
    target = out or image.with_name(f"{image.stem}-answered.png")
    annotated(open_image(image), predicted=episode.boxes, points=episode.points).save(target)
    pointed = f" and pointed at {len(episode.points)} object(s)" if episode.points else ""
    console.print(f"looked at {len(episode.boxes)} region(s){pointed}; drawn in {target}", highlight=False)


@app.command()
@_friendly
def reproduce(
    table: Annotated[str | None, typer.Argument(help="A results table; without one they are listed.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]PATH", help="The base model; NAME= for another than the table's own."),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Where a data set lies: JSONL or Parquet.")
    ] = None,
    row: Annotated[list[str] | None, typer.Option(metavar="METHOD", help="Only this row; may be given again.")] = None,
    out: Annotated[Path, typer.Option(help="Folder; tables in the same one share trainings.")] = Path(
        "runs/reproduced"
    ),
    settings: Set = None,
    json_file: Json = None,
) -> None:
    """Run a results table of a paper, and set the figures beside the published ones.

    Example: `foveate reproduce hart/table-2 --dry-run`

    Then: foveate reproduce hart/table-2 --model Qwen/Qwen2.5-VL-7B-Instruct --data mme-realworld=train.jsonl --data
    mme-realworld-lite=lite.jsonl. What is finished is not done again; --set reaches every training and evaluation.
    """
    from foveate.reproduction.schema import load_table, table_names

    if table is None:
        for name in table_names():
            console.print(f"{name:18} {load_table(name).title}", highlight=False, soft_wrap=True)
        return
    from foveate.reproduction.plan import plan_of
    from foveate.reproduction.run import run_plan
    from foveate.reproduction.show import comparison, described

    models = dict(_named(one, optional=True) for one in model or [])
    given = dict(_named(one) for one in data or [])
    plan = plan_of(load_table(table), out, models=models, data=given, overrides=settings or [], methods=row or [])
    if dry_run:
        console.print(described(plan), highlight=False, markup=False, soft_wrap=True)
        return
    run_plan(plan, console)
    shown, figures = comparison(plan)
    console.print(shown)
    _write_json(out / f"{table}.json", figures)
    _write_json(json_file, figures)


def _named(given: str, *, optional: bool = False) -> tuple[str, str]:
    """NAME=PATH as a pair; without a name, where it need not have one, the name is empty."""
    name, found, path = given.partition("=")
    if not found and optional:
        return "", given
    if not (found and name and path):
        raise typer.BadParameter(f"{given!r}: write NAME=PATH")
    return name, path


@data_app.command("scenes")
@_friendly
def data_scenes(
    out: Annotated[Path, typer.Option(help="Folder for questions.jsonl and the pictures.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many scenes.")] = 1000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=64, max=8192, help="Side of the originals, in pixels.")] = 1024,
    kind: Annotated[
        str, typer.Option(help="read, compare (two crops needed), relation (none needed) or count (with true points).")
    ] = "read",
    writing: Annotated[str, typer.Option(help="digit, word or code.")] = "digit",
    writing_px: Annotated[int | None, typer.Option(help="Height of the writing, in pixels of the original.")] = None,
    distractors: Annotated[int, typer.Option(min=0, help="Pieces of clutter.")] = 8,
    view_pixels: Annotated[int, typer.Option(min=784, help="Pixel budget of the small view.")] = 112 * 112,
    multiple_choice: Annotated[bool, typer.Option("--multiple-choice", help="Lettered choices.")] = False,
) -> None:
    """Draw procedural scenes as an ordinary data set.

    Example: `foveate data scenes --n 1000 --size 2048 --out data/scenes`
    """
    from foveate.questions.scenes import SceneConfig, export

    try:
        config = SceneConfig(
            size=size,
            kind=kind,  # type: ignore[arg-type]  # checked by SceneConfig, whose message names the choices
            writing=writing,  # type: ignore[arg-type]
            writing_px=writing_px,
            distractors=distractors,
            view_pixels=view_pixels,
            multiple_choice=multiple_choice,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    console.print(f"{n} scenes in {export(config, n, seed, out)}")


@data_app.command("check")
@_friendly
def data_check(
    file: Annotated[Path, typer.Argument(help="JSONL or Parquet file, or a folder with one.")],
    json_file: Json = None,
) -> None:
    """Look at every row and picture; name each bad row and its mend. Status 1 when there are any.

    Example: `foveate data check my.jsonl`
    """
    from foveate.questions.check import check_file

    report = check_file(file)
    console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    _write_json(json_file, report.as_json())
    if not report.ok:
        raise typer.Exit(1)


@bench_app.command("update")
@_friendly
def bench_update(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and repeats; under two minutes.")] = False,
    json_file: Json = None,
) -> None:
    """Packed rows against separate rows, and against TRL where it is installed.

    Example: `foveate bench update --quick --json update.json`
    """
    from foveate.bench import update

    update.main(quick=quick, json_path=json_file)


@bench_app.command("rollout")
@_friendly
def bench_rollout(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and repeats; under two minutes.")] = False,
    json_file: Json = None,
) -> None:
    """Shared prefill against transformers' generate(num_return_sequences=G).

    Example: `foveate bench rollout --json rollout.json`
    """
    from foveate.bench import rollout

    rollout.main(quick=quick, json_path=json_file)


@recipes_app.command("list")
@_friendly
def recipes_list() -> None:
    """The recipes that ship with foveate."""
    from foveate.recipes import load_recipe, recipe_names

    for name in recipe_names():
        console.print(f"{name:12} {load_recipe(name).title}", highlight=False, soft_wrap=True)


@recipes_app.command("show")
@_friendly
def recipes_show(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or a .yaml file.")], settings: Set = None
) -> None:
    """A recipe with every setting, as a run would use it: YAML, to change and to train with.

    Example: `foveate recipes show hart --set objective.k=0.3 > mine.yaml`

    Beside a setting stands the paper's value where it is another, and "assumed" where the paper is silent: the reasons
    are under `assumptions`.
    """
    from foveate.recipes import annotated, load_recipe

    lines = annotated(load_recipe(recipe, settings or []))
    column = 2 + max(len(line.text) for line in lines if line.comment) if any(line.comment for line in lines) else 0
    for line in lines:
        colour = "yellow" if line.paper is not None else "dim"
        text = Text(line.text.ljust(column) if line.comment else line.text)
        console.print(text.append(line.comment, style=colour), soft_wrap=True, highlight=False)
