"""Asking a model: a data set, or one question about one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.common import AskedBy, Json, Model, Seed, Set, console, friendly


@friendly
def evaluate(
    data: Annotated[
        str,
        typer.Option(help="JSONL or Parquet file, a folder with one, a benchmark (NAME or NAME:PATH), or 'scenes'."),
    ],
    model: Model = "tiny",
    recipe: AskedBy = None,
    settings: Set = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first questions.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples per question.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    seed: Seed = 0,
    probes: Annotated[
        bool, typer.Option("--probes", help="Ask the answer turns again with other crops: up to 5 answers a question.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Score a model: answers, and where it looked when the data has true boxes.

    Example: `foveate eval --model runs/hart --data test.jsonl --json scores.json`

    A benchmark as it is published: `foveate eval --model runs/hart --data hr-bench-4k:/data/hr_bench_4k.tsv`; without
    a path it comes from the hub (`--data vstar`). `foveate data benchmarks` lists them.

    --probes says whether it uses its crops: what becomes of the accuracy with noise, the true region's crop or one of a
    random place in their place (noise, true_crop, random_crop), and with the crops alone (crop_alone).
    """
    from functools import partial

    from foveate.display import counting, figures_table
    from foveate.evaluation.official import official
    from foveate.evaluation.probes import probe_figures
    from foveate.evaluation.runner import FIGURES
    from foveate.evaluation.scores import write_scores
    from foveate.questions.benchmarks import benchmark_named
    from foveate.runs import evaluate_model, recipe_for

    resolved = recipe_for(model, recipe, settings or [])
    console.print(f"asked by the recipe {resolved.name}, protocol {resolved.protocol.name}", highlight=False)
    result = evaluate_model(
        resolved,
        model,
        data,
        limit=limit,
        samples=samples,
        temperature=temperature,
        seed=seed,
        probed=probes,
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
    for name, figures in probe_figures(result.probes or {}).items():
        if figures["accuracy"] is not None:
            said = f"{name:12} {figures['accuracy']:.3f}   ({figures['change']:+.3f}, {figures['questions']} questions)"
            console.print(said, highlight=False)
    more: dict[str, Any] = {"recipe": resolved.name}
    if named := benchmark_named(data):
        reported = official(named.benchmark.name, result.scored)
        console.print(figures_table(named.benchmark.name, reported))
        more["official"] = reported.to_json()
    console.print(f"{result.summary.questions} questions; episodes ended: {result.stops}", highlight=False)
    if json_file is not None:
        write_scores(json_file, result, model=model, more=more)


@friendly
def ask(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    model: Model = "tiny",
    recipe: AskedBy = None,
    choices: Annotated[str | None, typer.Option(help="Options separated by '|': 'red|green|blue'.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the annotated picture goes.")] = None,
) -> None:
    """Ask one question about one picture; prints the answer and draws where the model looked.

    Example: `foveate ask photo.jpg "What is written on the sign?" --model runs/hart`
    """
    from PIL import Image

    from foveate.episodes import run_episodes
    from foveate.evaluation.pictures import annotated
    from foveate.generators import LocalGenerator, Sampling
    from foveate.images import open_image
    from foveate.questions.schema import Question, choice_letters
    from foveate.runs import load_policy, recipe_for

    target = out or image.with_name(f"{image.stem}-answered.png")
    if target.suffix.lower() not in Image.registered_extensions():
        raise typer.BadParameter(f"--out is {target}: name a picture, such as answered.png")
    options = [option.strip() for option in choices.split("|")] if choices else None
    lettered = dict(zip(choice_letters(len(options)), options, strict=True)) if options else None
    asked = Question(id=image.name, image=image, text=question, answer="", choices=lettered)
    resolved = recipe_for(model, recipe)
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
    target.parent.mkdir(parents=True, exist_ok=True)
    annotated(open_image(image), predicted=episode.boxes, points=episode.points).save(target)
    pointed = f" and pointed at {len(episode.points)} object(s)" if episode.points else ""
    console.print(f"looked at {len(episode.boxes)} region(s){pointed}; drawn in {target}", highlight=False)
