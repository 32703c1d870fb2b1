"""A model probed from question to verdict: what is asked, what is kept, and that the embedded model is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evaluation.policies import Policy, ask, from_crops, from_full_view
from tests.scripted import ScriptedGenerator, completion

from foveate.context import Context
from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.gains import gains
from foveate.evaluation.looking import Finding, looking
from foveate.evaluation.marking import Marker
from foveate.evaluation.probes import CROP_ALONE, EVERY, QUESTION_ONLY, UNCHANGED
from foveate.evaluation.probing import ModelLook, answers_of, directly, probe_model
from foveate.evaluation.runner import EvaluationError, evaluate
from foveate.families import load
from foveate.generators import LocalGenerator, Sampling
from foveate.images import PixelBudget
from foveate.protocols import Completion, Direct, FinishReason, GroundThenAnswer, LocateThenAnswer, ZoomTool
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import load_recipe

HART = LocateThenAnswer()
MANY = tuple(ask(f"q{number}") for number in range(5))


def test_both_ways_are_asked_of_every_question() -> None:
    told: list[int] = []
    found = probe_model(MANY, HART, ScriptedGenerator(Policy(from_crops)), at_once=2, on_progress=told.append)
    assert found.zoomed == (1,) * 5
    assert found.direct == (0,) * 5  # without a crop it sees nothing
    assert (found.gains.gain, found.gains.questions) == (5, 5)
    assert [one.id for one in found.probed] == [question.id for question in MANY]
    assert sum(told) == 2 * len(MANY)


def test_the_parts_can_be_had_apart() -> None:
    generator = ScriptedGenerator(Policy(from_full_view))
    whole = probe_model(MANY, HART, generator, seed=4)
    direct = answers_of(MANY, evaluate(MANY, directly(HART), generator, seed=4))
    assert whole.gains == gains(direct, whole.zoomed, seed=4)
    assert whole.looking == looking(whole.probed, seed=4)
    written = whole.to_json()
    assert written["gain_harm"] == whole.gains.to_json()
    assert written["look_dependence"]["verdict"]["finding"] == whole.looking.verdict.finding


def test_no_episode_sees_a_true_region() -> None:
    seen = []

    class Spy(LocateThenAnswer):
        def next(self, subject, turns):
            seen.append(subject.question.regions)
            return super().next(subject, turns)

    probed_at_most = ScriptedGenerator(Policy(from_crops))
    probe_model(MANY, Spy(), probed_at_most)
    assert set(seen) == {()}


def test_questions_without_a_reply_are_in_none_of_the_four() -> None:
    policy = Policy(from_crops)
    direct: list[Context] = []

    def script(context: Context, seed: int) -> str | Completion:
        locating = "Do not answer yet" in str(context.messages[-1].parts[-1])
        if context.views and not locating and not any(view.cropped for view in context.views):
            direct.append(context)
        failed = context in direct and len(direct) <= 2
        return completion("503", FinishReason.FAILED) if failed else policy(context, seed)

    found = probe_model(MANY, HART, ScriptedGenerator(script))
    assert found.direct == (None, None, 0, 0, 0)
    assert (found.gains.gain, found.gains.questions, found.gains.left_out) == (3, 3, 2)
    assert found.looking.figures[UNCHANGED].accuracy == 1


def test_a_question_of_which_a_probe_got_no_reply_is_asked_again(tmp_path: Path) -> None:
    policy = Policy(from_crops)

    def script(context: Context, seed: int) -> str | Completion:
        return policy(context, seed) if context.views else completion("503", FinishReason.FAILED)

    folder = EvaluationFolder(tmp_path, {})
    with pytest.raises(EvaluationError, match="of 5 question\\(s\\) every one failed; the first: 503"):
        evaluate(MANY, HART, ScriptedGenerator(script), probes=EVERY, folder=folder)
    again = evaluate(MANY, HART, ScriptedGenerator(policy), probes=EVERY, folder=EvaluationFolder(tmp_path, {}))
    assert [scored.probed.right[QUESTION_ONLY] for scored in again.scored] == [0] * 5  # type: ignore[union-attr]


@pytest.mark.parametrize(("tolerance", "right"), [(0.0, 0), (0.1, 1)])
def test_probes_are_marked_as_the_answers_are(tolerance: float, right: int) -> None:
    asked = [ask("number", answer="100")]
    found = evaluate(
        asked,
        HART,
        ScriptedGenerator(
            lambda context, seed: "[112, 56, 168, 112]" if "Do not answer yet" in str(context.messages) else "95"
        ),
        probes=EVERY,
        marker=Marker(tolerance),
    )
    assert found.scored[0].attempts[0].right == right
    assert set(found.scored[0].probed.right.values()) <= {right, None}  # type: ignore[union-attr]


@pytest.mark.parametrize("protocol", [LocateThenAnswer, GroundThenAnswer, ZoomTool, Direct])
def test_directly_is_about_the_same_small_view(protocol: type) -> None:
    budget = PixelBudget(784, 7840)
    assert directly(protocol(view_budget=budget)) == Direct(view_budget=budget)
    assert directly(protocol()) == Direct()


def embedded(count: int, recipe: str = "demo", *, at_once: int = 64) -> ModelLook:
    """The shipped model, which has not learned where to look, by a recipe."""
    vlm, chosen = load("tiny"), load_recipe(recipe)
    scenes = Scenes(SceneConfig(size=448), seed=11, length=count)
    protocol = chosen.build_protocol(vlm.family.budget)
    tokens = chosen.rollout.max_new_tokens
    return probe_model(scenes, protocol, LocalGenerator(vlm), max_new_tokens=tokens, at_once=at_once)


def test_the_embedded_model_through_every_probe() -> None:
    found = embedded(4)
    assert found.probed == embedded(4, at_once=3).probed
    last = found.probed[-1]
    assert {name for name, value in last.right.items() if value is None} == {CROP_ALONE}
    vlm, recipe = load("tiny"), load_recipe("demo")
    scenes = Scenes(SceneConfig(size=448), seed=11, length=4)
    sampling = Sampling(0.0, recipe.rollout.max_new_tokens)
    greedy = evaluate(scenes, recipe.build_protocol(vlm.family.budget), LocalGenerator(vlm), sampling=sampling)
    assert [one.right[UNCHANGED] for one in found.probed] == [scored.attempts[0].right for scored in greedy.scored]


@pytest.mark.slow
def test_the_embedded_model_looks_in_the_wrong_place_before_it_is_trained() -> None:
    found = embedded(80)
    assert found.looking.verdict.finding is Finding.WRONG_PLACE
    assert found.looking.figures["true_crop"].change_interval[0] > 0.2
    assert found.looking.figures["small_view"].change_interval[1] < 0.1
