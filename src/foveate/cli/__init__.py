"""The command line: parse, call, print. Here every command by its name."""

import typer

from foveate.cli import (
    asking,
    bench,
    comparing,
    data,
    planning,
    probing,
    publishing,
    recipes,
    reporting,
    serving,
    training,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a vision-language model where to look.",
    epilog="Start here: `foveate demo` (two minutes, no GPU, no download).",
)
for name, command in (
    ("demo", training.demo),
    ("plan", planning.plan),
    ("train", training.train),
    ("launcher", training.launcher),
    ("serve-rollouts", serving.serve_rollouts),
    ("select-resolution", training.select_resolution),
    ("eval", asking.evaluate),
    ("probe", probing.probe),
    ("report", reporting.report),
    ("study", comparing.study),
    ("ask", asking.ask),
    ("export", publishing.export),
    ("reproduce", comparing.reproduce),
):
    app.command(name)(command)

data_app = typer.Typer(no_args_is_help=True, help="Make and check data sets.")
data_app.command("scenes")(data.scenes)
data_app.command("check")(data.check)
data_app.command("benchmarks")(data.benchmarks)
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed and memory, both sides in one run.")
bench_app.command("update")(bench.bench_update)
bench_app.command("reading")(bench.bench_reading)
bench_app.command("rollout")(bench.bench_rollout)
bench_app.command("memory")(bench.bench_memory)
bench_app.command("step")(bench.bench_step)
recipes_app = typer.Typer(no_args_is_help=True, help="The methods, as settings.")
recipes_app.command("list")(recipes.list_recipes)
recipes_app.command("show")(recipes.show)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.add_typer(recipes_app, name="recipes")
