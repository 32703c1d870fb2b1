"""Plans: parameters of every family, figures that hang together, and settings that can be typed."""

from __future__ import annotations

import copy
import shlex
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from tests.models import KINDS, random_vlm

from foveate.bench.measure import threads
from foveate.bench.memory import CASES, QUICK, compare
from foveate.families import EMBEDDED, load
from foveate.planning.depth import shorten
from foveate.planning.ledger import Ledger
from foveate.planning.machines import GIB, machine_of
from foveate.planning.models import PlanError, Shapes, shapes_of
from foveate.planning.option import Speed
from foveate.planning.plan import make_plan
from foveate.planning.published import CONFIGS
from foveate.planning.report import as_json
from foveate.planning.simulate import simulate_rollout, simulate_update
from foveate.planning.workload import Assumed, RowShape, batch_of, in_batches, rows_of
from foveate.recipes import load_recipe

FEW = [
    "images.max_pixels=12544",
    "rollout.max_new_tokens=8",
    "rollout.group_size=2",
    "optimisation.questions_per_step=2",
]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_what_is_predicted_is_measured(case):
    with threads(1):
        row = compare(case)
    assert abs(row.ratio - 1) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_predicted_of_larger_models_is_measured(case):
    with threads(1):
        row = compare(case)
    assert abs(row.ratio - 1) < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_real_model(kind):
    vlm = random_vlm(kind=kind)
    shapes = Shapes(kind, "", vlm.family.config, vlm.family.budget)
    assert shapes.parameters == sum(parameter.numel() for parameter in vlm.model.parameters())
    assert shapes.geometry == vlm.family.geometry
    assert shapes.image_token_id == vlm.family.image_token_id


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3.75),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8.29),
        ("Qwen/Qwen2-VL-2B-Instruct", 2.21),
        ("Qwen/Qwen3-VL-8B-Instruct", 8.77),
        ("OpenGVLab/InternVL3-8B-hf", 7.94),
    ],
)
def test_published_shapes_have_the_published_number_of_parameters(name, billions):
    assert round(shapes_of(name).parameters / 1e9, 2) == billions
    assert name in CONFIGS


def test_the_embedded_model_is_known_as_it_is_loaded():
    shapes, vlm = shapes_of(EMBEDDED), load(EMBEDDED)
    assert shapes.budget == vlm.family.budget
    assert shapes.parameters == sum(parameter.numel() for parameter in vlm.model.parameters())


@pytest.mark.parametrize("written", ["8x", "0x80GB", "eight", "80", "2xH100000", ""])
def test_machines_that_are_none(written):
    with pytest.raises(PlanError, match="8x80GB"):
        machine_of(written)


def test_machines():
    assert (machine_of("8x80GB").count, machine_of("8x80GB").memory) == (8, 80 * GIB)
    assert machine_of("h100").count == 1
    assert not machine_of("2xH100").assumed
    assert not machine_of("cpu").is_gpu


def test_a_model_without_a_configuration(tmp_path):
    with pytest.raises(PlanError, match=r"config\.json"):
        shapes_of(str(tmp_path))
    with pytest.raises(PlanError, match="no folder"):
        shapes_of(str(tmp_path / "nothing"))
    with pytest.raises(PlanError, match="cannot be had"):
        shapes_of("nobody/has-this")


def test_a_ledger_counts_what_is_alive():
    ledger = Ledger()
    with ledger:
        first = torch.empty(2_000_000)
        second = first.view(1000, 2000) @ torch.empty(2000, 1500)
        del first
    assert ledger.held == 4 * 1_500_000
    assert ledger.peak == 4 * (2_000_000 + 3_000_000 + 1_500_000)
    assert ledger.flops == 2 * 1000 * 2000 * 1500
    del second
    assert ledger.held == 0


def needs(*settings: str, grid=(4, 4), reply=16, branches=4):
    shapes, recipe = shapes_of(EMBEDDED), load_recipe("grpo", ["objective.beta=0", *settings])
    row = RowShape("question", (grid,), 12, branches, reply)
    return simulate_update(shapes, recipe, in_batches([(row, 1)], shapes, 1, 16_384), gpu=True)


def test_more_tokens_never_need_less():
    least = needs()
    assert least.peak < needs(reply=64).peak
    assert least.peak < needs(branches=16).peak
    more = needs(grid=(16, 16))
    assert least.peak < more.peak
    assert needs("setup.gradient_checkpointing=true", grid=(16, 16)).passing < more.passing


DEEP = {
    "qwen2_5_vl": {"depth": 9, "fullatt_block_indexes": [3, 5, 8]},
    "qwen2_vl": {"depth": 6},
    "qwen3_vl": {"depth": 12, "deepstack_visual_indexes": [4, 7]},
    "internvl": {"num_hidden_layers": 6},
}
"""Towers in which kinds of blocks come more than once and not in turn."""


def deep(kind: str) -> Shapes:
    family = random_vlm(kind=kind, layers=7).family
    config = copy.deepcopy(family.config)
    for name, value in DEEP[kind].items():
        setattr(config.vision_config, name, value)
    return Shapes(kind, "", config, family.budget)


def figures(found: object) -> dict[str, float]:
    values = asdict(found)
    return values.pop("flops", {}) | values


WAYS = [
    ("full", 2, ()),
    ("bfloat16, checkpoints", 1, ("setup.precision=bfloat16", "setup.gradient_checkpointing=true")),
    ("shared out", 2, ("setup.precision=bfloat16", "setup.shard=full", "objective.beta=0")),
    ("LoRA", 2, ("setup.precision=bfloat16", "setup.lora.rank=2")),
    ("frozen tower", 2, ("setup.vision_tower=freeze",)),
]
EACH = [(kind, way) for way in WAYS for kind in DEEP]
QUICKLY = {(kind, "bfloat16, checkpoints") for kind in DEEP}


@pytest.mark.parametrize(
    ("kind", "batches", "settings"),
    [
        pytest.param(
            kind, batches, way, id=f"{kind}, {name}", marks=[] if (kind, name) in QUICKLY else pytest.mark.slow
        )
        for kind, (name, batches, way) in EACH
    ],
)
def test_few_blocks_have_the_figures_of_all(kind, batches, settings):
    shapes, recipe = deep(kind), load_recipe("grpo", list(settings))
    row = RowShape("question", (shapes.geometry.grid(6 * 28 * 28),), 40, 2, 24)
    kinds = in_batches([(row, batches)], shapes, 1, row.positions(shapes))
    short, whole = (simulate_update(shapes, recipe, kinds, gpu=True, every_block=every) for every in (False, True))
    assert figures(short) == pytest.approx(figures(whole), rel=2e-4)  # a norm for each tensor is a few bytes
    assert (short.weights, short.states, short.flops) == (whole.weights, whole.states, whole.flops)


@pytest.mark.parametrize("kind", DEEP)
def test_few_blocks_write_as_all_do(kind):
    shapes, recipe = deep(kind), load_recipe("grpo", ["setup.precision=bfloat16"])
    row = RowShape("question", (shapes.geometry.grid(6 * 28 * 28),), 40, 2, 24)
    short, whole = (simulate_rollout(shapes, recipe, row, 2, gpu=True, every_block=every) for every in (False, True))
    assert asdict(short) == pytest.approx(asdict(whole), rel=1e-4)


def test_only_what_is_alike_is_left_out():
    short = shorten(shapes_of("Qwen/Qwen2.5-VL-7B-Instruct"))
    assert short.shapes.text.num_hidden_layers == 5
    assert short.shapes.config.vision_config.fullatt_block_indexes == [3, 5]
    assert short.like["text"] == (0, 1, *[2] * 24, 3, 4)
    assert short.like["tower"] == (0, 1, *[2] * 5, 3, *[2] * 7, 3, *[2] * 7, 3, *[2] * 6, 4, 5)
    least = shapes_of(EMBEDDED)
    assert shorten(least).shapes.text.num_hidden_layers == least.text.num_hidden_layers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"])
def test_few_blocks_have_the_figures_of_a_large_model(name):
    shapes, recipe = shapes_of(name), load_recipe("hart", ["setup.precision=bfloat16", "images.max_pixels=401408"])
    kinds = in_batches(rows_of(recipe, shapes, Assumed(), longest=True), shapes, 1, 16_384)
    short, whole = (simulate_update(shapes, recipe, kinds, gpu=True, every_block=every) for every in (False, True))
    assert figures(short) == pytest.approx(figures(whole), rel=1e-6)


def test_states_and_gradients_are_those_of_adamw():
    update = needs()
    assert update.gradients == 4 * shapes_of(EMBEDDED).parameters
    assert abs(update.states - 2 * update.gradients) < 10_000  # and a count of steps for each weight
    assert update.weights >= update.gradients
    assert update.reference == 0


def test_rows_are_as_long_as_the_recipe_lets_them_be():
    shapes, recipe = shapes_of(EMBEDDED), load_recipe("mgpo", ["rollout.max_new_tokens=32", "images.max_pixels=12544"])
    [(row, count)] = rows_of(recipe, shapes, Assumed(prompt_tokens=10), longest=True)
    assert (count, row.branches, row.prompt(shapes)) == (1, 8, 10 + 16)
    assert row.branch(shapes) == 32 + 5 + 16 + 32
    [kind] = in_batches([(row, 1)], shapes, 1, 16_384)
    batch = batch_of(kind, shapes)
    assert batch.input_ids_BT.shape == (1, row.positions(shapes))
    assert int(batch.keep_BK.sum()) == row.sampled
    assert int((batch.input_ids_BT == shapes.image_token_id).sum()) == shapes.geometry.features_in(batch.images)


@pytest.mark.parametrize("kind", ["qwen3_vl_moe", "internvl-qwen3_moe"])
def test_models_with_experts_are_refused(kind, tmp_path):
    random_vlm(kind=kind).model.config.save_pretrained(tmp_path)
    with pytest.raises(PlanError, match="experts"):
        shapes_of(str(tmp_path))


@pytest.fixture(scope="module")
def plan():
    recipe = load_recipe("grpo", FEW)
    return make_plan(shapes_of(EMBEDDED), recipe, machine_of("2x24GB"), assumed=Assumed(), speed=Speed())


def test_what_fits_is_below_the_capacity(plan):
    assert plan.best is plan.options[0]
    for option in plan.options:
        assert option.fits == (option.needed <= option.capacity < plan.machine.memory)
        assert all(phase.peak <= option.needed for phase in option.phases)


def test_sharding_divides(plan):
    def lasting(shard):
        [option] = [
            o
            for o in plan.options
            if o.full and o.recipe.setup.shard == shard and not o.recipe.setup.gradient_checkpointing
        ]
        return option.phases[2].parts

    whole, part = lasting("none"), lasting("full")
    assert all(part[name] == whole[name] // 2 for name in ("weights", "reference", "optimizer", "gradients"))


def test_the_settings_that_are_advised_can_be_typed(plan):
    command = shlex.split(as_json(plan, "grpo", " ".join(f"--set {one}" for one in FEW))["command"])
    assert command[:6] == ["torchrun", "--nproc-per-node", "2", "-m", "foveate", "train"]
    settings = [word for before, word in pairwise(command) if before == "--set"]
    assert load_recipe("grpo", settings) == plan.best.recipe


def with_engine(*settings: str, machine: str = "1x24GB"):
    recipe = load_recipe("grpo", [*FEW, "objective.beta=0", "setup.lora.rank=2", *settings])
    return make_plan(shapes_of(EMBEDDED), recipe, machine_of(machine), assumed=Assumed(), speed=Speed())


def test_vllm_beside_the_training_has_its_share():
    own, awake = with_engine(), with_engine("setup.engine.name=vllm", "setup.engine.sleep=false")
    share = int(0.3 * 24 * GIB)
    assert [phase.engine for phase in awake.best.phases] == [share] * 3
    assert [phase.engine for phase in own.best.phases] == [0] * 3
    assert awake.best.needed > share > own.best.needed
    for phase in awake.best.phases[::2]:
        assert phase.peak == sum(phase.parts.values())
    slept = with_engine("setup.engine.name=vllm")
    assert [phase.engine for phase in slept.best.phases] == [share, 0, 0]
    assert as_json(slept, "grpo")["vllm"]["set"] == 0.3
    with pytest.raises(PlanError, match="vllm_server"):
        with_engine("setup.engine.name=vllm", machine="2x24GB")


def test_a_cpu_has_room_for_the_embedded_model():
    plan = with_engine(machine="cpu")
    assert plan.best
    assert not any("precision" in flag or "shard" in flag or "quantize" in flag for flag in plan.best.flags)
    assert as_json(plan, "grpo")["vllm"] is None
    assert as_json(plan, "grpo")["model"]["name"] == "tiny"


def test_what_has_no_room_is_not_looked_at():
    recipe = load_recipe("grpo", ["setup.precision=bfloat16"])
    shapes = shapes_of("Qwen/Qwen2.5-VL-72B-Instruct")
    plan = make_plan(shapes, recipe, machine_of("1x16GB"), assumed=Assumed(), speed=Speed())
    assert plan.best is None
    assert all(option.hopeless and option.needed > option.capacity for option in plan.options)
    written = as_json(plan, "grpo")
    assert written["nearest"] is None
    assert written["options"][0]["seconds"] is None
