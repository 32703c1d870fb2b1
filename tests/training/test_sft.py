"""Supervised fine-tuning: the loss is that of the answers' tokens alone, read from what inference shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models import random_vlm

from foveate.episodes import Episode
from foveate.families import load
from foveate.jsonl import read_rows
from foveate.objectives import nll_loss
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import Recipe, load_recipe
from foveate.regions import Box
from foveate.training import StepReport, Trainer
from foveate.training.checkpoints import checkpoints
from foveate.training.order import share_of
from foveate.training.packing import packed_logprobs
from foveate.training.sft import SFT, answer_alone, reference_reply

SCENES = Scenes(SceneConfig(size=448), seed=3, length=64)
SMALL = (
    "images.max_pixels=13000",
    "rollout.max_new_tokens=8",
    "sft.learning_rate=1e-3",
    "sft.questions_per_update=3",
)
CONTEXTS = {
    "crops": ("hart-full", "sft.context=crops"),
    "full image": ("hart-full", "sft.context=full_image"),
    "growing context": ("mgpo-sft", "sft.context=crops"),
}
"""What leads to the answer: located and cropped, the full image alone, MGPO's history."""


def recipe(name: str = "hart-full", *overrides: str) -> Recipe:
    return load_recipe(name, [*SMALL, "stages=sft", *overrides])


@pytest.fixture(params=CONTEXTS)
def chosen(request: pytest.FixtureRequest) -> Recipe:
    return recipe(*CONTEXTS[request.param])


def trainer_of(tmp_path: Path, chosen: Recipe, questions=SCENES, **options) -> Trainer:
    return Trainer(chosen, load(), questions, tmp_path, **options)


def stage_of(trainer: Trainer) -> SFT:
    assert isinstance(trainer.stage, SFT)
    return trainer.stage


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(run_dir / "checkpoints")[-1] / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def transformers_loss(trainer: Trainer, answer: Episode) -> torch.Tensor:
    """The loss that the model's own forward gives for labels, its own positions and attention."""
    vlm, [turn] = trainer.learner.vlm, answer.turns
    prompt, reply = vlm.family.encode(turn.context), turn.completion.token_ids
    ids = torch.tensor([[*prompt.token_ids, *reply]])
    labels = torch.full_like(ids, -100)
    labels[0, -len(reply) :] = torch.tensor(reply)
    kinds = (ids == vlm.family.image_token_id).int()
    return vlm.model(
        input_ids=ids,
        labels=labels,
        mm_token_type_ids=kinds,
        attention_mask=torch.ones_like(ids),
        use_cache=False,
        **prompt.images,
    ).loss


def test_the_loss_is_a_naive_sum_over_the_answers_tokens() -> None:
    logprobs = [torch.tensor([-0.5, -2.0]), torch.tensor([-1.0])]
    parts = [nll_loss(part, 3) for part in logprobs]
    assert float(sum(parts)) == pytest.approx(3.5 / 3)
    assert float(nll_loss(torch.cat(logprobs), 3)) == pytest.approx(3.5 / 3)


def test_one_question_gives_the_loss_of_transformers_own_labels(tmp_path: Path, chosen: Recipe) -> None:
    trainer = trainer_of(tmp_path, chosen)
    stage = stage_of(trainer)
    for question in SCENES[:3]:
        [[_, [episode]]] = stage.roll_out([question], 0)
        answer = answer_alone(episode)
        with torch.no_grad():
            expected = transformers_loss(trainer, answer)
            [logprobs] = packed_logprobs(trainer.learner.vlm, [answer])
        assert len(logprobs) == 2  # a digit and the end of the reply
        assert float(nll_loss(logprobs, len(logprobs))) == pytest.approx(float(expected), abs=1e-6)


def test_a_batch_descends_on_the_mean_over_all_its_tokens(tmp_path: Path, chosen: Recipe, monkeypatch) -> None:
    """Loss and gradient of packed rows against one forward a question, answers of different lengths among them."""
    trainer = trainer_of(tmp_path, chosen)
    monkeypatch.setattr(trainer.learner.optimizer, "zero_grad", lambda: None)
    monkeypatch.setattr(trainer.learner.optimizer, "step", lambda: None)
    questions = [replace(SCENES[0], answer="red square 7"), *SCENES[1:5]]
    groups = trainer.stage.roll_out(questions, 0)
    metrics = trainer.stage.update(groups, share_of(range(5), None, 0, 1), 0).metrics
    parameters = dict(trainer.learner.vlm.model.named_parameters())
    found = {name: value.grad.clone() for name, value in parameters.items() if value.grad is not None}
    scale = min(1.0, trainer.recipe.sft.max_grad_norm / metrics["grad_norm"])  # of clipping

    trainer.learner.vlm.model.zero_grad()
    answers = [answer_alone(episode) for group in groups for episode in group.episodes]
    lengths = [len(answer.turns[0].completion.token_ids) for answer in answers]
    assert lengths == [4, 2, 2, 2, 2]
    losses = [transformers_loss(trainer, answer) * n for answer, n in zip(answers, lengths, strict=True)]
    loss = torch.stack(losses).sum() / sum(lengths)
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    norm = torch.stack([value.grad.norm() for value in parameters.values() if value.grad is not None]).norm()
    assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    for name, value in found.items():
        torch.testing.assert_close(value, parameters[name].grad * scale, rtol=1e-3, atol=1e-5, msg=name)


def test_only_the_answers_tokens_have_a_gradient(tmp_path: Path, chosen: Recipe) -> None:
    """The logits that are descended on are those that predict the answer; the located boxes are only looked at."""
    trainer = trainer_of(tmp_path, chosen)
    stage = stage_of(trainer)
    [[_, [episode]]] = stage.roll_out(SCENES[:1], 0)
    seen: list[torch.Tensor] = []

    def keep(_module, _inputs, logits: torch.Tensor) -> None:
        logits.retain_grad()
        seen.append(logits)

    handle = trainer.learner.vlm.model.lm_head.register_forward_hook(keep)
    answer = answer_alone(episode)
    nll_loss(packed_logprobs(trainer.learner.vlm, [answer])[0], 2).backward()
    handle.remove()
    [logits] = seen
    assert answer.turns[-1] is episode.turns[-1]
    assert logits.shape[1] == 2 == int((logits.grad.abs().sum(-1) > 0).sum())


def test_answers_are_read_from_the_full_image_and_the_policys_crops(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, recipe())
    [[_, [episode]]] = trainer.stage.roll_out(SCENES[:1], 0)
    locating, answering = episode.turns
    assert locating.located
    assert locating.boxes
    full, *crops = answering.context.views
    assert full.key == locating.context.views[0].key
    assert len(crops) == len(locating.boxes)
    assert crops[0].source.intersection(locating.boxes[0]) > 0.9 * locating.boxes[0].area
    assert answering.completion == reference_reply(trainer.learner.vlm.family, SCENES[0])
    assert episode.answer == SCENES[0].answer


def test_without_a_valid_box_the_full_image_stands_alone_and_is_counted(tmp_path: Path) -> None:
    """A random model writes no boxes."""
    trainer = Trainer(recipe(), random_vlm(), SCENES[:3], tmp_path)
    [row] = trainer.run()
    assert row["without_crop"] == 3
    assert row["valid_boxes"] == 0
    groups = trainer.stage.roll_out(SCENES[:1], 0)
    assert len(groups[0].episodes[0].turns[-1].context.views) == 1


def test_the_full_image_alone_takes_no_locating_turn(tmp_path: Path) -> None:
    [[_, [episode]]] = trainer_of(tmp_path, recipe("sft")).stage.roll_out(SCENES[:1], 0)
    [turn] = episode.turns
    assert len(turn.context.views) == 1


def test_the_loss_falls_when_four_questions_are_learnt_by_heart(tmp_path: Path, chosen: Recipe) -> None:
    changes = {"epochs": 30, "questions_per_update": 4, "learning_rate": 2e-3, "schedule": "constant"}
    settings = chosen.sft.model_copy(update=changes)
    rows = trainer_of(tmp_path, chosen.model_copy(update={"sft": settings}), SCENES[:4]).run()
    assert len(rows) == 30
    assert rows[-1]["loss"] < 0.2 * rows[0]["loss"]
    assert rows[-1]["answer_probability"] > 0.8


def test_each_question_is_taken_once_an_epoch_in_updates_of_nearly_one_size(tmp_path: Path) -> None:
    reports: list[StepReport] = []
    chosen = recipe("hart-full", "sft.epochs=2", "sft.questions_per_update=3")
    trainer_of(tmp_path, chosen, SCENES[:7], observers=[reports.append]).run()
    sizes = [len(report.groups) for report in reports]
    assert (sum(sizes), max(sizes), min(sizes)) == (14, 3, 2)
    taken = [index for report in reports for index in report.indices]
    assert sorted(taken[:7]) == sorted(taken[7:]) == list(range(7))


def test_the_run_folder_is_that_of_any_stage(tmp_path: Path) -> None:
    history = trainer_of(tmp_path, recipe(), SCENES[:7]).run()
    assert read_rows(tmp_path / "metrics.jsonl") == history
    assert [row["step"] for row in history] == [0, 1, 2]
    rollouts = read_rows(tmp_path / "rollouts.jsonl")
    assert [row["answer"] for row in rollouts] == [row["expected"] for row in rollouts]
    assert {row["answered_by"] for row in rollouts} == {"reference"}
    assert load_recipe(tmp_path / "recipe.yaml") == recipe()
    assert not same(weights(tmp_path), dict(load().model.state_dict()))


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, chosen: Recipe) -> None:
    questions = SCENES[:11]
    trainer_of(tmp_path / "whole", chosen, questions).run()

    def stop_after_two(report: StepReport) -> None:
        trainer.stop_requested = report.step == 1

    trainer = trainer_of(tmp_path / "parts", chosen, questions, observers=[stop_after_two])
    assert len(trainer.run()) == 2
    assert len(trainer_of(tmp_path / "parts", chosen, questions).run(resume=True)) == 2
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert (tmp_path / "whole/rollouts.jsonl").read_text() == (tmp_path / "parts/rollouts.jsonl").read_text()


def test_true_boxes_in_the_data_do_not_matter(tmp_path: Path) -> None:
    misled = [replace(question, regions=((Box(0, 0, 1, 1),),)) for question in SCENES[:4]]
    stripped = [question.without_annotations() for question in misled]
    for name, questions in (("with", SCENES[:4]), ("without", stripped), ("wrong", misled)):
        trainer = trainer_of(tmp_path / name, recipe(), questions)
        assert not any(question.regions for question in trainer.questions)
        trainer.run()
    assert same(weights(tmp_path / "with"), weights(tmp_path / "without"))
    assert same(weights(tmp_path / "with"), weights(tmp_path / "wrong"))


def test_a_recipe_that_rewards_boxes_does_not_show_them_to_sft(tmp_path: Path) -> None:
    chosen = load_recipe("lfpc-2", [*SMALL, "stages=sft", "sft.context=full_image"])
    trainer = trainer_of(tmp_path, chosen, SCENES[:2])
    assert not any(question.regions for question in trainer.questions)


def test_the_first_batch_is_checked(tmp_path: Path, monkeypatch) -> None:
    checked = []
    monkeypatch.setattr("foveate.training.sft.self_check", lambda vlm, episodes, **_: checked.append(episodes))
    trainer_of(tmp_path, recipe("hart-full", "sft.questions_per_update=5"), SCENES[:10]).run()
    [episodes] = checked
    assert len(episodes) == 4
    assert all(len(episode.turns) == 1 for episode in episodes)
