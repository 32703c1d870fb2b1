"""The studies hold together: equal budgets, the same questions, and every name that is referred to exists."""

from __future__ import annotations

import random
from itertools import chain
from pathlib import Path

import pytest

from foveate.families import EMBEDDED, load
from foveate.images import PixelBudget
from foveate.laboratory import base, variants
from foveate.laboratory.variants import LEGIBLE, VARIANTS
from foveate.protocols import PointThenCount
from foveate.recipes import load_recipe
from foveate.study.design import Method, Study, Way
from foveate.study.figures import quotient
from foveate.study.jobs import HELD_OUT_SEED, TRAINING_SEED, Job, Places, _held_out, _questions
from foveate.study.measures import _PROBES
from foveate.study.plans import FULL, QUICK
from foveate.study.results import Cell
from foveate.study.run import SELECTION_SEED, jobs_of

OWN = PixelBudget(3136, 13_000)
every_study = pytest.mark.parametrize("study", [FULL, QUICK], ids=lambda study: study.name)


def recipe_of(method: Method):
    return load_recipe(method.recipe, method.settings) if method.recipe else None


def measured(way: str, asked: Way) -> set[str]:
    """The names of what `measures` finds for a way of asking, by a model that answers somehow."""
    counts = isinstance(load_recipe(asked.recipe, asked.settings).build_protocol(OWN), PointThenCount)
    names = {"accuracy", "points"} if counts else {"accuracy", "iog", "iou", "area", "valid", "calls"}
    if asked.probed:
        names |= {f"answer:{probe}" for probe in ("unchanged", "crop_alone", *_PROBES)}
    return {f"{way}/{name}" for name in names}


def cell_of(study: Study, name: str) -> Cell:
    """A cell of a method that is referred to, with all that would be measured of it."""
    found = [method for method in study.methods if name in (method.name, f"{method.name}@{method.base}")]
    assert len(found) == 1, f"{name} names {len(found)} methods"
    ways = found[0].ways.items()
    measures = {name: (1.0,) for way, asked in ways for name in measured(way, asked)}
    return Cell(method=found[0].name, base=found[0].base, seed=0, questions=("q",), measures=measures)


def has(study: Study, method: str, figure: str) -> bool:
    return quotient(cell_of(study, method), figure) is not None


def pairs(side: str | tuple[str, str]) -> tuple[str, ...]:
    return (side,) if isinstance(side, str) else side


# --- names ----------------------------------------------------------------------------------------------------------


@every_study
def test_every_figure_of_a_claim_or_a_sweep_is_measured_of_its_methods(study: Study) -> None:
    for claim in study.claims:
        for one in claim.comparisons:
            for method in pairs(one.a):
                assert has(study, method, one.figure), f"({claim.letter}) {one.label}: {method} has no {one.figure}"
            for method in pairs(one.b):
                figure = one.figure_b or one.figure
                assert has(study, method, figure), f"({claim.letter}) {one.label}: {method} has no {figure}"
    for sweep in study.sweeps:
        for method in chain.from_iterable(line.values() for line in sweep.lines.values()):
            assert has(study, method, sweep.figure), f"{sweep.title}: {method} has no {sweep.figure}"


@every_study
def test_every_group_names_methods_that_are_asked_in_its_way(study: Study) -> None:
    for group in study.groups:
        for method in group.methods:
            assert has(study, method, f"{group.way}/accuracy"), f"{group.title}: {method} is not asked {group.way}"
        for figure in {*group.figures, *group.dots}:
            known = [has(study, method, f"{group.way}/{figure}") for method in group.methods]
            assert any(known), f"{group.title}: nobody has {group.way}/{figure}"


@every_study
def test_names_and_titles_are_unique_and_what_is_named_exists(study: Study) -> None:
    names = [method.name for method in study.methods]
    assert len(set(names)) == len(names)
    titles = [each.title for each in (*study.groups, *study.sweeps)]
    assert len(set(titles)) == len(titles)
    letters = [claim.letter for claim in study.claims]
    assert len(set(letters)) == len(letters)
    for method in study.methods:
        assert method.base in study.bases
        assert method.base == EMBEDDED or method.base in VARIANTS
        assert study.bases[method.base].name == method.base
    for name, own in study.bases.items():
        if name != EMBEDDED:  # it is taught on what it is measured on
            assert own.scenes == VARIANTS[name].scenes
    known = {method.name: method for method in study.methods}
    for place, method in enumerate(study.methods):
        if method.after:
            assert method.after in names[:place]
            assert known[method.after].base == method.base


@every_study
def test_every_recipe_and_way_of_asking_can_be_read(study: Study) -> None:
    for method in study.methods:
        recipe = recipe_of(method)
        if recipe:
            recipe.build_protocol(OWN)
        assert method.ways
        for asked in method.ways.values():
            load_recipe(asked.recipe, asked.settings).build_protocol(OWN)


def test_the_full_study_judges_every_claim() -> None:
    assert {claim.letter[0] for claim in FULL.claims} == set("abcdefghi")
    assert len(FULL.seeds) >= 5


# --- budgets --------------------------------------------------------------------------------------------------------


@every_study
def test_every_training_by_reinforcement_has_the_same_budget(study: Study) -> None:
    """Those with two stages have it too, and supervised fine-tuning beside it; fine-tuning alone has no rollouts."""
    budgets = {}
    for method in study.methods:
        recipe = recipe_of(method)
        if recipe and "rl" in recipe.stages:
            shape, rollout = recipe.optimisation, recipe.rollout
            updates = shape.steps * shape.questions_per_step // (shape.questions_per_update or shape.questions_per_step)
            same = (shape.steps, updates, shape.questions_per_step, rollout.group_size, rollout.temperature)
            budgets[method.name] = (*same, shape.learning_rate, shape.schedule)
    assert len(set(budgets.values())) == 1, budgets


@every_study
def test_supervised_stages_have_the_same_budget(study: Study) -> None:
    recipes = [recipe for method in study.methods if (recipe := recipe_of(method)) and "sft" in recipe.stages]
    assert len({(recipe.sft, recipe.images) for recipe in recipes} if recipes else {0}) == 1


@every_study
def test_all_are_shown_pictures_of_the_embedded_models_size(study: Study) -> None:
    """Recipes of papers name budgets of a million pixels, which the small base was never taught."""
    own = load().family.budget
    for method in study.methods:
        asked = [load_recipe(way.recipe, way.settings) for way in method.ways.values()]
        for recipe in (recipe_of(method), *asked):
            if recipe:
                budgets = (recipe.images.view_budget(own), recipe.images.crop_budget(own))
                assert max(budget.max_pixels for budget in budgets) <= LEGIBLE.max_pixels, method.name


# --- questions ------------------------------------------------------------------------------------------------------


def trained_on(job: Job) -> dict[str, list[str]]:
    assert job.recipe
    parts = _questions(job, job.recipe, Places(Path(), job.base.name))
    return {stage: [part[place].id for place in _some(len(part))] for stage, part in parts.items()}


def _some(length: int) -> list[int]:
    """A few places; all questions of a scene set are alike, and planning them takes time."""
    return sorted(random.Random(0).sample(range(length), min(length, 12)))


@every_study
def test_methods_of_a_base_train_on_the_same_questions_seed_by_seed(study: Study) -> None:
    """But for those with selected resolutions, whose questions are those of the selection."""
    asked: dict[tuple[str, str, int], list[str]] = {}
    jobs = [job for job in jobs_of(study) if job.seed < 2 and job.recipe and not job.method.selected]
    for job in jobs:
        for stage, ids in trained_on(job).items():
            assert asked.setdefault((job.base.name, stage, job.seed), ids) == ids, job.name
    for (base_name, stage, seed), ids in asked.items():
        assert not set(ids) & set(asked.get((base_name, stage, 1 - seed), ())), f"{base_name}: seeds share questions"


def test_no_question_is_in_both_stages() -> None:
    for job in jobs_of(FULL):
        if job.recipe and len(job.recipe.stages) == 2:
            parts = _questions(job, job.recipe, Places(Path(), job.base.name))
            assert not {q.id for q in parts["rl"]} & {q.id for q in parts["sft"]}
            return
    pytest.fail("no method has two stages")


@every_study
def test_there_are_as_many_questions_as_the_updates_take(study: Study) -> None:
    for method in study.methods:
        recipe = recipe_of(method)
        if not recipe or method.selected:
            continue
        job = next(job for job in jobs_of(study) if job.method is method)
        for stage, part in _questions(job, recipe, Places(Path(), job.base.name)).items():
            if stage == "rl":
                assert len(part) >= recipe.optimisation.steps * recipe.optimisation.questions_per_step


@every_study
def test_all_methods_of_a_base_are_measured_on_the_same_questions(study: Study) -> None:
    held: dict[str, list[str]] = {}
    for job in jobs_of(study):
        if job.seed < 2:
            few = job._replace(held_out=3)
            ids = [question.id for question in _held_out(few)]
            assert held.setdefault(job.base.name, ids) == ids
    assert {job.held_out for job in jobs_of(study)} == {study.held_out}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> set[int]:
    """Seeds of the scenes that the bases are made with."""
    seeds = set()

    def note(seed: int, *rest: object) -> list[object]:
        seeds.add(seed)
        return []

    folder = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(base, "batches", note)
        patched.setattr(variants, "batches", note)
        base.build_base(folder)
        for variant in VARIANTS.values():
            variants.build_variant(variant, EMBEDDED, folder)
    return seeds


@every_study
def test_scenes_of_training_of_measuring_and_of_the_laboratory_are_others(study: Study, taught: set[int]) -> None:
    training = {TRAINING_SEED + seed for seed in study.seeds}
    every = [HELD_OUT_SEED, SELECTION_SEED, *training, *taught]
    assert len(taught) >= 3
    assert len(set(every)) == len(every)
