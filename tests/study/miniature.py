"""A study that takes seconds: the shipped base, two methods of one step, six questions."""

from __future__ import annotations

from pathlib import Path

from foveate.families import EMBEDDED
from foveate.questions.scenes import SceneConfig
from foveate.study.claims import Claim, Comparison
from foveate.study.design import Base, Method, Study, Way
from foveate.study.report import Group
from foveate.study.run import jobs_of

HELD_OUT = 6
BUDGET = (
    "optimisation.steps=1",
    "optimisation.questions_per_step=2",
    "optimisation.questions_per_update=2",
    "rollout.group_size=2",
    "rollout.max_new_tokens=12",
    "protocol.max_boxes=1",
)
LOOP = Way("hart", ("protocol.max_boxes=1", "rollout.max_new_tokens=12"), probed=True)
HART = Method("hart", "the loop", EMBEDDED, "hart", BUDGET, ways={"own": LOOP}, seconds=5)
AFTER = Method("more", "from hart", EMBEDDED, "hart", BUDGET, after="hart", ways={"own": LOOP}, seconds=5)
UNTRAINED = Method("base", "untrained", EMBEDDED, ways={"own": LOOP}, seconds=5)
SELECTED = Method(
    "gap", "selected", EMBEDDED, "lfpc-1", BUDGET[:5], selected="gap", ways={"own": LOOP}, seconds=5
)  # fmt: skip


def study(*methods: Method, seeds: tuple[int, ...] = (0, 1)) -> Study:
    names = tuple(method.name for method in methods)
    claims = (Claim("a", "One is better.", (Comparison("accuracy", "own/accuracy", names[0], names[-1], 1),)),)
    bases = {EMBEDDED: Base(EMBEDDED, SceneConfig(size=512))}
    return Study("tiny", bases, methods, seeds, HELD_OUT, (Group("All", names),), claims=claims)


def job(method: Method, seed: int = 0):
    methods = (HART, AFTER) if method.after else (method,)
    [found] = [one for one in jobs_of(study(*methods)) if one.method is method and one.seed == seed]
    return found


def files(folder: Path) -> dict[Path, int]:
    """When each file was written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
