"""Two processes over gloo do what one does: the same losses, figures, rows and weights; and runs move between them.

Each process is started as a launcher starts it, and goes through several runs: starting is what takes long.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import distributed_worker as worker

from foveate.jsonl import read_rows
from foveate.runs import load_policy
from foveate.training.checkpoints import steps_done

FEW = ("rollout.group_size=4", "optimisation.steps=2", "optimisation.questions_per_step=5")
SLOWLY = ("optimisation.learning_rate=5e-5",)
"""Adam divides by the gradient's size: where that is next to nothing, so are two sums in different orders."""
PATIENCE = 600
"""Seconds after which processes are taken to wait for one another for ever."""
OF_THE_MACHINE = ("seconds", "memory")
FSDP2 = ("setup.shard=full",)

RUNS: Mapping[str, Mapping[str, Any]] = {
    "hart": {"settings": [*FEW, *SLOWLY]},
    "several updates, by tokens": {
        "settings": [
            *FEW,
            *SLOWLY,
            "optimisation.questions_per_step=6",
            "optimisation.questions_per_update=3",
            "optimisation.tokens_per_batch=300",
            "objective.loss_type=dapo",
            "objective.beta=0",
        ]
    },
    "half of the groups flat": {"settings": [*FEW, *SLOWLY, "objective.beta=0"], "reward": "half"},
    "fewer questions than processes": {"settings": [*FEW, *SLOWLY, "optimisation.questions_per_step=1"]},
    "a question comes again": {"settings": [*FEW, *SLOWLY], "questions": 3},
    "sft": {
        "recipe": "hart-full",
        "settings": [
            "stages=sft",
            "images.max_pixels=13000",
            "rollout.max_new_tokens=8",
            "sft.learning_rate=5e-5",
            "sft.warmup_steps=0",
            "sft.questions_per_update=5",
        ],
        "questions": 9,  # 5 and 4
    },
}

LORA: Mapping[str, Any] = {
    "settings": [*FEW, "setup.lora.rank=4", "optimisation.learning_rate=1e-3", "optimisation.tokens_per_batch=300"]
}
"""By DDP alone: the policy without its adapters is the reference, and features of the tower are kept."""


def launch(plan: Sequence[Mapping[str, Any]], folder: Path, processes: int = 2) -> list[int]:
    """Runs a plan on so many processes; their exit codes."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.json"
    file.write_text(json.dumps(plan), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(processes):
        own = {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        log = (folder / f"process-{rank}.log").open("w")
        command = [sys.executable, "-m", "tests.training.distributed_worker", str(file)]
        started.append(subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log))
    try:
        return [process.wait(timeout=PATIENCE) for process in started]
    finally:
        for process in started:
            process.kill()


def said(folder: Path) -> str:
    return "\n".join(log.read_text()[-3000:] for log in sorted(folder.glob("*.log")))


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_policy(str(run_dir)).model.state_dict()


def distance(first: Path, second: Path) -> float:
    """The largest difference between weights."""
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def same_figures(first: Path, second: Path) -> None:
    ours, theirs = (read_rows(folder / "metrics.jsonl") for folder in (first, second))
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in (name for name in a if not name.startswith(OF_THE_MACHINE)):
            # After some updates the norm of a gradient has seen the differences of all weights.
            # The largest of all rounding errors is of those of one batch, which are others than another's.
            least = 2e-5 if name == "sampler_difference_max" else 1e-6
            assert b[name] == pytest.approx(a[name], abs=least, rel=5e-6 if name == "grad_norm" else 1e-6), name


HOW: Mapping[str, Sequence[str]] = {"ddp": (), "fsdp2": FSDP2}
START = load_policy("tiny").model.state_dict()


def planned(name: str, how: str) -> dict[str, Any]:
    return {**RUNS[name], "settings": [*RUNS[name]["settings"], *HOW[how]]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every one of `RUNS` on one process, and on two by DDP and by FSDP2.

    The first also in two parts: on two processes, then on one, and the other way round.
    """
    folder = tmp_path_factory.mktemp("runs")
    plan = [planned(name, how) | {"out": str(folder / how / name)} for how in HOW for name in RUNS]
    plan.append({**LORA, "out": str(folder / "ddp" / "LoRA")})
    worker.run(str(folder / "one to fsdp2"), **RUNS["hart"], stop_after=1)
    worker.run(str(folder / "one to ddp"), **RUNS["hart"], stop_after=1)
    for how in HOW:
        plan.append(planned("hart", how) | {"out": str(folder / f"one to {how}"), "resume": True})
        plan.append(planned("hart", how) | {"out": str(folder / f"{how} to one"), "stop_after": 1})
        plan.append(planned("hart", how) | {"out": str(folder / f"{how} to {how}"), "stop_after": 1})
        plan.append(planned("hart", how) | {"out": str(folder / f"{how} to {how}"), "resume": True})
    assert launch(plan, folder) == [0, 0], said(folder)
    for name in RUNS:
        worker.run(str(folder / "one" / name), **RUNS[name])
    worker.run(str(folder / "one" / "LoRA"), **LORA)
    return folder


@pytest.mark.parametrize(("name", "how"), [*product(RUNS, HOW), ("LoRA", "ddp")])
def test_two_processes_do_what_one_does(runs: Path, name: str, how: str) -> None:
    one, two = runs / "one" / name, runs / how / name
    same_figures(one, two)
    assert (one / "rollouts.jsonl").read_text() == (two / "rollouts.jsonl").read_text()
    assert distance(one, two) < 1e-6
    moved = max(float((a - START[key]).abs().max()) for key, a in weights(one).items())
    assert moved > 5e-5  # so that what is allowed is little of it
    assert read_rows(one / "metrics.jsonl")[-1]["grad_norm"] > 0


def test_the_cases_are_what_they_are_called(runs: Path) -> None:
    def rows(name: str) -> list[dict[str, Any]]:
        return read_rows(runs / "ddp" / name / "metrics.jsonl")

    assert all(0 < row["groups_skipped"] < 5 for row in rows("half of the groups flat"))
    asked = [row["question"] for row in read_rows(runs / "one/a question comes again/rollouts.jsonl")]
    assert max(map(asked.count, asked)) > 8  # more than two groups in two steps
    assert [row["seen"] for row in rows("sft")] == [4, 5]


def test_gradients_are_summed_over_processes_once_an_update(runs: Path) -> None:
    passes = json.loads((runs / "ddp/several updates, by tokens/passes.json").read_text())
    assert passes["backward"] > passes["summed"] == 4


def test_every_process_knows_the_figures_of_all(runs: Path) -> None:
    """But for what observers added, whom only the main process calls."""
    for own, other in zip(
        read_rows(runs / "ddp/hart/metrics.jsonl"),
        json.loads((runs / "ddp/hart/history-of-another.json").read_text()),
        strict=True,
    ):
        for name in other.keys() - {key for key in other if key.startswith(OF_THE_MACHINE)}:
            assert other[name] == own[name], name
        assert "seen" in own.keys() - other.keys()


@pytest.mark.parametrize("how", HOW)
def test_a_run_goes_on_with_another_number_of_processes(runs: Path, how: str) -> None:
    """A process that is not the main one asked for the end, and all ended."""
    whole, fewer, more = runs / "one" / "hart", runs / f"{how} to one", runs / f"one to {how}"
    assert steps_done(fewer / "checkpoints") == 1
    worker.run(str(fewer), **RUNS["hart"], resume=True)
    for folder in (fewer, more):
        same_figures(whole, folder)
        assert (whole / "rollouts.jsonl").read_text() == (folder / "rollouts.jsonl").read_text()
        assert distance(whole, folder) < 1e-6


@pytest.mark.parametrize("how", HOW)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(runs: Path, how: str) -> None:
    assert distance(runs / how / "hart", runs / f"{how} to {how}") == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_a_process_is_killed_and_the_run_goes_on(tmp_path: Path, how: str) -> None:
    """The others end; restarted, the run ends where the undisturbed one does."""
    six = {"settings": [*FEW, *SLOWLY, "optimisation.steps=6", *HOW[how]], "save_every": 2}
    killed = six | {"out": str(tmp_path / "killed")}
    first, second = launch([killed | {"kill_after": 4}], tmp_path / "first")
    assert second == -signal.SIGKILL
    assert first not in (0, -signal.SIGKILL), "it ended by itself, and not well"
    assert steps_done(tmp_path / "killed" / "checkpoints") == 2
    rest = [killed | {"resume": True}, six | {"out": str(tmp_path / "whole")}]
    assert launch(rest, tmp_path / "second") == [0, 0], said(tmp_path / "second")
    assert [row["step"] for row in read_rows(tmp_path / "killed/metrics.jsonl")] == list(range(6))
    assert distance(tmp_path / "whole", tmp_path / "killed") == 0
    same_figures(tmp_path / "whole", tmp_path / "killed")
