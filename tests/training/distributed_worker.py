"""What a process of the distributed tests runs: the runs named in a plan, one after the other.

`python distributed_worker.py PLAN`, with RANK, WORLD_SIZE and so on as a launcher sets them. PLAN is a JSON list of
`{"out", "recipe", "settings", "questions", "resume", "stop_after", "reward"}`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from foveate.episodes import Episode
from foveate.evaluation.grounding import grounding_of
from foveate.families import load
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import load_recipe
from foveate.rewards import TERMS
from foveate.runs import GroundingObserver
from foveate.training import StepReport, Trainer
from foveate.training.processes import end

SCENES = Scenes(SceneConfig(size=448), seed=3, length=64)


def drawn(episode: Episode) -> float:
    """A reward that depends on what was sampled and on nothing else, and differs within almost every group."""
    return random.Random(str([turn.completion.token_ids for turn in episode.turns])).random()


def drawn_for_even_places(episode: Episode) -> float:
    """Only groups of every other question have an advantage: with two processes, those of the first."""
    return drawn(episode) if int(episode.question.id.rpartition("-")[2]) % 2 == 0 else 0.5


def right(episode: Episode) -> float:
    """The reward of the recipe, where the embedded model can earn it."""
    return _ACCURACY(episode)


_ACCURACY = TERMS["accuracy"]
REWARDS = {"drawn": drawn, "half": drawn_for_even_places, "right": right}


def run(
    out: str,
    recipe: str = "demo",
    settings: tuple[str, ...] = (),
    questions: int = 64,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    kill_after: int | None = None,
    save_every: int = 20,
    reward: str = "drawn",
) -> list[dict[str, float]]:
    """A run of the embedded model on scenes.

    Args:
        stop_after: the last process asks for an end after so many steps.
        kill_after: the last process dies then, as by SIGKILL.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        _deepspeed_on_a_cpu()
    own = SCENES[:questions]
    trainer = Trainer(
        load_recipe(recipe, list(settings)),
        load(),
        own,
        Path(out),
        save_every=save_every,
        observers=[GroundingObserver(own), _seen],
    )
    last = trainer.accelerator.process_index == trainer.accelerator.num_processes - 1
    update, done = trainer.stage.update, [0]

    def counted(*args: Any) -> Any:
        done[0] += 1
        if last and done[0] == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        trainer.stop_requested = last and done[0] == stop_after
        return update(*args)

    trainer.stage.update = counted  # type: ignore[method-assign]
    TERMS["accuracy"] = REWARDS[reward]  # type: ignore[index]
    passes = _count_passes(trainer)
    try:
        history = trainer.run(resume=resume)
    finally:
        TERMS["accuracy"] = _ACCURACY  # type: ignore[index]  # whoever runs next in this process may mean it
    if trainer.accelerator.is_main_process:
        Path(out, "passes.json").write_text(json.dumps(passes), encoding="utf-8")
    return history


def _count_passes(trainer: Trainer) -> dict[str, int]:
    """Counts, from now on, backward passes, and how often DDP sums gradients over the processes."""
    passes = {"backward": 0, "summed": 0}
    backward = trainer.accelerator.backward

    def counted(loss: Tensor) -> None:
        passes["backward"] += 1
        backward(loss)

    def summed(state, bucket):  # type: ignore[no-untyped-def]  # torch reads annotations, and not from strings
        passes["summed"] += bucket.is_last()
        return allreduce_hook(state, bucket)

    trainer.accelerator.backward = counted  # type: ignore[method-assign]
    if isinstance(trainer.learner.scorer, DistributedDataParallel):
        trainer.learner.scorer.register_comm_hook(None, summed)
    return passes


def _deepspeed_on_a_cpu() -> None:
    """Accelerate starts DeepSpeed on a CPU too, over gloo, and then takes each process for the only one."""
    Accelerator()
    for name, variable in (("num_processes", "WORLD_SIZE"), ("process_index", "RANK"), ("local_process_index", "RANK")):
        for shared in (PartialState._shared_state, AcceleratorState._shared_state):
            shared[name] = int(os.environ[variable])


def _seen(report: StepReport) -> Mapping[str, float]:
    """What an observer is shown of the groups, as a number."""
    assert len(report.groups) == len(report.indices)
    assert [group.question.id for group in report.groups] == [SCENES[index].id for index in report.indices]
    again = grounding_of(report.groups, {SCENES[index].id: SCENES[index] for index in report.indices})
    areas = [turn.context.views[0].size[0] for group in report.groups for e in group.episodes for turn in e.turns]
    return {"seen": len(report.groups), "widths": sum(areas) / len(areas), **again}


if __name__ == "__main__":
    for planned in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        history = run(**planned)
        if os.environ.get("RANK", "0") != "0":
            Path(planned["out"], "history-of-another.json").write_text(json.dumps(history), encoding="utf-8")
    end()
    # All is written. Now and then a thread of gloo's aborts the interpreter on its way out.
    sys.stdout.flush()
    os._exit(0)
