"""The newcomer's first run: what it writes, and, as a slow test, that the model learns to look."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from foveate.demo import run_demo
from foveate.evaluation import FIGURES


def test_it_writes_a_summary_and_a_report(tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, width=80)
    summary = run_demo(tmp_path, overrides=["optimisation.steps=2"], held_out=5, console=console)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["seed"] == 0
    assert summary["train_seconds"] > 0
    for when in ("before", "after"):
        for decoding in ("sampled", "greedy"):
            assert set(FIGURES) <= summary[when][decoding].keys()
    report = (tmp_path / "report.html").read_text()
    assert "Which digit is on the card coloured" in report
    assert "before, and after" in said.getvalue() or "before and after" in said.getvalue()
    assert "report.html" in said.getvalue().replace("\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_model_learns_to_look(tmp_path: Path, seed: int) -> None:
    """On 300 held-out scenes; 0.25 is what is wanted of one run, 0.15 of the worst of three."""
    summary = run_demo(tmp_path, seed=seed, console=Console(quiet=True))
    before, after = summary["before"]["sampled"], summary["after"]["sampled"]
    least = 0.25 if seed == 0 else 0.15
    for figure in ("accuracy", "iog30"):
        assert after[figure] - before[figure] >= least, figure
    assert after["valid_boxes"] >= 0.95
    assert after["box_area"] <= 0.1, "larger boxes would be a way to cheat"
