"""A long run in small: 500 steps, killed ten times, to the same bits; memory stays flat."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "soak.py"


@pytest.mark.slow
def test_500_steps_killed_ten_times_end_as_undisturbed_ones_and_take_no_more_memory(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(tmp_path / "soak")], check=True)
    figures = json.loads((tmp_path / "soak" / "soak.json").read_text())
    assert figures["same_weights"]
    assert figures["same_rollouts"]
    assert len(figures["killed_after_step"]) == 10
    assert figures["steps_that_moved_the_weights"] > 400
    assert abs(figures["growth"]) < 0.05
