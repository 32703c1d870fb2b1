"""Asking a model: a data set, or one question about one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from foveate.cli.asked import (
    AnsweredBy,
    AnswererSet,
    AnswererUrl,
    Asked,
    AskedBy,
    AskedIn,
    EndpointSet,
    EndpointUrl,
    Limit,
    Out,
    Quarantine,
)
from foveate.cli.common import Data, Json, Model, Seed, Set, console, friendly
from foveate.cli.probing import print_looking

if TYPE_CHECKING:
    from foveate.evaluation.official import Official
    from foveate.evaluation.runner import Evaluation


@friendly
def evaluate(
    data: Data,
    model: Model = "tiny",
    recipe: AskedBy = None,
    protocol: AskedIn = None,
    settings: Set = None,
    limit: Limit = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples per question.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    seed: Seed = 0,
    probes: Annotated[
        bool, typer.Option("--probes", help="Ask the answer turns again with other crops: up to 5 answers a question.")
    ] = False,
    quarantine: Quarantine = False,
    out: Out = None,
    endpoint: EndpointUrl = None,
    endpoint_settings: EndpointSet = None,
    answerer: AnsweredBy = None,
    answerer_endpoint: AnswererUrl = None,
    answerer_settings: AnswererSet = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=0.99, help="By how much a number may differ, as a share of the right one.")
    ] = 0.0,
    judge: Annotated[
        str | None, typer.Option(help="A model that is asked whether open answers which do not match mean the same.")
    ] = None,
    judge_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the judge answers. Default: --endpoint, with its settings.")
    ] = None,
    judge_settings: Annotated[
        list[str] | None,
        typer.Option("--judge-set", metavar="SETTING=VALUE", help="As --endpoint-set, of where the judge answers."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Score a model: answers, and where it looked when the data has true boxes.

    Example: `foveate eval --model runs/hart --data test.jsonl --out runs/hart/eval`

    A model at any OpenAI-compatible API, here with training-free zooming:
    `foveate eval --endpoint http://localhost:8000/v1 --model qwen2.5-vl-7b --protocol zoom --data test.jsonl`

    A benchmark as it is published: `foveate eval --model runs/hart --data hr-bench-4k:/data/hr_bench_4k.tsv`; without
    a path it comes from the hub (`--data vstar`). `foveate data benchmarks` lists them.

    A small model that locates, and a large one that answers from its crops:
    `foveate eval --model runs/hart --answerer qwen2.5-vl-72b --answerer-endpoint http://localhost:8000/v1 --data vstar`

    --probes says whether it uses its crops: what becomes of the accuracy with noise, the true region's crop or one of a
    random place in their place, and with the crops alone. `foveate probe` asks more.
    """
    from functools import partial

    from foveate.display import counting
    from foveate.evaluation.scores import write_scores
    from foveate.evaluations import Judge, evaluate_model
    from foveate.generators import Endpoint

    asked = Asked.of(
        model,
        recipe=recipe,
        protocol=protocol,
        settings=settings,
        endpoint=endpoint,
        endpoint_settings=endpoint_settings,
        answerer=answerer,
        answerer_endpoint=answerer_endpoint,
        answerer_settings=answerer_settings,
    )
    if judge is None and (judge_endpoint or judge_settings):
        raise typer.BadParameter("--judge-endpoint and --judge-set are about a judge: name it with --judge MODEL")
    judging = None
    if judge:
        # Where the model itself answers, the judge is asked as it is, but for what is set of the judge.
        where, shared = (judge_endpoint, []) if judge_endpoint else (endpoint, endpoint_settings or [])
        if where is None:
            raise typer.BadParameter("--judge needs --judge-endpoint URL: the API where it answers")
        judging = Judge(judge, Endpoint.of(where, [*shared, *(judge_settings or [])]))
    out = asked.folder(out, data)
    evaluated = evaluate_model(
        asked.recipe,
        model,
        data,
        endpoint=asked.endpoint,
        answering=asked.answering,
        out=out,
        limit=limit,
        quarantine=quarantine,
        samples=samples,
        temperature=temperature,
        seed=seed,
        probed=probes,
        tolerance=tolerance,
        judge=judging,
        counting=partial(counting, console),
    )
    print_evaluation(evaluated.evaluation, evaluated.reported)
    if out is not None:
        console.print(f"scores in {out / 'scores.json'}", highlight=False)
    if json_file is not None:
        write_scores(json_file, evaluated.evaluation, evaluated.record)


def print_evaluation(result: Evaluation, reported: tuple[str, Official] | None = None) -> None:
    """The figures, a benchmark's official ones among them, and what must not be overlooked."""
    from foveate.display import figures_table
    from foveate.evaluation.scoring import FIGURES

    for name in FIGURES:
        value = result.summary.figure(name)
        if value is not None:
            low, high = result.summary.intervals[name]
            console.print(f"{name:12} {value:.3f}   (95 % interval {low:.3f} to {high:.3f})", highlight=False)
    wrong_place = result.joint.wrong_place_among_right_answers
    if wrong_place is not None:
        console.print(f"{wrong_place:.1%} of the right answers pointed at a wrong place", highlight=False)
    if looking := result.looking:
        print_looking(looking)
    if reported:
        console.print(figures_table(*reported))
    console.print(f"{result.summary.questions} questions; episodes ended: {result.stops}", highlight=False)
    if result.failed:
        name, reason = next(iter(result.failed.items()))
        failed = (
            f"[red]{len(result.failed)} questions failed[/red] and are in no figure; the same command asks them again"
        )
        console.print(f"{failed}. The first, {name}: {escape(reason)}", highlight=False)


@friendly
def ask(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    model: Model = "tiny",
    recipe: AskedBy = None,
    protocol: AskedIn = None,
    choices: Annotated[str | None, typer.Option(help="Options separated by '|': 'red|green|blue'.")] = None,
    endpoint: EndpointUrl = None,
    endpoint_settings: EndpointSet = None,
    answerer: AnsweredBy = None,
    answerer_endpoint: AnswererUrl = None,
    answerer_settings: AnswererSet = None,
    out: Annotated[Path | None, typer.Option(help="Where the annotated picture goes.")] = None,
) -> None:
    """Ask one question about one picture; prints the answer and draws where the model looked.

    Example: `foveate ask photo.jpg "What is written on the sign?" --model runs/hart`
    """
    from PIL import Image

    from foveate.episodes import StopReason, run_episodes
    from foveate.evaluation.pictures import annotated
    from foveate.evaluations import Models, NamedModel
    from foveate.generators import EndpointError, Sampling
    from foveate.images import open_image
    from foveate.questions.schema import Question, choice_letters

    target = out or image.with_name(f"{image.stem}-answered.png")
    if target.suffix.lower() not in Image.registered_extensions():
        raise typer.BadParameter(f"--out is {target}: name a picture, such as answered.png")
    options = [option.strip() for option in choices.split("|")] if choices else None
    lettered = dict(zip(choice_letters(len(options)), options, strict=True)) if options else None
    asked = Question(id=image.name, image=image, text=question, answer="", choices=lettered)
    by = Asked.of(
        model,
        recipe=recipe,
        protocol=protocol,
        endpoint=endpoint,
        endpoint_settings=endpoint_settings,
        answerer=answerer,
        answerer_endpoint=answerer_endpoint,
        answerer_settings=answerer_settings,
    )
    models = Models.of(by.recipe, NamedModel(model, by.endpoint), by.answering)
    sampling = Sampling(0.0, by.recipe.rollout.max_new_tokens)
    with models.writing_down(None, {}) as (generator, other, _):
        [[_, [episode]]] = run_episodes([asked], models.locator.protocol, generator, answerer=other, sampling=sampling)
    if episode.stop is StopReason.FAILED:
        raise EndpointError(f"no reply: {episode.turns[-1].completion.text}")
    answer = episode.answer
    if lettered and answer:
        answer = f"{answer} ({lettered[answer]})"
    console.print(answer if answer is not None else f"no answer: {episode.stop}", highlight=False, markup=False)
    if problems := [turn.problem for turn in episode.turns if turn.problem]:
        console.print(f"problem with the reply: {', '.join(problems)}", highlight=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    annotated(open_image(image), predicted=episode.boxes, points=episode.points).save(target)
    pointed = f" and pointed at {len(episode.points)} object(s)" if episode.points else ""
    console.print(f"looked at {len(episode.boxes)} region(s){pointed}; drawn in {target}", highlight=False)
