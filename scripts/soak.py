"""A long run in small: killed at random moments, it must end where an undisturbed one does, and memory must stay flat.

    python scripts/soak.py --out runs/soak

Trains the embedded model twice by the command line: once undisturbed, once ended with SIGKILL at random moments and
resumed. Ends with status 1 where the weights differ in a bit, or resident memory grew by more than 5 % between step 100
and the last.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from foveate.jsonl import read_rows
from foveate.training.checkpoints import checkpoints

SMALL = ("optimisation.questions_per_step=2", "rollout.group_size=4", "setup.keep_every=100")


def main() -> int:
    """Both runs, and what they come to; the process's status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    whole, killed = given.out / "whole", given.out / "killed"
    started = time.monotonic()
    subprocess.run(command(whole, given.steps), check=True, stdout=subprocess.DEVNULL)
    print(f"undisturbed: {given.steps} steps in {time.monotonic() - started:.0f} s", flush=True)
    moments = disturbed(killed, given.steps, given.kills, random.Random(given.seed))
    weights = [load_file(checkpoints(folder / "checkpoints")[-1] / "model.safetensors") for folder in (whole, killed)]
    same = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] | weights[1])
    rollouts = [(folder / "rollouts.jsonl").read_bytes() for folder in (whole, killed)]
    rows = read_rows(whole / "metrics.jsonl")
    early, late = (rows[min(step, len(rows)) - 1]["memory/resident_mib"] for step in (100, given.steps))
    figures = {
        "steps": given.steps,
        "killed_after_step": moments,
        "same_weights": same,
        "same_rollouts": rollouts[0] == rollouts[1],
        "tensors": len(weights[0]),
        "resident_mib": {str(step): round(rows[step - 1]["memory/resident_mib"]) for step in looked_at(given.steps)},
        "growth": round(late / early - 1, 4),
        "steps_that_moved_the_weights": sum(row.get("grad_norm", 0) > 0 for row in rows),
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(figures, indent=2))
    (given.out / "soak.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if same and figures["same_rollouts"] and late / early < 1.05 else 1


def disturbed(folder: Path, steps: int, kills: int, draw: random.Random) -> list[int]:
    """Runs to the end in spite of `kills`; returns after how many steps, as metrics.jsonl has them, each came."""
    moments: list[int] = []
    for target in sorted(draw.sample(range(1, steps - 1), kills)):
        run = subprocess.Popen(command(folder, steps, resume=bool(moments)), stdout=subprocess.DEVNULL)
        while run.poll() is None and rows_in(folder) < target:
            time.sleep(0.02)
        time.sleep(draw.random() * 0.5)  # anywhere within a step, or within a checkpoint
        if run.poll() is not None:
            raise SystemExit(f"the run ended by itself with status {run.returncode}")
        run.kill()
        run.wait()
        moments.append(rows_in(folder))
        print(f"killed after step {moments[-1]}", flush=True)
    subprocess.run(command(folder, steps, resume=bool(moments)), check=True, stdout=subprocess.DEVNULL)
    return moments


def command(folder: Path, steps: int, *, resume: bool = False) -> list[str]:
    """One run by the command line."""
    settings = [*SMALL, f"optimisation.steps={steps}"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    train = ["train", "demo", "--data", "scenes", "--out", str(folder), "--save-every", "10", *chosen]
    return [sys.executable, "-c", "from foveate.cli import app; app()", *train, *(["--resume"] if resume else [])]


def rows_in(folder: Path) -> int:
    """How many steps a run has logged."""
    metrics = folder / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def looked_at(steps: int) -> list[int]:
    """The steps after which memory is told."""
    return [step for step in (1, 50, 100, 200, 300, 400, 500) if step <= steps]


if __name__ == "__main__":
    sys.exit(main())
