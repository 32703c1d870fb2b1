"""The training loop: what it may see, what it runs, and that a resumed run is the uninterrupted one."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from foveate.episodes import Episode, run_episodes
from foveate.families import load
from foveate.jsonl import read_rows
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import Recipe, dump_recipe, load_recipe, recipe_names
from foveate.regions import Box
from foveate.rewards import TERMS
from foveate.training import StepReport, Trainer, TrainingError
from foveate.training import update as update_module
from foveate.training.checkpoints import CheckpointError, checkpoints, resumable
from foveate.training.loop import refuse_other_recipe
from foveate.training.update import Scored

SCENES = Scenes(SceneConfig(size=448), seed=3, length=64)
COUNTED = Scenes(SceneConfig(size=448, kind="count"), seed=3, length=64)
SMALL = ("optimisation.questions_per_step=3", "rollout.group_size=4", "optimisation.steps=4")

FOR_THE_EMBEDDED_MODEL = (
    "images.max_pixels=13000",
    "rollout.max_new_tokens=8",
    "optimisation.learning_rate=5e-4",
    "optimisation.questions_per_update=3",
)
FULL_IMAGE = ("protocol.withhold_full_image=false", "protocol.without_region=full_image")


def recipe(*overrides: str) -> Recipe:
    return load_recipe("demo", [*SMALL, *overrides])


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(run_dir / "checkpoints")[-1] / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def train(run_dir: Path, questions=SCENES, chosen: Recipe | None = None, **options) -> list[dict[str, float]]:
    return Trainer(chosen or recipe(), load(), questions, run_dir, **options).run()


def test_training_without_boxes_in_the_data_is_the_same_trajectory(tmp_path: Path) -> None:
    stripped = [question.without_annotations() for question in SCENES]
    misled = [replace(question, regions=((Box(0, 0, 1, 1),),)) for question in SCENES]
    for name, questions in (("with", SCENES), ("without", stripped), ("wrong", misled)):
        train(tmp_path / name, questions)
    assert same(weights(tmp_path / "with"), weights(tmp_path / "without"))
    assert same(weights(tmp_path / "with"), weights(tmp_path / "wrong"))
    rollouts = [(tmp_path / name / "rollouts.jsonl").read_text() for name in ("with", "without", "wrong")]
    assert rollouts[0] == rollouts[1] == rollouts[2]


def test_no_true_box_is_in_reach_of_protocol_rewards_or_update(tmp_path: Path, monkeypatch) -> None:
    seen = []
    trainer = Trainer(recipe("optimisation.steps=1"), load(), SCENES, tmp_path)
    assert any(question.regions for question in SCENES)
    asked, scored = type(trainer.stage.protocol).next, trainer.stage.updater.update

    def next_turn(self, subject, turns):
        seen.append(subject.question)
        return asked(self, subject, turns)

    def update(updates, step):
        groups = [one for update in updates for part in update for one in part]
        seen.extend(episode.question for one in groups for episode in one.group.episodes)
        return scored(updates, step)

    monkeypatch.setattr(type(trainer.stage.protocol), "next", next_turn)
    monkeypatch.setattr(trainer.stage.updater, "update", update)
    trainer.run()
    assert len(seen) > 20
    assert not any(question.regions for question in seen)
    assert not any(question.regions for question in trainer.questions)


def test_training_moves_the_weights_and_writes_the_run(tmp_path: Path) -> None:
    reports: list[StepReport] = []

    def observer(report: StepReport) -> dict[str, float]:
        reports.append(report)
        return {"seen": float(len(report.groups))}

    history = train(tmp_path, observers=[observer])
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows == history
    assert [row["step"] for row in rows] == [0, 1, 2, 3] == [report.step for report in reports]
    assert all(row["seen"] == 3 for row in rows)
    assert all(row["sampler_difference"] < 1e-4 for row in rows)
    rollouts = read_rows(tmp_path / "rollouts.jsonl")
    assert len(rollouts) == 4 * 3 * 4
    assert {"question", "turns", "reward", "rewards", "stop", "answer"} <= rollouts[0].keys()
    again = load(checkpoints(tmp_path / "checkpoints")[-1])  # model, tokenizer and processor are all there
    assert again.family.budget == load().family.budget
    assert not same(dict(again.model.state_dict()), dict(load().model.state_dict()))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe()


def test_one_process_with_its_weights_to_share_out_trains_as_without(tmp_path: Path) -> None:
    """A run of many processes is resumed on one by the same arguments."""
    said: list[str] = []
    few = ("optimisation.steps=1", *FOR_THE_EMBEDDED_MODEL)
    train(tmp_path / "full", chosen=recipe(*few, "setup.shard=full"), warn=said.append)
    train(tmp_path / "none", chosen=recipe(*few))
    assert any("setup.shard" in line for line in said)
    assert same(weights(tmp_path / "full"), weights(tmp_path / "none"))


def test_each_question_comes_once_an_epoch_and_none_is_dropped_from_a_short_batch(tmp_path: Path) -> None:
    questions = SCENES[:7]
    trainer = Trainer(recipe(), load(), questions, tmp_path)
    drawn = [index for step in range(7) for index in trainer.order.of(step)]
    assert len(drawn) == 21
    for epoch in range(3):
        assert sorted(drawn[epoch * 7 : epoch * 7 + 7]) == list(range(7))


@pytest.mark.parametrize(("beta", "forwards"), [(0.0, 0), (0.01, 2)])
def test_groups_of_equal_rewards_are_run_for_the_kl_term_only(tmp_path: Path, monkeypatch, beta, forwards) -> None:
    calls = []
    real = update_module.batch_logprobs
    monkeypatch.setattr(update_module, "batch_logprobs", lambda *a, **k: calls.append(1) or real(*a, **k))
    chosen = load_recipe("grpo", [*SMALL, f"objective.beta={beta}", "rollout.max_new_tokens=4"])
    trainer = Trainer(chosen, load(), SCENES, tmp_path)
    groups = run_episodes(
        SCENES[:2], trainer.stage.protocol, trainer.stage.sampler.generator, n=4, sampling=trainer.stage.sampling
    )
    flat = [Scored(group, ({"accuracy": 1.0},) * 4, (1.0,) * 4) for group in groups]
    before = {name: value.clone() for name, value in trainer.learner.vlm.model.state_dict().items()}
    metrics = trainer.stage.updater.update([(flat, flat)], step=0)
    assert len(calls) == forwards  # policy and reference, in one packed batch
    assert metrics["groups_equal"] == 2
    assert metrics["groups_skipped"] == (0 if beta else 2)
    if not beta:
        assert same(before, dict(trainer.learner.vlm.model.state_dict()))

    mixed = [Scored(groups[0], ({"accuracy": 0.0},) * 4, (1.0, 0.0, 0.0, 0.0)), flat[1]]
    calls.clear()
    assert trainer.stage.updater.update([(mixed, mixed)], step=1)["groups_equal"] == 1
    assert len(calls) == (2 if beta else 1)


def test_several_updates_per_batch_use_the_sampling_policys_logprobs(tmp_path: Path) -> None:
    chosen = recipe(
        "optimisation.questions_per_update=1",
        "optimisation.learning_rate=0.01",
        "objective.clip_low=0.01",
        "objective.clip_high=0.01",
    )
    rows = train(tmp_path, chosen=chosen)
    assert max(row["clip_fraction"] for row in rows) > 0  # the second update starts away from the sampling policy


def test_the_gradient_does_not_depend_on_how_rows_are_batched(tmp_path: Path, monkeypatch) -> None:
    gradients = []
    for tokens in (64, 100_000):
        trainer = Trainer(recipe(f"optimisation.tokens_per_batch={tokens}"), load(), SCENES, tmp_path / str(tokens))
        groups = run_episodes(
            SCENES[:3], trainer.stage.protocol, trainer.stage.sampler.generator, n=4, sampling=trainer.stage.sampling
        )
        scored = [Scored(group, ({},) * 4, (1.0, 0.0, 0.0, 1.0)) for group in groups]
        monkeypatch.setattr(trainer.learner.optimizer, "zero_grad", lambda: None)
        trainer.stage.updater.update([(scored, scored)], step=0)
        gradients.append({name: value.grad for name, value in trainer.learner.vlm.model.named_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_recipe_that_rewards_boxes_sees_them_and_refuses_data_without(tmp_path: Path) -> None:
    chosen = load_recipe("lfpc-2", [*SMALL, *FOR_THE_EMBEDDED_MODEL, "optimisation.steps=1"])
    [row] = train(tmp_path / "with", chosen=chosen)
    assert {"conditional_iou", "l1", "tool", "format"} <= row.keys()
    with pytest.raises(TrainingError, match=r"question 'scene-.*' has no true box, which the recipe 'lfpc-2' rewards"):
        train(tmp_path / "without", [question.without_annotations() for question in SCENES], chosen)
    first_stage = load_recipe("lfpc-1", [*SMALL, *FOR_THE_EMBEDDED_MODEL, "optimisation.steps=1"])
    train(tmp_path / "stage-1", [question.without_annotations() for question in SCENES], first_stage)
    weightless = chosen.with_settings(["rewards.conditional_iou=0", "rewards.l1=0"])
    [row] = train(tmp_path / "weightless", [question.without_annotations() for question in SCENES], weightless)
    assert not {"conditional_iou", "l1"} & row.keys()


def test_true_points_are_seen_by_the_recipe_that_rewards_them_and_by_no_other(tmp_path: Path) -> None:
    settings = [*SMALL, *FOR_THE_EMBEDDED_MODEL, "optimisation.steps=1"]
    plain, rewarded = (load_recipe(name, settings) for name in ("counting", "counting-points"))
    for chosen, seen in ((plain, False), (rewarded, True)):
        trainer = Trainer(chosen, load(), COUNTED, tmp_path / f"{seen}")
        assert all((question.points is not None) == seen and not question.regions for question in trainer.questions)
    [row] = train(tmp_path / "with", COUNTED, rewarded)
    assert {"accuracy", "points"} <= row.keys()
    unknown = [question.without_annotations() for question in COUNTED]
    with pytest.raises(
        TrainingError, match=r"'scene-.*' has no true points, which the recipe 'counting-points' rewards"
    ):
        train(tmp_path / "without", unknown, rewarded)
    train(tmp_path / "plain", COUNTED, plain)
    train(tmp_path / "plain-without", unknown, plain)
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "plain-without"))


def test_a_question_with_nothing_to_count_can_be_trained_on(tmp_path: Path) -> None:
    chosen = load_recipe("counting-points", [*SMALL, *FOR_THE_EMBEDDED_MODEL, "optimisation.steps=1"])
    train(tmp_path, [replace(question, points=(), answer="0") for question in COUNTED[:4]], chosen)


RESUMED = {name: (name,) for name in recipe_names() if load_recipe(name).stages == ["rl"]}
"""Recipes with their settings; those with a stage `sft` are resumed in tests/runs/test_starting.py."""
RESUMED |= {"mgpo, three turns": ("mgpo", "protocol.turns=3"), "hart, full image kept": ("hart", *FULL_IMAGE)}
RESUMED |= {"mgpo, general form": ("mgpo", "protocol.name=multi_turn_free")}


def ids_of(episode: Episode) -> list[tuple[int, ...]]:
    return [turn.completion.token_ids for turn in episode.turns]


@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    # Of some tasks the embedded model has learnt nothing: with the recipe's own reward it would not move at all.
    monkeypatch.setitem(TERMS, "accuracy", lambda episode: random.Random(str(ids_of(episode))).random())
    name, *own = RESUMED[case]
    chosen = load_recipe(name, [*SMALL, *FOR_THE_EMBEDDED_MODEL, *own])
    questions = COUNTED if "counting" in name else SCENES
    whole = train(tmp_path / "whole", questions, chosen)
    assert all(row["grad_norm"] > 0 for row in whole)

    def stop_after_two(report: StepReport) -> None:
        trainer.stop_requested = report.step == 1

    trainer = Trainer(chosen, load(), questions, tmp_path / "parts", observers=[stop_after_two])
    assert len(trainer.run()) == 2
    resumed = Trainer(chosen, load(), questions, tmp_path / "parts").run(resume=True)
    assert [row["step"] for row in resumed] == [2, 3]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert (tmp_path / "whole/rollouts.jsonl").read_text() == (tmp_path / "parts/rollouts.jsonl").read_text()


def test_killed_in_mid_run_it_resumes_onto_the_same_trajectory(tmp_path: Path) -> None:
    settings = [*SMALL, "optimisation.steps=6"]
    script = (
        "import sys; from pathlib import Path; from foveate.runs import start; from foveate.recipes import load_recipe;"
        f"start(load_recipe('demo', {settings!r}), 'tiny', 'scenes', Path(sys.argv[1]), seed=0, resume='r' in sys.argv,"
        " save_every=2)"
    )
    run = [sys.executable, "-c", script]
    subprocess.run([*run, str(tmp_path / "whole")], check=True)
    killed = subprocess.Popen([*run, str(tmp_path / "killed")])
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while killed.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < 3):
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert metrics.read_text().count("\n") < 6, "it finished before it could be killed"
    subprocess.run([*run, str(tmp_path / "killed"), "r"], check=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert [row["step"] for row in read_rows(metrics)] == list(range(6))


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path, chosen=recipe("optimisation.steps=1"))
    with pytest.raises(TrainingError, match="--resume"):
        train(tmp_path, chosen=recipe("optimisation.steps=1"))
    with pytest.raises(TrainingError, match=r"differs from the recipe given in \S+: a run"):
        Trainer(recipe("objective.k=0.1", "optimisation.steps=1"), load(), SCENES, tmp_path).run(resume=True)


def test_a_spoilt_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path)
    newest = checkpoints(tmp_path / "checkpoints")[-1]
    (newest / "model.safetensors").write_bytes(b"spoilt")
    with pytest.raises(CheckpointError, match=newest.name):
        Trainer(recipe(), load(), SCENES, tmp_path).run(resume=True)


def test_half_written_checkpoints_are_not_taken_for_whole_ones(tmp_path: Path) -> None:
    train(tmp_path, save_every=1)
    folder = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints(folder)] == ["step-000003", "step-000004"]
    (folder / ".writing-step-000009").mkdir()
    (folder / "step-000008").mkdir()
    assert checkpoints(folder)[-1].name == "step-000004"


def test_what_is_kept_for_good_is_saved_whenever_it_is_due_and_is_not_resumed(tmp_path: Path) -> None:
    settings = ("setup.keep_every=2", "setup.keep_checkpoints=1", "optimisation.steps=3", "rollout.max_new_tokens=4")
    train(tmp_path, chosen=recipe(*settings), save_every=20)
    folder = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints(folder)] == ["step-000002", "step-000003"]
    assert [path.name for path in resumable(folder)] == ["step-000003"]
    shutil.rmtree(folder / "step-000003")
    with pytest.raises(CheckpointError, match=r"step-000002 cannot be resumed: its optimizer was thrown away"):
        Trainer(recipe(*settings), load(), SCENES, tmp_path).run(resume=True)


def test_no_questions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no questions"):
        Trainer(recipe(), load(), [], tmp_path)


def test_metrics_are_plain_json(tmp_path: Path) -> None:
    train(tmp_path, chosen=recipe("optimisation.steps=1"))
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert all(isinstance(value, int | float) for value in json.loads(line).values())


def test_a_run_resumes_though_what_its_recipe_says_of_its_settings_has_changed(tmp_path: Path) -> None:
    """Another wording of a reason, in a newer version, does not cost a run its checkpoints."""
    own = recipe()
    (tmp_path / "recipe.yaml").write_text(dump_recipe(own))
    reworded = own.model_copy(update={"title": "the same", "assumptions": {"objective.k": "another reason"}})
    refuse_other_recipe(tmp_path, reworded)
    with pytest.raises(TrainingError, match=r"in objective\.k, rollout\.group_size: a run"):
        refuse_other_recipe(tmp_path, recipe("objective.k=0.1", "rollout.group_size=5"))
