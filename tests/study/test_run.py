"""What is left of a study, in an order that works, and nothing that is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.study.miniature import AFTER, HART, SELECTED, UNTRAINED, files, study

from foveate.laboratory.variants import Variant
from foveate.study import bases, run
from foveate.study.design import Base
from foveate.study.processes import Task
from foveate.study.run import cells_of, jobs_of, places_of, tasks_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def done(*tasks: Task) -> None:
    """Here and now instead of in a process."""
    for task in tasks:
        task.run(*task.arguments)


def test_every_task_stands_behind_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = study(HART, AFTER, SELECTED)
    [scenes] = [base.scenes for base in small.bases.values()]
    first, second = Variant(scenes, speak=1), Variant(scenes, start="first", speak=1)
    monkeypatch.setattr(bases, "VARIANTS", {"first": first, "second": second})
    methods = [replace(method, base="second") for method in small.methods]
    tasks = tasks_of(replace(small, bases={"second": Base("second", scenes, seconds=9)}, methods=methods), tmp_path)
    assert {task.name: task.after for task in tasks} == {
        "base first": (),
        "base second": ("base first",),
        "resolutions for second": ("base second",),
        "hart, seed 0": ("base second",),
        "hart, seed 1": ("base second",),
        "more, seed 0": ("base second", "hart, seed 0"),
        "more, seed 1": ("base second", "hart, seed 1"),
        "gap, seed 0": ("base second", "resolutions for second"),
        "gap, seed 1": ("base second", "resolutions for second"),
    }
    before: set[str] = set()
    for task in tasks:
        assert before.issuperset(task.after), task.name
        before.add(task.name)


def test_only_what_is_left_is_to_be_done(tmp_path: Path) -> None:
    small = study(HART, AFTER, UNTRAINED, seeds=(0,))
    first, second, third = tasks_of(small, tmp_path)
    done(first)
    assert [(task.name, task.after) for task in tasks_of(small, tmp_path)] == [
        ("more, seed 0", ()),
        ("base, seed 0", ()),
    ]
    done(second, third)
    assert tasks_of(small, tmp_path) == []


def test_what_comes_after_is_left_too_where_the_first_has_changed(tmp_path: Path) -> None:
    small = study(HART, AFTER, UNTRAINED, seeds=(0,))
    done(*tasks_of(small, tmp_path))
    changed = replace(HART, settings=(*HART.settings, "objective.k=0.3"))
    again = tasks_of(replace(small, methods=(changed, AFTER, UNTRAINED)), tmp_path)
    assert [task.name for task in again] == ["hart, seed 0", "more, seed 0"]


def test_a_cell_without_its_run_or_a_run_without_its_cell_is_left(tmp_path: Path) -> None:
    small = study(UNTRAINED, seeds=(0, 1))
    done(*tasks_of(small, tmp_path))
    first, second = jobs_of(small)
    places_of(first, tmp_path).cell_of(first).unlink()
    for path in files(places_of(second, tmp_path).run_of(second)):
        path.unlink()
    assert [task.name for task in tasks_of(small, tmp_path)] == ["base, seed 0", "base, seed 1"]


def test_the_studys_cells_are_those_of_its_present_design(tmp_path: Path) -> None:
    small = study(UNTRAINED, HART, seeds=(0,))
    done(*tasks_of(small, tmp_path))
    assert [cell.method for cell in cells_of(small, tmp_path)] == ["base", "hart"]
    changed = replace(HART, settings=(*HART.settings, "objective.k=0.3"))
    assert [cell.method for cell in cells_of(study(UNTRAINED, changed, seeds=(0,)), tmp_path)] == ["base"]
    assert [cell.method for cell in cells_of(study(HART, seeds=(0, 1)), tmp_path)] == ["hart"]


def test_resolutions_are_selected_once_and_anew_for_another_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SCENES", 6)
    small = study(SELECTED, seeds=(0,))
    selection, cell = tasks_of(small, tmp_path)
    assert (selection.kind, cell.after) == ("resolutions", (selection.name,))
    done(selection)
    assert [task.name for task in tasks_of(small, tmp_path)] == [cell.name]
    done(cell)
    assert tasks_of(small, tmp_path) == []

    monkeypatch.setattr(run, "checkpoint_of", lambda name: "/elsewhere/tiny-made-anew")
    job = jobs_of(small)[0]
    places = places_of(job, tmp_path)
    assert places.selected is not None
    assert not places.selected.is_file()
