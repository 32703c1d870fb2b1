"""What is measured of a trained model: figures of every held-out question, in every way of asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from PIL import Image

from foveate.episodes import Episode
from foveate.evaluation.grounding import best_iog
from foveate.evaluation.probes import probe
from foveate.evaluation.replacements import REPLACEMENTS, ReplacedCrop, Replacement
from foveate.evaluation.runner import evaluate
from foveate.evaluation.scoring import Attempt
from foveate.families import VLM
from foveate.generators import LocalGenerator, Sampling
from foveate.images import ImageSource, View, open_image
from foveate.protocols import Protocol
from foveate.questions.scenes import SceneImage, layout
from foveate.questions.schema import Question
from foveate.recipes import load_recipe
from foveate.regions import Box
from foveate.rewards import TERMS
from foveate.study.design import Way

recipe_of = lru_cache(maxsize=256)(load_recipe)
"""`load_recipe`, which a study calls with the same arguments many times."""


class _Drawn:
    """A scene's picture, drawn once."""

    def __init__(self, scene: ImageSource) -> None:
        assert isinstance(scene, SceneImage)
        self.scene, self._picture = scene, open_image(scene)

    def __call__(self) -> Image.Image:
        return self._picture


def drawn(scenes: Sequence[Question]) -> list[Question]:
    """The questions with their pictures in memory, which several ways of asking share."""
    return [replace(question, image=_Drawn(question.image)) for question in scenes]


def wrong_card(replaced: ReplacedCrop) -> View:
    """The crop of another card of the same scene: a good crop, of the wrong place."""
    image = replaced.question.image
    scene = image.scene if isinstance(image, _Drawn) else image
    assert isinstance(scene, SceneImage)
    plan = layout(scene.config, scene.seed, scene.index)
    asked = {region[-1] for region in replaced.question.regions}
    return replaced.cut(replaced.rng.choice([card.box for card in plan.cards if card.box not in asked]))


_PROBES: Mapping[str, Replacement] = {**REPLACEMENTS, "wrong_card": wrong_card}


def measures(
    vlm: VLM, ways: Mapping[str, Way], questions: Sequence[Question], seed: int
) -> dict[str, list[float | None]]:
    """What a model does on each question, by way of asking: `WAY/FIGURE`, sampled as in training.

    Figures are accuracy, iog and iou (best over boxes; 0 without a valid one, None where none was asked or called for),
    area (share of the image), valid, calls (boxes of an episode) and points (see `rewards`); under `answer:PROBE`
    whether the answer turn is right when it is asked again, greedily, with that in the crop's place. A figure that no
    question has is left out.

    Args:
        vlm: the model; not changed.
        ways: by name.
        questions: as `Scenes` gives them, their pictures drawn or not, with true regions.
        seed: of what is sampled.
    """
    generator = LocalGenerator(vlm)
    found: dict[str, list[float | None]] = {}
    asked: dict[str, dict[str, list[float | None]]] = {}  # the same protocol is not asked twice: probed ways come first
    for name, way in sorted(ways.items(), key=lambda item: not item[1].probed):
        recipe = recipe_of(way.recipe, way.settings)
        protocol, rollout = recipe.build_protocol(vlm.family.budget), recipe.rollout
        key = f"{protocol} {rollout}"
        if key not in asked:
            sampling = Sampling(rollout.temperature, rollout.max_new_tokens)
            asked[key] = _measured(generator, protocol, questions, sampling, seed, probed=way.probed)
        own = {figure: values for figure, values in asked[key].items() if way.probed or ":" not in figure}
        found |= {f"{name}/{figure}": values for figure, values in own.items()}
    return found


def _measured(
    generator: LocalGenerator,
    protocol: Protocol,
    questions: Sequence[Question],
    sampling: Sampling,
    seed: int,
    *,
    probed: bool,
) -> dict[str, list[float | None]]:
    keep = None if probed or any(question.points is not None for question in questions) else 0
    asked = evaluate(questions, protocol, generator, sampling=sampling, seed=seed, keep=keep)
    figures = _figures(questions, [scored.attempts[0] for scored in asked.scored])
    pointed = [_points_at(group.question, group.episodes[0]) for group in asked.groups]
    if any(value is not None for value in pointed):
        figures["points"] = pointed
    if probed:
        again = probe(asked.groups, protocol, generator, _PROBES, max_new_tokens=sampling.max_new_tokens)
        figures |= {f"answer:{replaced}": values for replaced, values in again.items()}
    return figures


def _figures(questions: Sequence[Question], attempts: Sequence[Attempt]) -> dict[str, list[float | None]]:
    figures: dict[str, list[float | None]] = {
        "accuracy": [float(attempt.right) for attempt in attempts],
        "iog": [
            None
            if attempt.grounding.iog30 is None
            else best_iog([Box(*box) for box in attempt.boxes], question.regions)
            for question, attempt in zip(questions, attempts, strict=True)
        ],
        "iou": [attempt.grounding.mean_iou for attempt in attempts],
        "area": [attempt.grounding.box_area for attempt in attempts],
        "valid": [attempt.figure("valid_boxes") for attempt in attempts],
        "calls": [float(len(attempt.boxes)) for attempt in attempts],
    }
    return {name: values for name, values in figures.items() if any(value is not None for value in values)}


def _points_at(question: Question, episode: Episode) -> float | None:
    """How well its points match the true ones, 0 to 1, as the reward term says; None where these are not known."""
    return TERMS["points"](replace(episode, question=question)) if question.points is not None else None
