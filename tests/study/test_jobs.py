"""A job trains once, measures once, and does neither again unless its design has changed."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.study.miniature import AFTER, BUDGET, HART, HELD_OUT, LOOP, UNTRAINED, files, job

from foveate.evaluation.probes import ReplacedCrop
from foveate.families import EMBEDDED, load
from foveate.images import crop_view, open_image
from foveate.laboratory import variants
from foveate.questions.scenes import SceneConfig, Scenes, layout
from foveate.regions import Box
from foveate.runs import load_policy
from foveate.study import jobs
from foveate.study.design import Way
from foveate.study.jobs import Job, Places, is_done, run_job
from foveate.study.measures import measures, wrong_card
from foveate.study.results import read_cell
from foveate.training.checkpoints import CheckpointError, checkpoints, load_checkpoint, steps_done


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, EMBEDDED)


def weights(folder: Path) -> dict[Path, int]:
    """When each was written, in nanoseconds."""
    return {path: time for path, time in files(folder).items() if path.suffix == ".safetensors"}


def test_a_job_leaves_a_cell_and_done_twice_does_nothing_the_second_time(places: Places) -> None:
    hart = job(HART)
    assert not is_done(hart, places)
    run_job(hart, places)
    assert is_done(hart, places)
    cell = read_cell(places.cell_of(hart))
    assert (cell.name, cell.seed, len(cell.questions)) == ("hart@tiny", 0, HELD_OUT)
    assert {"own/accuracy", "own/iog", "own/valid", "own/answer:wrong_card"} <= cell.measures.keys()
    assert (cell.training["steps"], cell.training["updates"]) == (1, 1)
    assert cell.training["rollouts"] == 4
    before = files(places.study)
    run_job(hart, places)
    assert files(places.study) == before


def test_a_changed_design_is_another_job_and_other_words_for_it_are_not() -> None:
    hart = job(HART)
    assert hart.digest == job(HART).digest
    for changed in (
        replace(HART, settings=(*BUDGET, "objective.k=0.3")),
        replace(HART, ways={"own": replace(LOOP, probed=False)}),
        replace(HART, ways={"loop": LOOP}),
        replace(HART, recipe="mgpo", settings=BUDGET[:5]),
    ):
        assert job(changed).digest != hart.digest
    for other in (
        hart._replace(seed=1),
        hart._replace(held_out=7),
        hart._replace(base=replace(hart.base, scenes=SceneConfig(prior=0.1))),
        job(AFTER),
    ):
        assert other.digest != hart.digest
    assert job(replace(HART, about="in other words", seconds=99)).digest == hart.digest


def test_what_comes_after_a_changed_design_has_changed_too() -> None:
    after = job(AFTER)
    assert after.start is not None
    changed = after.start._replace(base=replace(after.base, scenes=SceneConfig(prior=0.1)))
    assert after._replace(start=changed).training != after.training
    assert after._replace(start=after.start._replace(held_out=7)).digest == after.digest  # measured otherwise, no more


def test_a_base_made_otherwise_makes_another_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> str:
        return Job(HART, replace(job(HART).base, name="view"), 0, HELD_OUT).digest

    before = digest()
    monkeypatch.setattr("foveate.study.bases.VARIANTS", {"view": replace(variants.VARIANTS["view"], speak=1)})
    assert digest() != before


def test_a_changed_design_trains_anew_in_place_of_the_old(places: Places) -> None:
    run_job(job(HART), places)
    note = places.run_of(job(HART)) / "note.txt"
    note.write_text("of the old run")
    other = job(replace(HART, settings=(*BUDGET, "optimisation.steps=2")))
    assert not is_done(other, places)
    run_job(other, places)
    assert is_done(other, places)
    assert not is_done(job(HART), places)
    assert not note.exists()
    assert read_cell(places.cell_of(other)).training["updates"] == 2


def test_a_finished_job_keeps_its_weights_and_little_else(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever makes its cell anew, because the file was spoilt, does not train again."""
    hart = job(HART)
    run_job(hart, places)
    folder = places.run_of(hart)
    [kept] = checkpoints(folder / "checkpoints")
    weights = (kept / "model.safetensors").stat().st_size
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1.1 * weights
    model = load_policy(str(folder)).model
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(CheckpointError, match="thrown away"):
        load_checkpoint(kept, model, optimizer)

    cell = read_cell(places.cell_of(hart))
    places.cell_of(hart).unlink()
    monkeypatch.setattr(jobs, "Trainer", None)
    run_job(hart, places)
    assert read_cell(places.cell_of(hart)) == cell


def test_another_way_of_asking_measures_again_and_does_not_train(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(job(HART), places)
    other = job(replace(HART, ways={"own": LOOP, "again": LOOP}))
    assert other.training == job(HART).training
    assert not is_done(other, places)
    monkeypatch.setattr(jobs, "Trainer", None)
    run_job(other, places)
    assert is_done(other, places)
    assert "again/accuracy" in read_cell(places.cell_of(other)).measures


def test_a_job_killed_before_it_was_measured_is_not_trained_again(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    hart = job(HART)
    with monkeypatch.context() as context:
        context.setattr(jobs, "measures", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_job(hart, places)
    assert not is_done(hart, places)
    trained = weights(places.run_of(hart))
    assert steps_done(places.run_of(hart) / "checkpoints") == 1

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(jobs, "Trainer", refuse)
    run_job(hart, places)
    assert is_done(hart, places)
    assert weights(places.run_of(hart)) == trained


def test_a_base_is_measured_as_it_is(places: Places) -> None:
    untrained = job(UNTRAINED)
    run_job(untrained, places)
    cell = read_cell(places.cell_of(untrained))
    assert cell.training["updates"] == 0
    questions = Scenes(untrained.base.scenes, seed=jobs.HELD_OUT_SEED, length=HELD_OUT)
    again = measures(load(), {"own": replace(LOOP, probed=False)}, questions, 0)
    for figure, values in again.items():
        assert cell.measures[figure] == pytest.approx(tuple(values), abs=1e-4, nan_ok=True), figure


def test_what_comes_after_starts_from_what_the_other_seed_of_its_own_left(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = job(AFTER, seed=1)
    assert after.start is not None
    run_job(after.start, places)
    loaded = []
    monkeypatch.setattr(jobs, "load_policy", lambda model: loaded.append(model) or load())
    run_job(after, places)
    assert loaded[0] == str(places.study / "runs" / "hart" / "seed-1")


@pytest.mark.parametrize("index", range(8))
def test_a_wrong_card_is_another_card_of_the_same_scene(index: int) -> None:
    config = SceneConfig(size=512)
    question = Scenes(config, seed=3, length=8)[index]
    image = open_image(question.image)
    crop = crop_view(image, Box(0, 0, 60, 60), load().family.budget, 28)
    plan, [asked] = layout(config, 3, index), question.regions
    for seed in range(12):
        shown = wrong_card(ReplacedCrop(question, image, crop, 28, random.Random(seed))).source
        assert [card for card in plan.cards if card.box != asked[-1] and shown.contains(card.box)]
        assert shown.intersection(asked[0]) == 0


def test_counting_has_points_and_no_box() -> None:
    config = SceneConfig(size=512, kind="count", cards=(3, 4))
    found = measures(load(), {"own": Way("counting", ("rollout.max_new_tokens=8",))}, Scenes(config, length=2), 0)
    assert {"own/accuracy", "own/points"} <= found.keys()
    assert not {"own/iog", "own/area"} & found.keys()
