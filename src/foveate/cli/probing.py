"""Whether a model looks: its answers with other pictures in its crops' place, and what the crops give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

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
from foveate.cli.common import Data, Json, Model, Seed, Set, console, friendly, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.evaluation.gains import Gains, Progress, Share
    from foveate.evaluation.looking import Looking
    from foveate.evaluation.statistics import Interval


@friendly
def probe(
    data: Data,
    model: Model = "tiny",
    recipe: AskedBy = None,
    protocol: AskedIn = None,
    settings: Set = None,
    limit: Limit = None,
    seed: Seed = 0,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Of a run: what every kept checkpoint gains from its crops.")
    ] = False,
    quarantine: Quarantine = False,
    out: Out = None,
    endpoint: EndpointUrl = None,
    endpoint_settings: EndpointSet = None,
    answerer: AnsweredBy = None,
    answerer_endpoint: AnswererUrl = None,
    answerer_settings: AnswererSet = None,
    json_file: Json = None,
) -> None:
    """Does it look? Ask the answers again with other pictures in the crops' place.

    Example: `foveate probe --model runs/hart --data test.jsonl`

    Each answer is asked again with the crop of the true region in its crop's place, with noise, another question's
    crop, no picture at all ..., and each question once more directly, without a crop: about 12 answers a question. What
    each says, and by which rules the verdict is reached, is in docs/probes.md.
    """
    from functools import partial

    from foveate.display import counting
    from foveate.evaluations import probe_at_moments

    if checkpoints and endpoint:
        raise typer.BadParameter("--checkpoints are of a run on this machine: leave out --endpoint")
    if checkpoints and answerer:
        raise typer.BadParameter("--checkpoints say what one model learned: leave out --answerer")
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
    out = asked.folder(out, data, "probe")
    look, account = probe_at_moments(
        asked.recipe,
        model,
        data,
        endpoint=asked.endpoint,
        answering=asked.answering,
        out=out,
        limit=limit,
        quarantine=quarantine,
        seed=seed,
        every_checkpoint=checkpoints,
        counting=partial(counting, console),
    )
    print_looking(look.looking)
    console.print(gains_table(look.gains))
    left_out = f"; {look.gains.left_out} without a reply" if look.gains.left_out else ""
    console.print(f"net gain {_share(look.gains.net)}, p {_p(look.gains.p)}{left_out}\n", highlight=False)
    if account:
        console.print(account_table(account))
    who = {"model": model, **({"answerer": answerer} if answerer else {})}
    record = {**who, "data": data, "recipe": asked.recipe.name, "limit": limit, "seed": seed, **look.to_json()}
    if account:
        record["checkpoints"] = [one.to_json() for one in account]
    write_json(json_file, record)
    if out is not None:
        console.print(f"written down in {out}: `foveate report {out}` draws it", highlight=False)


def print_looking(looking: Looking) -> None:
    """Every probe, look dependence, the verdict, and what became of the questions."""
    console.print(probes_table(looking))
    if looking.dependence is not None and looking.dependence_interval is not None:
        said = _signed(looking.dependence, looking.dependence_interval)
        console.print(f"look dependence: {said}", highlight=False)
    verdict = looking.verdict
    console.print(f"[bold]{verdict.title}[/bold]: {verdict.because}", highlight=False, soft_wrap=True)
    outcomes = ", ".join(f"{count} {outcome.value}" for outcome, count in looking.outcomes.items())
    console.print(f"{sum(looking.outcomes.values())} questions: {outcomes}\n", highlight=False)


def probes_table(looking: Looking) -> Table:
    """A row per probe; those that could be made for no question say so."""
    table = Table("in the crops' place", title="right answers by what was shown (95 % intervals)", box=None)
    for column in ("right", "change", "p", "asked"):
        table.add_column(column, justify="right")
    from foveate.evaluation.probes import UNCHANGED

    for figure in looking.figures.values():
        if figure.accuracy is None or figure.change is None or figure.change_interval is None:
            table.add_row(figure.title, "-", "-", "-", "0")
            continue
        changed = (
            (_signed(figure.change, figure.change_interval), _p(figure.p)) if figure.name != UNCHANGED else ("", "")
        )
        table.add_row(figure.title, f"{figure.accuracy:.3f}", *changed, str(figure.questions))
    return table


def gains_table(gains: Gains) -> Table:
    """The square of a model: what it solves with its crops, against what it solves without."""
    table = Table("", title="the same questions, with crops and without", box=None)
    for column in ("right without", "wrong without"):
        table.add_column(column, justify="right")
    table.add_row("right with crops", str(gains.both), f"{gains.gain} (gain)")
    table.add_row("wrong with crops", f"{gains.harm} (harm)", str(gains.neither))
    return table


def account_table(account: Sequence[Progress]) -> Table:
    """A row per checkpoint; the last two columns are what it learned since the first."""
    table = Table(title="over the run (95 % intervals)", box=None)
    table.add_column("", no_wrap=True)
    for column in ("without\ncrops", "with\ncrops", "gain", "harm", "learned to see", "learned from crops"):
        table.add_column(column, justify="right")
    for number, one in enumerate(account):
        square, learned = one.gains, one.learned
        plain = (square.direct, square.zoomed, square.gained, square.harmed)
        table.add_row(
            one.name,
            *(f"{share.value:.3f}" if share else "-" for share in plain),
            *(_share(share).replace(" (", "\n(") if number else "" for share in (learned.to_see, learned.from_crops)),
        )
    return table


def _share(share: Share | None) -> str:
    return "-" if share is None else _signed(share.value, share.interval)


def _signed(value: float, interval: Interval) -> str:
    low, high = interval
    return f"{value:+.3f} ({low:+.2f} to {high:+.2f})"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
