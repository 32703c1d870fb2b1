"""What a person sees while a run goes on: progress and figures in a terminal, a line now and then in a log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from foveate.evaluation.official import Official
from foveate.sizes import in_words

if TYPE_CHECKING:  # torch comes with it, and asking an endpoint needs none
    from foveate.training import StepReport

SHOWN: Mapping[str, str] = {
    "reward": "reward",
    "accuracy": "accuracy",
    "iog30": "IoG > 0.3 (share of boxes that find the true region)",
    "box_area": "box area (share of the image)",
    "valid_boxes": "valid boxes",
    "kl": "KL to the start",
    "answer_probability": "probability of the right answer",
}
"""The figures of a step that are shown, by their names in metrics.jsonl."""
_BARS = "▁▂▃▄▅▆▇█"
_LINE_EVERY = 10
_SMOOTHED = 5


class LiveDisplay:
    """A context manager, since what is drawn live in a terminal must be closed.

    Args:
        live: None where the console is no terminal.
    """

    def __init__(self, live: Live | None) -> None:
        self._live = live

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()


class TrainingDisplay(LiveDisplay):
    """An observer that shows each step.

    Args:
        console: where to show; a console that is no terminal gets a line every ten steps.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._rows, self._stage = console, list[Mapping[str, float]](), ""
        self._progress = _progress(console)
        self._task = self._progress.add_task("training", total=None)
        live = Live(self._picture(), console=console, refresh_per_second=4) if console.is_terminal else None
        super().__init__(live)

    def __call__(self, report: StepReport) -> None:
        """Shows a step; a new stage begins with new curves."""
        if report.stage != self._stage:
            self._stage, self._rows = report.stage, []
        self._rows.append(dict(report.metrics))
        self._progress.update(
            self._task, description=f"training ({report.stage})", completed=report.step + 1, total=report.steps
        )
        if self._live:
            self._live.update(self._picture())
        elif (report.step + 1) % _LINE_EVERY == 0 or report.step + 1 == report.steps:
            figures = "  ".join(f"{name} {self._recent(name):.3f}" for name in SHOWN if name in report.metrics)
            self._console.print(f"{report.stage} step {report.step + 1:>4}/{report.steps}  {figures}", highlight=False)

    def warn(self, message: str) -> None:
        """Says, above the curves, what a person had better know of the run."""
        self._console.print(Text.assemble(("warning: ", "yellow"), message), highlight=False, soft_wrap=True)

    def _recent(self, name: str) -> float:
        values = [row[name] for row in self._rows[-_LINE_EVERY:] if name in row]
        return sum(values) / len(values)

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, title in SHOWN.items():
            values = [row[name] for row in self._rows if name in row]
            if values:
                table.add_row(title, f"{_smoothed(values)[-1]:.3f}", sparkline(_smoothed(values)))
        return Group(self._progress, table)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Values as a row of little bars, from their least to their greatest; the newest at the right."""
    step = max(1, -(-len(values) // width))
    points = [values[i] for i in range((len(values) - 1) % step, len(values), step)]
    low, span = min(points), max(points) - min(points)
    return "".join(_BARS[int((value - low) / span * (len(_BARS) - 1))] if span else _BARS[0] for value in points)


@contextmanager
def counting(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is advanced by calling it with the number of things done since the last call."""
    with _progress(console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def levels_table(summary: Mapping[str, Any]) -> Group:
    """What a selection of resolutions came to: a row per level, and what it cost."""
    table = Table("shown at most", "visual tokens at most", "asked", "answer changes first", box=None)
    for column in table.columns:
        column.justify = "right"
    for number, level in enumerate(summary["levels"]):
        changes = str(level["chosen"]) if number else "(the original)"
        table.add_row(f"{level['pixels']:,} px", f"{level['visual_tokens']:,}", str(level["asked"]), changes)
    never, cost = summary["unchanged"], summary["cost"]
    done = {"drop": "left out", "keep": "kept at the lowest level"}[never["handling"]]
    return Group(
        table,
        f"never: {never['questions']} ({never['right']} of them right), {done}",
        f"cost: {cost['answers']:,} answers ({cost['share_of_all_levels']:.0%} of all questions at all levels), "
        f"{cost['visual_tokens']:,} visual and {cost['generated_tokens']:,} generated tokens, {cost['seconds']:.1f} s",
    )


def _progress(console: Console, *, transient: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    return [
        sum(values[max(0, i - _SMOOTHED + 1) : i + 1]) / len(values[max(0, i - _SMOOTHED + 1) : i + 1])
        for i in range(len(values))
    ]


def figures_table(benchmark: str, official: Official) -> Table:
    """A benchmark's official figures, with their questions and intervals, and what they do not show."""
    counts = ", ".join(f"{name} {count}" for name, count in official.counts.items() if count)
    table = Table("figure", title=f"{benchmark}, as it is reported", caption=counts or None, title_justify="left")
    for name in ("value", "95 % interval", "questions"):
        table.add_column(name, justify="right")
    for name, one in official.figures.items():
        value = "undefined" if one.value is None else f"{one.value:.3f}"
        interval = "{:.3f} to {:.3f}".format(*one.interval) if one.interval else ""
        table.add_row(escape(name), value, interval, str(one.questions))
    return table


def plan_tables(figures: Mapping[str, Any]) -> Group:
    """A plan (`planning.report.as_json`): what is run, what was looked at, what to take."""
    model, tokens, best = figures["model"], figures["tokens_per_question"], figures["best"]
    parts: list[RenderableType] = [
        f"{escape(model['name'])}: {_parameters(model['parameters'])} parameters ({model['configuration']})",
        f"{figures['recipe']} on {figures['machine']['text']}, {figures['questions_per_step']} questions a step",
        "",
        _plan_rows(figures["rows"]),
        "",
        *(
            f"a question, {name}: reads {one['read']:,} tokens, writes {one['written']:,}, trains on rows of "
            f"{one['trained']:,} positions (separate rows: {one['separate']:,})"
            for name, one in tokens.items()
        ),
        "",
        _plan_options(figures["options"]),
    ]
    if best is None and (nearest := figures["nearest"]):
        parts += ["", "[red]Nothing fits.[/red] Show fewer pixels (images.max_pixels), write shorter replies"]
        parts += ["(rollout.max_new_tokens), sample less at a time (rollout.group_size,"]
        parts += ["optimisation.questions_per_step), or take more memory. What is nearest:"]
        parts += ["", _plan_phases(nearest)]
    elif best is None:
        parts += ["", "[red]Nothing fits:[/red] what stands all the time (weights, gradients, optimizer) is more than"]
        parts += ["a device has, whatever is shown and written. Take larger or more devices, or a smaller model."]
    else:
        command = re.sub(r" (?=--(?:data|set) )", " \\\\\n    ", figures["command"])
        parts += ["", _plan_phases(best), "", "To run it:", f"  {escape(command)}"]
    if figures["vllm"]:
        parts += ["", _plan_vllm(figures["vllm"])]
    parts += ["", *(f"[dim]assumed: {escape(line)}[/dim]" for line in figures["assumptions"])]
    return Group(*parts)


def _plan_vllm(vllm: Mapping[str, Any]) -> str:
    wants = (
        f"{in_words(vllm['weights'])} of weights and {in_words(vllm['cache'])} of caches for all samples at once, "
        f"{vllm['share']:.0%} of a device"
    )
    length = f"longest sequence: {vllm['max_length']} tokens (setup.engine.max_length)"
    if vllm["set"] is not None:
        short = " (less than the weights need: raise it)" if vllm["too_little"] else ""
        return f"vLLM has setup.engine.gpu_memory={vllm['set']:g} of the device{short}; it could use {wants}; {length}"
    if vllm["beside_the_training"]:
        return (
            f"vLLM beside the training (setup.engine.name=vllm) could use {wants} (setup.engine.gpu_memory); {length}"
        )
    return f"vLLM on a device of its own (setup.engine.name=vllm_server, setup.shard=none) could use {wants}; {length}"


def _plan_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = ("per question", "visual tokens", "prompt", "branches", "tokens a branch", "positions")
    table = Table("longest row", *names, box=None)
    for row in rows:
        values = ("per_question", "visual_tokens", "prompt", "branches", "branch", "positions")
        table.add_row(row["turn"], *(f"{row[value]:,}" for value in values))
    return table


def _plan_options(options: Sequence[Mapping[str, Any]]) -> Table:
    settings = Column("settings", no_wrap=True)
    table = Table(settings, "needs", "of", "fits", "seconds a step (estimate)", box=None)
    for one in options:
        fits = "[green]yes[/green]" if one["fits"] else "[red]no[/red]"
        flags = "\n".join(one["settings"]) or "as they are"
        needs = f"over {in_words(one['needed'])}" if one["hopeless"] else in_words(one["needed"])
        seconds = f"{one['seconds']['step']:,.0f}" if one["seconds"] else "not looked at"
        table.add_row(flags, needs, in_words(one["capacity"]), fits, seconds)
    return table


def _plan_phases(best: Mapping[str, Any]) -> Table:
    table = Table("phase, a device", "peak", "of which", box=None)
    for phase in best["phases"]:
        parts = ", ".join(f"{name} {in_words(size)}" for name, size in phase["parts"].items() if size)
        table.add_row(phase["name"], in_words(phase["peak"]), parts)
    seconds = ", ".join(f"{name} {value:,.0f} s" for name, value in best["seconds"].items())
    table.add_row("time (estimate)", "", seconds)
    return table


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e8 else f"{count / 1e6:.2f} M"
