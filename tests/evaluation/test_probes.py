"""The probes tell a model that uses its crop from one that looks elsewhere and from one that does not look."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from tests.scripted import ScriptedGenerator, Traits, picture, question

from foveate.context import Context
from foveate.episodes import Group
from foveate.evaluation import CROP_ALONE, UNCHANGED, evaluate, probe
from foveate.evaluation.probes import ReplacedCrop, noise, probe_figures, random_crop, true_crop
from foveate.images import View, crop_view
from foveate.protocols import (
    Direct,
    GroundThenAnswer,
    GroundUntilAnswered,
    LocateThenAnswer,
    Protocol,
    StopReason,
    ZoomTool,
)
from foveate.questions.schema import Question
from foveate.regions import Box

SIZE = (1120, 840)
CARD, OTHER, EMPTY = Box(280, 140, 420, 280), Box(840, 560, 980, 700), Box(700, 140, 840, 280)
COLOURS = {"red": (200, 30, 40), "green": (30, 160, 60)}


def drawn() -> Image.Image:
    """A red card and a green one, on blue."""
    image = Image.new("RGB", SIZE, (20, 40, 210))
    for box, colour in ((CARD, "red"), (OTHER, "green")):
        ImageDraw.Draw(image).rectangle((box.x1, box.y1, box.x2 - 1, box.y2 - 1), fill=COLOURS[colour])
    return image


def ask(name: str = "q", **changes: object) -> Question:
    told = {"text": "What colour is the upper card?", "answer": "red", "choices": None, "image": drawn}
    return question(name, **{**told, "regions": ((CARD,),), **changes})


def both(name: str = "q", **changes: object) -> Question:
    """A question that takes two crops."""
    told = {"text": "Which colours are there?", "answer": "red and green", "regions": ((CARD,), (OTHER,))}
    return ask(name, **{**told, **changes})


def colours_in(*views: View) -> str:
    """Those of which there is more than noise has."""
    seen = []
    for view in views:
        pixels_HW3 = np.asarray(view.image).astype(int)
        seen += [n for n, rgb in COLOURS.items() if (abs(pixels_HW3 - rgb).max(-1) < 12).mean() > 0.01]
    return " and ".join(seen) or "nothing"


def from_crops(context: Context) -> str:
    return colours_in(*(view for view in context.views if view.cropped))


def from_full_view(context: Context) -> str:
    return colours_in(*[view for view in context.views if not view.cropped][:1]).split(" and ")[0]


def from_question(context: Context) -> str:
    return "red"


def from_last_view(context: Context) -> str:
    return colours_in(context.views[-1]).split(" and ")[0]


@dataclass
class Policy:
    """Points at boxes of the original, one a turn where it is asked for one a turn; then answers in its own way."""

    answers: Callable[[Context], str]
    boxes: Sequence[Box] = (CARD,)
    calls_until_it_sees: bool = False

    def __call__(self, context: Context, seed: int) -> str:
        tool = "tool `crop`" in str(context.messages[0].parts[0])
        view, text = context.views[0 if tool else -1], str(context.messages[-1].parts[-1])
        corners = [[round(c) for c in view.from_original(box).corners] for box in self.boxes]
        turn = sum(message.role == "assistant" for message in context.messages)
        if tool:
            lost = self.calls_until_it_sees and self.answers(context) == "nothing"
            if turn < len(corners) or lost:
                arguments = {"bbox_2d": corners[min(turn, len(corners) - 1)]}
                return f'<tool_call>{{"name": "crop", "arguments": {arguments}}}</tool_call>'.replace("'", '"')
        elif (
            "Do not answer yet" in text
            or "Give the coordinates" in text
            or ("cannot answer yet" in text and turn < len(corners))
        ):
            return str([{"bbox_2d": box, "label": "card"} for box in corners]).replace("'", '"')
        return f"\\boxed{{{self.answers(context)}}}"


def groups_of(policy: Policy, protocol: Protocol, *questions: Question, samples: int = 1) -> tuple[Group, ...]:
    return evaluate(questions or (ask(),), protocol, ScriptedGenerator(policy), samples=samples).groups


def probed(policy: Policy, protocol: Protocol, *questions: Question, **options: object) -> dict[str, object]:
    """Of one question its values, of several their means."""
    groups = groups_of(policy, protocol, *questions)
    found = probe(groups, protocol, ScriptedGenerator(policy), **options)  # type: ignore[arg-type]
    assert all(len(values) == len(groups) for values in found.values())
    return {name: values[0] if len(values) == 1 else fmean(values) for name, values in found.items()}  # type: ignore[type-var]


HART, FULL_KEPT, MGPO, FREE, ZOOM = (
    LocateThenAnswer(),
    LocateThenAnswer(withhold_full_image=False),
    GroundThenAnswer(),
    GroundUntilAnswered(),
    ZoomTool(),
)
NAMES = {HART: "HART", FULL_KEPT: "full kept", MGPO: "MGPO", FREE: "general form", ZOOM: "tool"}
MANY = tuple(ask(f"q{number}") for number in range(12))


@pytest.mark.parametrize("protocol", NAMES, ids=NAMES.get)
def test_one_that_uses_its_crop_collapses_without_it(protocol: Protocol) -> None:
    found = probed(Policy(from_crops), protocol, *MANY)
    assert found.pop("random_crop") < 0.5  # some fall on the card
    assert found == {UNCHANGED: 1, CROP_ALONE: 1, "noise": 0, "true_crop": 1}
    missed = probed(Policy(from_crops, [EMPTY]), protocol, *MANY)
    assert (missed[UNCHANGED], missed[CROP_ALONE], missed["noise"], missed["true_crop"]) == (0, 0, 0, 1)


@pytest.mark.parametrize("protocol", [FULL_KEPT, MGPO, FREE, ZOOM], ids=NAMES.get)
def test_one_that_answers_from_the_full_view_hardly_moves(protocol: Protocol) -> None:
    found = probed(Policy(from_full_view), protocol, *MANY)
    assert found == {UNCHANGED: 1, CROP_ALONE: 0, "noise": 1, "true_crop": 1, "random_crop": 1}


@pytest.mark.parametrize("protocol", NAMES, ids=NAMES.get)
def test_one_that_answers_from_the_question_does_not_move_at_all(protocol: Protocol) -> None:
    assert set(probed(Policy(from_question), protocol).values()) == {1}


def test_where_the_original_came_back_in_a_crops_place_there_is_nothing_to_replace() -> None:
    """MGPO without a valid box: the same full view twice."""
    found = probed(Policy(from_last_view, []), MGPO)
    assert found == {UNCHANGED: 1, CROP_ALONE: 0, "noise": 1, "true_crop": 1, "random_crop": 1}


@pytest.mark.parametrize("protocol", [Direct(), LocateThenAnswer(without_region="full_image")])
def test_without_a_crop_every_probe_is_the_same_and_is_asked_once(protocol: Protocol) -> None:
    policy = Policy(from_last_view, [])
    groups, generator = groups_of(policy, protocol), ScriptedGenerator(policy)
    found = probe(groups, protocol, generator)
    assert found == {UNCHANGED: [1], CROP_ALONE: [0], "noise": [1], "true_crop": [1], "random_crop": [1]}
    [request] = generator.requests
    assert request.context == groups[0].episodes[0].turns[-1].context


def test_crops_that_are_shown_alone_already_are_not_asked_about_twice() -> None:
    generator = ScriptedGenerator(Policy(from_crops))
    probe(groups_of(Policy(from_crops), HART), HART, generator)
    assert len(generator.requests) == 4  # five probes


@pytest.mark.parametrize("protocol", [HART, FULL_KEPT, ZOOM], ids=["HART", "full kept", "tool"])
def test_all_of_several_crops_are_replaced(protocol: Protocol) -> None:
    questions = [both(f"q{number}") for number in range(5)]
    found = probed(Policy(from_crops, [CARD, OTHER]), protocol, *questions)
    assert found.pop("random_crop") == 0
    assert found == {UNCHANGED: 1, CROP_ALONE: 1, "noise": 0, "true_crop": 1}
    missed = probed(Policy(from_crops, [EMPTY, Box(0, 0, 140, 140)]), protocol, *questions)
    assert (missed[UNCHANGED], missed["true_crop"]) == (0, 1)  # each crop shows another of the true regions


def test_a_crop_of_a_growing_history_is_replaced_wherever_it_stands() -> None:
    """MGPO with three turns: the second locates within the first crop."""
    policy = Policy(from_last_view)
    protocol, generator = GroundThenAnswer(turns=3), ScriptedGenerator(policy)
    groups = groups_of(policy, protocol)
    probe(groups, protocol, generator, {"noise": noise})
    before, after = groups[0].episodes[0].turns[-1].context, generator.requests[-1].context
    assert [view.cropped for view in before.views] == [False, True, True]
    assert [one is other for one, other in zip(before.views, after.views, strict=True)] == [True, False, False]
    assert before.views[1] is before.views[2]  # the crop of the crop is the crop
    assert after.views[1] is after.views[2]
    assert [message.role for message in before.messages] == [message.role for message in after.messages]


def test_a_call_for_another_crop_under_a_probe_is_no_answer() -> None:
    policy = Policy(from_crops, calls_until_it_sees=True)
    found = probed(policy, ZoomTool(max_calls=3))
    assert found[UNCHANGED] == 1
    assert found["noise"] == 0
    groups, generator = groups_of(policy, ZOOM), ScriptedGenerator(policy)
    probe(groups, ZOOM, generator, {"noise": noise})
    assert len(generator.batches) == 1  # it is not given the crop that it calls for


@pytest.mark.parametrize(
    ("policy", "protocol", "stop"),
    [
        (Policy(from_question, []), HART, StopReason.NO_REGION),
        (Policy(from_crops, [EMPTY] * 2), ZoomTool(max_calls=1), StopReason.OUT_OF_CALLS),
    ],
)
def test_episodes_that_never_answered_are_wrong_and_not_asked_again(policy, protocol, stop) -> None:
    groups = groups_of(policy, protocol, ask("with"), ask("without", regions=()))
    assert [group.episodes[0].stop for group in groups] == [stop, stop]
    generator = ScriptedGenerator(policy)
    found = probe(groups, protocol, generator)
    assert generator.requests == []
    assert found.pop("true_crop") == [0, None]
    assert set(map(tuple, found.values())) == {(0, 0)}


def test_an_answer_that_could_not_be_read_is_asked_for_again() -> None:
    groups = groups_of(Policy(lambda context: "neither"), HART, ask(choices={"A": "red", "B": "green"}, answer="A"))
    assert groups[0].episodes[0].stop is StopReason.UNPARSED
    assert probe(groups, HART, ScriptedGenerator(Policy(lambda context: "A")))[UNCHANGED] == [1]


def test_without_regions_there_is_no_true_crop_whatever_the_episode_did() -> None:
    for policy in (Policy(from_crops), Policy(from_last_view, [])):
        found = probed(policy, MGPO, ask(regions=()))
        assert found["true_crop"] is None
        assert None not in [value for name, value in found.items() if name != "true_crop"]


def test_the_first_episode_of_a_group_counts() -> None:
    groups = groups_of(Policy(from_crops), HART, samples=2)
    [group] = groups
    swapped = Group(group.question, (group.episodes[1], group.episodes[0]))
    generator = ScriptedGenerator(Policy(from_crops))
    probe([swapped], HART, generator, {})
    assert generator.requests[0].context == group.episodes[1].turns[-1].context


def test_choices_are_compared_as_letters() -> None:
    lettered = ask(choices={"A": "red", "B": "green"}, answer="A")
    found = probed(Policy(lambda context: "AB"[from_crops(context) != "red"]), HART, lettered)
    assert (found[UNCHANGED], found[CROP_ALONE], found["noise"], found["true_crop"]) == (1, 1, 0, 1)


def shown(seed: int, *, at_once: int = 64) -> list[tuple[Box, bytes]]:
    """Every picture that the probes of three questions show."""
    policy = Policy(from_crops)
    generator = ScriptedGenerator(policy)
    probe(groups_of(policy, HART, *MANY[:3]), HART, generator, seed=seed, at_once=at_once)
    return [(view.source, view.image.tobytes()) for request in generator.requests for view in request.context.views]


def test_what_is_drawn_depends_on_the_seed_and_the_question_alone() -> None:
    first = shown(0)
    assert shown(0) == first == shown(0, at_once=1)
    again = shown(1)
    n = len(first) // 3  # of each question: unchanged, noise, true crop, random crop
    for place in (1, 3):
        assert len({pictures[i * n + place] for pictures in (first, again) for i in range(3)}) == 6
    for place in (0, 2):
        assert len({pictures[i * n + place] for pictures in (first, again) for i in range(3)}) == 1


def test_a_crop_of_the_whole_image_is_a_crop_and_the_full_view_beside_it_is_none() -> None:
    whole = Policy(from_last_view, [Box(0, 0, *SIZE)])
    groups, generator = groups_of(whole, FULL_KEPT), ScriptedGenerator(whole)
    found = probe(groups, FULL_KEPT, generator)
    assert found == {UNCHANGED: [1], CROP_ALONE: [1], "noise": [0], "true_crop": [1], "random_crop": [1]}
    full, crop = groups[0].episodes[0].turns[-1].context.views
    assert full.source == crop.source
    for request in generator.requests[2:]:
        kept, replaced = request.context.views
        assert kept is full
        assert replaced is not crop
    at_random = generator.requests[-1].context.views[-1]
    assert at_random.image.tobytes() == crop.image.tobytes()  # there is one place only


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_an_evaluation_probes_chunk_by_chunk_what_is_probed_of_all_at_once(at_once: int) -> None:
    questions = [*MANY[:9], ask("without", regions=())]
    generator = ScriptedGenerator(Policy(from_crops))
    options = {"at_once": at_once, "seed": 3}
    result = evaluate(questions, MGPO, generator, keep=0, probed=True, **options)  # type: ignore[arg-type]
    whole = evaluate(questions, MGPO, generator, seed=3)
    assert result.probes == probe(whole.groups, MGPO, generator, seed=3)
    assert result.groups == ()
    assert [one.attempts for one in result.scored] == [one.attempts for one in whole.scored]
    written, plain = result.to_json(), whole.to_json()
    assert written.pop("probes") == probe_figures(result.probes)
    assert written.keys() == plain.keys(), "a score file without probes is what it was"
    assert whole.probes is None


def test_a_change_is_that_of_the_questions_for_which_the_probe_can_be_made() -> None:
    found = {UNCHANGED: [1, 0, 1, 1], "noise": [0, 0, 0, 1], "true_crop": [1, 1, None, None], "other": [None] * 4}
    figures = probe_figures(found)
    assert figures["noise"] == {"accuracy": 0.25, "change": -0.5, "questions": 4}
    assert figures["true_crop"] == {"accuracy": 1, "change": 0.5, "questions": 2}
    assert figures["other"] == {"accuracy": None, "change": None, "questions": 0}
    assert figures[UNCHANGED]["change"] == 0


sides = st.tuples(st.integers(0, 290), st.integers(0, 190), st.integers(1, 300), st.integers(1, 200))


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(0, 5))
def test_no_replacement_has_more_pixels_than_the_crop(
    of: tuple[int, int, int, int], true: tuple[int, int, int, int], seed: int
) -> None:
    image, traits = picture((300, 200), (10, 10, 20, 20)), Traits()
    box, region = (Box(x, y, x + w, y + h).clipped(image.size) for x, y, w, h in (of, true))
    assert box
    assert region
    crop = crop_view(image, box, traits.budget, traits.multiple)
    case = ReplacedCrop(ask(regions=((region,),)), image, crop, traits.multiple, random.Random(seed))
    for other in (noise(case), random_crop(case)):
        assert other.size == crop.size
        assert (other.source.width, other.source.height) == (crop.source.width, crop.source.height)
    placed, cut = random_crop(case), true_crop(case)
    assert placed.source.clipped(image.size) == placed.source
    assert cut.size[0] * cut.size[1] <= crop.size[0] * crop.size[1]
    assert not any(side % traits.multiple for side in cut.size)
    assert all(view.cropped for view in (noise(case), placed, cut))
