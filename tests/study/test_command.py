"""What a person is told before, during and after a study."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.study.miniature import AFTER, BUDGET, HART, UNTRAINED, files, study
from typer.testing import CliRunner

from foveate.cli import app
from foveate.study import command
from foveate.study.command import cost, narrowed, run_study
from foveate.study.plans import QUICK
from foveate.study.processes import Standing, Task
from foveate.study.progress import StudyDisplay, picture
from foveate.study.results import StudyError
from foveate.study.run import tasks_of

SMALL = study(HART, UNTRAINED)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)


def said(by: Console) -> str:
    assert isinstance(by.file, io.StringIO)
    return by.file.getvalue()


def run(folder: Path, small=SMALL, to: Console | None = None, *, dry_run: bool = False) -> Path | None:
    return run_study(small, folder, command="foveate study", workers=2, dry_run=dry_run, console=to or console())


# --- choosing -------------------------------------------------------------------------------------------------------


def test_a_study_is_narrowed_to_methods_with_all_that_they_start_from() -> None:
    third = replace(AFTER, name="most", after="more")
    whole = study(UNTRAINED, HART, AFTER, third)
    assert [method.name for method in narrowed(whole, ["most"], 3).methods] == ["hart", "more", "most"]
    assert list(narrowed(whole, [], 3).seeds) == [0, 1, 2]
    assert narrowed(whole, [], None) == replace(whole, methods=list(whole.methods))


def test_an_unknown_method_is_named_beside_the_known_ones() -> None:
    with pytest.raises(StudyError, match="no method harp in this study; there are: hart, base"):
        narrowed(SMALL, ["hart", "harp"], None)


# --- before ---------------------------------------------------------------------------------------------------------


def test_the_cost_counts_what_is_left(tmp_path: Path) -> None:
    shown = console()
    tasks = tasks_of(SMALL, tmp_path)
    shown.print(cost(SMALL, tasks[1:], 2))
    assert "2 x 2 = 4 cells" in said(shown)
    assert "3 cells" in said(shown)
    base = Task("base view", "base", (), 3600, print, ())
    shown.print(cost(SMALL, [base, *tasks], 2))
    assert "4 cells, 1 base to build first" in said(shown)
    assert "1.0 CPU hours; 30 minutes with 2 at a time" in said(shown)


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    shown = console()
    assert run(tmp_path / "study", to=shown, dry_run=True) is None
    assert "4 cells" in said(shown)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("options", [["--quick"], []])
def test_the_commands_dry_run_says_cells_and_cost(tmp_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(app, ["study", *options, "--dry-run", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    if options:
        assert f"= {len(QUICK.methods) * len(QUICK.seeds)} cells" in result.output
    assert "CPU hours" in result.output
    assert not (tmp_path / "out").exists()


def test_the_command_names_a_method_that_there_is_not(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "--quick", "--only", "hart, nothing", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no method nothing in this study" in result.output


# --- the run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are done in this process, one after another."""

    def run_here(tasks: list[Task], workers: int, observe: StudyDisplay) -> None:
        for number, task in enumerate(tasks, start=1):
            task.run(*task.arguments)
            observe(Standing(tasks[number:], {}, dict.fromkeys(tasks[:number], 1.0), workers))

    monkeypatch.setattr(command, "run_tasks", run_here)


@pytest.mark.usefixtures("at_once")
def test_a_study_runs_reports_and_has_nothing_left(tmp_path: Path) -> None:
    shown = console()
    path = run(tmp_path, to=shown)
    assert path == tmp_path / "report.md"
    report = path.read_text()
    assert "Made by `foveate study`" in report
    assert "4 cells, seeds 0, 1, 6 held-out questions each" in report
    plots = sorted((tmp_path / "plots").glob("*.svg"))
    assert plots
    assert all(f"plots/{plot.name}" in report for plot in plots)
    assert "4/4" in said(shown)

    cells = files(tmp_path / "cells")
    (tmp_path / "cells" / "gone-seed-0.json").write_text("of a method that has left the study")
    again = console()
    assert run(tmp_path, to=again) == path
    assert "0 cells" in said(again)
    assert "ran" not in said(again)
    assert {each: time for each, time in files(tmp_path / "cells").items() if each in cells} == cells
    assert path.read_text() == report


def test_a_failing_cell_is_named_the_others_are_kept_and_the_next_run_makes_the_rest(tmp_path: Path) -> None:
    """In processes, as the command runs it."""
    bad = replace(HART, settings=(*BUDGET, "objective.k=5"))
    with pytest.raises(StudyError, match=r"(?s)hart, seed 0: .*objective\.k.*run the study again"):
        run(tmp_path, study(UNTRAINED, bad, seeds=(0,)))
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["base-seed-0.json"]
    before = files(tmp_path / "cells")

    assert run(tmp_path, study(UNTRAINED, HART, seeds=(0,)))
    after = files(tmp_path / "cells")
    assert len(after) == 2
    assert before.items() <= after.items()


def test_two_runs_of_a_study_do_not_spoil_each_other(tmp_path: Path) -> None:
    with command._alone_in(tmp_path), pytest.raises(StudyError, match=r"is running in .*--out"):
        run(tmp_path)
    with command._alone_in(tmp_path):  # which is free again
        pass


def test_an_interrupt_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_tasks", interrupted)
    shown = console()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, to=shown)
    assert "what is finished is kept: run it again to go on" in said(shown)


# --- during ---------------------------------------------------------------------------------------------------------


def task(name: str) -> Task:
    return Task(name, "cell", (), 100, print, ())


def test_the_display_says_what_is_running_and_how_long_it_will_take() -> None:
    a, b, c = task("hart, seed 0"), task("hart, seed 1"), task("mgpo, seed 0")
    shown = console()
    shown.print(picture(Standing([c], {b: 30.0}, {a: 100.0}, 1), 130.0))
    text = said(shown)
    assert "1/3 done" in text
    assert "about 3 min left" in text  # 70 s of b and 100 s of c
    assert "hart, seed 1" in text
    assert "30 s of about 2 min" in text
    assert "hart, seed 0" not in text


def test_a_log_gets_a_line_for_each_task_that_ends() -> None:
    a, b, shown = task("a"), task("b"), console()
    with StudyDisplay(shown) as display:
        display(Standing([b], {a: 0.0}, {}, 1))
        display(Standing([], {b: 0.0}, {a: 100.0}, 1))
        display(Standing([], {b: 1.0}, {a: 100.0}, 1))
        display(Standing([], {}, {a: 100.0, b: 100.0}, 1))
    lines = said(shown).splitlines()
    assert [line.split()[2:4] for line in lines] == [["1/2", "a"], ["2/2", "b"]]
    assert "2 min left" in lines[0]
    assert "nothing left" in lines[1]


def test_a_terminal_gets_a_live_picture() -> None:
    shown = console(terminal=True)
    with StudyDisplay(shown) as display:
        display(Standing([], {task("hart, seed 0"): 5.0}, {}, 1))
    assert "hart, seed 0" in said(shown)
