"""The studies themselves, as data: `full`, of docs/evidence.md, and `quick`, to see one work in minutes."""

from __future__ import annotations

from collections.abc import Mapping

from foveate.families import EMBEDDED
from foveate.laboratory.architecture import BUDGET
from foveate.laboratory.variants import COUNTED, CROP, LEGIBLE, PARTLY, UNREADABLE, scenes
from foveate.questions.scenes import SceneConfig
from foveate.study.claims import Claim, Comparison
from foveate.study.design import Base, Method, Study, Way
from foveate.study.report import FIGURES, Group, Sweep

STEPS = 60
_BUDGET = (
    "optimisation.learning_rate=5e-4",
    "optimisation.schedule=linear",
    f"optimisation.steps={STEPS}",
    "optimisation.questions_per_step=16",
    "optimisation.questions_per_update=16",
    "rollout.group_size=8",
    "rollout.max_new_tokens=12",
)
"""The same for every training by reinforcement."""
_SFT = ("sft.learning_rate=5e-4", "sft.questions_per_update=16", "rollout.max_new_tokens=12")


def _view(pixels: int) -> tuple[str, str]:
    return f"images.max_pixels={pixels}", f"images.crop_max_pixels={CROP.max_pixels}"


_SEEN = _view(LEGIBLE.max_pixels)
_LOOP = (*_SEEN, "protocol.max_boxes=1", "rollout.max_new_tokens=12")
_KEPT = (*_LOOP, "protocol.withhold_full_image=false", "protocol.without_region=full_image")
LOOP = Way("hart", _LOOP)
"""The closed loop, which every model can be asked in."""


def _hart(
    name: str,
    about: str,
    base: str = "view",
    more: tuple[str, ...] = (),
    own: tuple[str, ...] = (),
    seconds: int = 45,
) -> Method:
    """The closed loop or a variant of it; `own` are settings that its way of being asked shares."""
    settings = (*_BUDGET, *_LOOP, "objective.beta=0.005", *own, *more)
    ways = {"own": Way("hart", (*_LOOP, *own), probed=True), "loop": LOOP}
    return Method(name, about, base, "hart", settings, ways=ways, seconds=seconds)


def _kept(name: str, about: str, pixels: int, base: str = "view") -> Method:
    own = ("protocol.withhold_full_image=false", f"images.answer_max_pixels={pixels}")
    return _hart(name, about, base, own=own, seconds=90)


_FULL = {"full": Way("hart", _KEPT, probed=True), "loop": LOOP}
"""How models are asked that have seen the full image beside their crops: HART after its stage of SFT."""

_HART = _hart("hart", "HART's closed loop, k = 0.6")
_HART = Method(_HART.name, _HART.about, "view", "hart", _HART.settings, ways={**_HART.ways, **_FULL})
_LEAKS = (
    _HART,
    _kept("kept-unreadable", "the full image kept in the answer turn, at 56 px a side", UNREADABLE.max_pixels),
    _kept("kept-partly", "the same at 84 px", PARTLY.max_pixels),
    _kept("kept-legible", "the same at 112 px", LEGIBLE.max_pixels),
)


def _preference(prior: int, k: float, which: str = "") -> Method:
    base = f"prior-{prior}{which}" if prior else "view"
    name, about = f"k{round(100 * k):02d}-prior-{prior}{which}", f"closed loop, k = {k:g}, prior {prior / 100:g}"
    return _hart(name, about, base, (f"objective.k={k:g}",))


def _difficulty(prior: int, which: str = "") -> Method:
    name, about = (
        f"difficulty-prior-{prior}{which}",
        f"closed loop, groups weighed by difficulty, prior {prior / 100:g}",
    )
    return _hart(name, about, f"prior-{prior}{which}", ("objective.k=0", "objective.difficulty=1"))


_AGAIN = (
    _hart("hart-b", "HART's closed loop, from another base", "view-b"),
    _kept("kept-legible-b", "the legible full image kept, from another base", LEGIBLE.max_pixels, "view-b"),
    *(_preference(60, k, "-b") for k in (0, 0.6)),
    _difficulty(60, "-b"),
)
"""Of a base that was taught with other scenes: whether the two leaks show there too."""


def _mgpo(name: str, about: str, recipe: str, pixels: int) -> Method:
    seen = _view(pixels)
    asked = (*seen, "rollout.max_new_tokens=12")
    ways = {"own": Way(recipe, asked, probed=recipe == "mgpo"), "loop": LOOP}
    if recipe == "mgpo":
        ways["three"] = Way(recipe, (*asked, "protocol.turns=3"))
    return Method(name, about, "view", recipe, (*_BUDGET, *seen), ways=ways)


_MGPO = _mgpo("mgpo", "MGPO's two turns", "mgpo", LEGIBLE.max_pixels)
_GRPO = _mgpo("grpo", "GRPO, coordinates and answer in one turn", "mgpo-grpo", LEGIBLE.max_pixels)
_OBJECTIVES = (
    Method("mgpo-ap", "MGPO's two turns with HART's objective", "view", "mgpo",
           (*_MGPO.settings, "objective.k=0.6", "objective.beta=0.005", "objective.scale_rewards=group"),
           ways=_MGPO.ways, seconds=70),
    _hart("hart-plain", "the closed loop with MGPO's objective",
          more=("objective.k=0", "objective.beta=0", "objective.scale_rewards=none")),
)  # fmt: skip
"""Protocol and objective apart."""
_SMALL = (
    _mgpo("mgpo-84", "MGPO on a view of 84 px", "mgpo", PARTLY.max_pixels),
    _mgpo("grpo-84", "GRPO, one turn, on a view of 84 px", "mgpo-grpo", PARTLY.max_pixels),
)


def _staged(name: str, about: str, stages: str, seconds: int) -> Method:
    settings = (*_BUDGET, *_SFT, *_LOOP, "objective.beta=0.005", "split.sft_share=0.5", f"stages={stages}")
    return Method(name, about, "view", "hart-full", settings, ways=_FULL, seconds=seconds)


_STAGED = (
    _staged("sft", "supervised fine-tuning alone, on the crops of the base", "sft", 30),
    _staged("rl-sft", "HART: reinforcement, then supervised fine-tuning", "rl,sft", 75),
    _staged("sft-rl", "the other order", "sft,rl", 75),
)
_LONGER = (
    Method("rl-long", "the closed loop, twice as long", "view", "hart", _HART.settings, after="hart", ways=_FULL),
    Method("sft-long", "fine-tuning alone, twice as long", "view", "hart-full", _STAGED[0].settings, after="sft",
           ways=_FULL, seconds=30),
)  # fmt: skip
"""As many updates as both stages together."""

_ASKED_TOOL = (*_SEEN, "rollout.max_new_tokens=12", "protocol.max_calls=2")
_ASKED_IN_GAP = (*_ASKED_TOOL, f"images.max_pixels={UNREADABLE.max_pixels}")
_TOOL = {
    "tool": Way("lfpc-1", _ASKED_TOOL, probed=True),
    "gap": Way("lfpc-1", _ASKED_IN_GAP, probed=True),
    "loop": LOOP,
}
"""With the crop tool, beside a full image that can be read, and beside one that cannot, as in stage I."""
_GAP = (
    Method("lfpc-1", "LFPC's stage I: resolutions selected", "view", "lfpc-1", (*_BUDGET, *_ASKED_TOOL),
           selected="gap", ways=_TOOL),
    Method("no-gap", "the same on the same questions, the full image legible", "view", "lfpc-1",
           (*_BUDGET, *_ASKED_TOOL), selected="no gap", ways=_TOOL),
    Method("lfpc-2", "LFPC's stage II, from stage I", "view", "lfpc-2", (*_BUDGET, *_ASKED_TOOL),
           after="lfpc-1", selected="gap", ways=_TOOL),
    Method("lfpc-1-long", "stage I, twice as long", "view", "lfpc-1", (*_BUDGET, *_ASKED_TOOL),
           after="lfpc-1", selected="gap", ways=_TOOL),
)  # fmt: skip


def _count(name: str, about: str, recipe: str) -> Method:
    asked = (f"images.max_pixels={LEGIBLE.max_pixels}", "rollout.max_new_tokens=16")
    return Method(name, about, "count", recipe, (*_BUDGET, *asked), ways={"own": Way(recipe, asked)}, seconds=20)


_COUNTS = (
    _count("counting", "a reward for the count alone", "counting"),
    _count("counting-points", "and for its points", "counting-points"),
)


def _untrained(base: str, ways: Mapping[str, Way]) -> Method:
    return Method(f"base-{base}", "before any training", base, ways=ways, seconds=15)


_BASE = _untrained("view", {"own": Way("hart", _LOOP, probed=True), **_FULL, **_TOOL, "mgpo": _MGPO.ways["own"]})
_PRIORS = {
    0: (_preference(0, 0), _HART),
    30: (_preference(30, 0), _preference(30, 0.6), _difficulty(30)),
    60: (*(_preference(60, k) for k in (0, 0.15, 0.3, 0.6, 0.9)), _difficulty(60)),
}
_SYSTEMS = ("base-view", "hart", "mgpo", "grpo", "mgpo-ap", "hart-plain", "mgpo-84", "grpo-84")
_TOOLS = ("base-view", "no-gap", "lfpc-1", "lfpc-2", "lfpc-1-long")
_SHOWN = "side of the full image in the answer turn, px (0: withheld)"
_LEAK_LINE: Mapping[float, str] = {0: "hart", 56: "kept-unreadable", 84: "kept-partly", 112: "kept-legible"}

FULL = Study(
    name="full",
    bases={
        "view": Base("view", scenes(), seconds=480),
        "prior-30": Base("prior-30", scenes(0.3), seconds=90),
        "prior-60": Base("prior-60", scenes(0.6), seconds=90),
        "view-b": Base("view-b", scenes(), seconds=480),
        "prior-60-b": Base("prior-60-b", scenes(0.6), seconds=90),
        "count": Base("count", COUNTED, seconds=240),
    },
    methods=(
        _BASE,
        *_LEAKS,
        *_PRIORS[60],
        *_PRIORS[30],
        _PRIORS[0][0],
        _MGPO,
        _GRPO,
        *_SMALL,
        *_STAGED,
        *_GAP,
        *_LONGER,
        *_OBJECTIVES,
        *_COUNTS,
        _untrained("prior-30", {"own": LOOP, "loop": LOOP}),
        _untrained("prior-60", {"own": LOOP, "loop": LOOP}),
        _untrained("count", _COUNTS[0].ways),
        *_AGAIN,
    ),
    seeds=(0, 1, 2, 3, 4),
    held_out=200,
    groups=(
        Group("View leakage", ("base-view", *(method.name for method in _LEAKS)), note=(
            "The answer turn shows the crop (HART), or the full image too, in so many pixels that its digits can be "
            "read from it or not. Everything else is the same, AP-GRPO with k = 0.6 too.")),
        Group("Prior leakage", ("base-prior-60", *(method.name for method in _PRIORS[60]))),
        Group("Less prior leakage", ("base-prior-30", *(method.name for method in _PRIORS[30]), "base-view",
              *(method.name for method in _PRIORS[0]))),
        Group("From another base", tuple(method.name for method in _AGAIN), note=(
            "Taught the same with other scenes, in another order.")),
        Group("Three systems", _SYSTEMS, note=(
            "Each as its paper has it: HART with k = 0.6, divided advantages and a KL term, MGPO and GRPO with none of "
            "these. `mgpo-ap` is MGPO with HART's objective, `hart-plain` HART with MGPO's.")),
        Group("The same models, all asked in the closed loop", _SYSTEMS, way="loop",
              figures=("accuracy", "iog30", "iou", "area", "wrong_place"), note=(
            "With a view of 112 px, whatever they were trained with. A habit that was learnt when asked in one word "
            "need not show when asked in another: GRPO was never trained on HART's.")),
        Group("MGPO asked in three turns", ("mgpo", "mgpo-ap", "mgpo-84"), way="three",
              figures=("accuracy", "iog30", "iou", "area"), note=(
            "Trained in two. Boxes are those of both locating turns, the best of which counts.")),
        Group("Reinforcement and fine-tuning", ("base-view", "hart", "sft", "rl-sft", "sft-rl", "rl-long",
              "sft-long"), way="full", note=(
            "All are asked with the full image beside their crops. Those of two stages have twice the updates of "
            "`hart` and `sft`, as in the paper, and as many as `rl-long` and `sft-long`, which go on from these.")),
        Group("The information gap", _TOOLS, way="gap", figures=(*FIGURES, "calls"), note=(
            "All are asked with the full image at 56 px, as stage I mostly shows it. Stage II goes on from stage I, so "
            "that it has twice the updates, as has `lfpc-1-long`; and on its questions, where the paper takes harder "
            "ones. Grounding and areas are those of the episodes that call the tool.")),
        Group("Without the gap", _TOOLS, way="tool", figures=(*FIGURES, "calls"), note=(
            "The same models, asked with the full image at 112 px, which can be read.")),
        Group("Counting", ("base-count", "counting", "counting-points"), figures=("accuracy", "points"),
              dots=("accuracy", "points")),
    ),
    sweeps=(
        Sweep("IoG > 0.3 over view leakage", "loop/iog30", _SHOWN, {"k = 0.6": _LEAK_LINE}),
        Sweep("Wrong place among right answers over view leakage", "own/wrong_place", _SHOWN, {"k = 0.6": _LEAK_LINE}),
        Sweep("IoG > 0.3 over k, prior 0.6", "loop/iog30", "k",
              {"AP-GRPO": {k / 100: f"k{k:02d}-prior-60" for k in (0, 15, 30, 60, 90)}}),
        Sweep("IoG > 0.3 over prior leakage", "loop/iog30", "share of digits that go with their colour", {
            "k = 0": {0: "k00-prior-0", 0.3: "k00-prior-30", 0.6: "k00-prior-60"},
            "k = 0.6": {0: "hart", 0.3: "k60-prior-30", 0.6: "k60-prior-60"},
            "difficulty": {0.3: "difficulty-prior-30", 0.6: "difficulty-prior-60"},
        }),
    ),
    claims=(
        Claim("a", "With the full image kept, answer-only reward leaves more right answers on wrong boxes than HART.", (
            Comparison("legible full image kept, less HART", "own/wrong_place", "kept-legible", "hart", 1),
            Comparison("partly legible full image kept, less HART", "own/wrong_place", "kept-partly", "hart", 1),
            Comparison("unreadable full image kept, less HART", "own/wrong_place", "kept-unreadable", "hart", 0),
        )),
        Claim("a, trained", "That is so of the models, and not only of the way in which they are asked.", (
            Comparison("legible full image kept, less HART, both asked with it", "own/wrong_place", "kept-legible",
                       "hart", 1, figure_b="full/wrong_place"),
            Comparison("legible full image kept, less HART, both asked without", "loop/iog30", "kept-legible", "hart",
                       -1),
        )),
        Claim("a, again", "And from another base.", (
            Comparison("legible full image kept, less HART", "own/wrong_place", "kept-legible-b", "hart-b", 1),
            Comparison("the same, both asked without", "loop/iog30", "kept-legible-b", "hart-b", -1),
        )),
        Claim("b", "AP-GRPO (k = 0.6) grounds better than GRPO (k = 0) in the same loop (not in the paper, whose "
              "ablation has no k = 0).", (
            Comparison("k = 0.6 less k = 0, prior 0.6", "loop/iog30", "k60-prior-60", "k00-prior-60", 1),
            Comparison("k = 0.6 less k = 0, prior 0.3", "loop/iog30", "k60-prior-30", "k00-prior-30", 1),
            Comparison("k = 0.6 less k = 0, no prior", "loop/iog30", "hart", "k00-prior-0", 1),
        )),
        Claim("b, rival", "AP-GRPO (k = 0.6) does more than weighing whole groups by difficulty.", (
            Comparison("k = 0.6 less difficulty, prior 0.6", "loop/iog30", "k60-prior-60", "difficulty-prior-60", 1),
            Comparison("k = 0.6 less difficulty, prior 0.3", "loop/iog30", "k60-prior-30", "difficulty-prior-30", 1),
        )),
        Claim("b, difficulty", "Weighing whole groups by difficulty grounds better than GRPO.", (
            Comparison("difficulty less k = 0, prior 0.6", "loop/iog30", "difficulty-prior-60", "k00-prior-60", 1),
            Comparison("difficulty less k = 0, prior 0.3", "loop/iog30", "difficulty-prior-30", "k00-prior-30", 1),
        )),
        Claim("b, again", "And from another base.", (
            Comparison("k = 0.6 less k = 0, prior 0.6", "loop/iog30", "k60-prior-60-b", "k00-prior-60-b", 1),
            Comparison("difficulty less k = 0, prior 0.6", "loop/iog30", "difficulty-prior-60-b", "k00-prior-60-b", 1),
        )),
        Claim("c", "HART > MGPO > GRPO in grounding (published: 75.4, 51.3 and 51.0 % on TreeBench).", (
            Comparison("HART less MGPO, IoG > 0.3", "own/iog30", "hart", "mgpo", 1),
            Comparison("MGPO less GRPO, IoG > 0.3", "own/iog30", "mgpo", "grpo", 1),
        )),
        Claim("c, alike", "HART > MGPO in grounding whatever the objective.", (
            Comparison("HART less MGPO, both with HART's objective", "own/iog30", "hart", "mgpo-ap", 1),
            Comparison("HART less MGPO, both with MGPO's objective", "own/iog30", "hart-plain", "mgpo", 1),
        )),
        Claim("d", "Reinforcement and fine-tuning beat each alone, and the order matters.", (
            Comparison("both less reinforcement alone", "full/accuracy", "rl-sft", "hart", 1),
            Comparison("both less fine-tuning alone", "full/accuracy", "rl-sft", "sft", 1),
            Comparison("reinforcement first less fine-tuning first", "full/accuracy", "rl-sft", "sft-rl", 1),
        )),
        Claim("d, alike", "Both beat each alone at as many updates.", (
            Comparison("both less reinforcement alone, twice as long", "full/accuracy", "rl-sft", "rl-long", 1),
            Comparison("both less fine-tuning alone, twice as long", "full/accuracy", "rl-sft", "sft-long", 1),
        )),
        Claim("e", "LFPC's stage I raises look dependence.", (
            Comparison("stage I less the base", "gap/look:wrong_card", "lfpc-1", "base-view", 1),
            Comparison("stage I less the same without a gap", "gap/look:wrong_card", "lfpc-1", "no-gap", 1),
        )),
        Claim("e, legible", "Also where the full image can be read.", (
            Comparison("stage I less the base", "tool/look:wrong_card", "lfpc-1", "base-view", 1),
            Comparison("stage I less the same without a gap", "tool/look:wrong_card", "lfpc-1", "no-gap", 1),
        )),
        Claim("f", "Stage I lets boxes grow, stage II shrinks them and raises IoU.", (
            Comparison("box area, stage I less the base", "gap/area", "lfpc-1", "base-view", 1),
            Comparison("box area, stage II less stage I", "gap/area", "lfpc-2", "lfpc-1", -1),
            Comparison("IoU, stage II less stage I", "gap/iou", "lfpc-2", "lfpc-1", 1),
        )),
        Claim("f, alike", "Stage II does so against as many more updates of stage I.", (
            Comparison("box area, stage II less stage I twice as long", "gap/area", "lfpc-2", "lfpc-1-long", -1),
            Comparison("IoU, stage II less stage I twice as long", "gap/iou", "lfpc-2", "lfpc-1-long", 1),
        )),
        Claim("g", "One more turn at inference helps MGPO (published: 76.4 to 77.2 % of 191 questions).", (
            Comparison("three turns less two", "three/accuracy", "mgpo", "mgpo", 1, figure_b="own/accuracy"),
            Comparison("the same on the view of 84 px", "three/accuracy", "mgpo-84", "mgpo-84", 1,
                       figure_b="own/accuracy"),
        )),
        Claim("h", "A smaller pixel budget widens MGPO's lead over GRPO (published: 5.2 to 8.9 points on V*; but "
              "5.4 to 3.0 on MME-RealWorld).", (
            Comparison("lead at 84 px less lead at 112", "own/accuracy", ("mgpo-84", "grpo-84"), ("mgpo", "grpo"), 1),
        )),
        Claim("i", "A reward for points adds nothing to the counting reward (published: +0.9 and -0.1 points).", (
            Comparison("with points less without", "own/accuracy", "counting-points", "counting", 0),
        )),
    ),
)  # fmt: skip
"""Of every claim in docs/evidence.md."""

_QUICK_BUDGET = ("optimisation.steps=40", "optimisation.questions_per_step=16", "optimisation.questions_per_update=16",
                 "optimisation.learning_rate=5e-4", "optimisation.schedule=linear", "rollout.group_size=8",
                 "rollout.max_new_tokens=12")  # fmt: skip
_QUICK_LOOP = ("protocol.max_boxes=1", "rollout.max_new_tokens=12")


def _quick(name: str, about: str, recipe: str, own: tuple[str, ...], more: tuple[str, ...] = ()) -> Method:
    asked = ("rollout.max_new_tokens=12", *own)
    ways = {"own": Way(recipe, asked, probed=True), "loop": Way("hart", _QUICK_LOOP)}
    return Method(name, about, EMBEDDED, recipe, (*_QUICK_BUDGET, *own, *more), ways=ways, seconds=60)


QUICK = Study(
    name="quick",
    bases={EMBEDDED: Base(EMBEDDED, SceneConfig())},
    methods=(
        _quick("hart", "HART's closed loop, k = 0.6", "hart", ("protocol.max_boxes=1",), ("objective.beta=0.005",)),
        _quick("grpo-loop", "the same with k = 0", "hart", ("protocol.max_boxes=1",),
               ("objective.beta=0.005", "objective.k=0")),
        _quick("mgpo", "MGPO's two turns, the full image kept", "mgpo", (f"images.max_pixels={BUDGET.max_pixels}",)),
    ),
    seeds=(0, 1),
    held_out=150,
    groups=(Group("Three methods from the shipped base", ("hart", "grpo-loop", "mgpo")),),
    sweeps=(),
    claims=(),
)  # fmt: skip
"""Two seeds show that it works, and too little to compare methods by."""
