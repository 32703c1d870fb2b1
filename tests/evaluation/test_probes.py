"""The probes tell a model that uses its crop from one that looks elsewhere and from one that does not look."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import fmean

import pytest
from PIL import Image
from pydantic import TypeAdapter
from tests.evaluation.policies import (
    CARD,
    COLOURS,
    EMPTY,
    OTHER,
    SIZE,
    Policy,
    ask,
    both,
    drawn,
    from_crops,
    from_full_view,
    from_last_view,
    from_question,
)
from tests.scripted import ScriptedGenerator, Traits, completion

from foveate.context import Context
from foveate.episodes import Answerer, Group, run_episodes
from foveate.evaluation.probes import (
    CROP_ALONE,
    EVERY,
    FULL_SHOWN,
    PAPERS,
    QUESTION_ONLY,
    UNCHANGED,
    Outcome,
    Probed,
    Prober,
    ProbeSet,
    probe,
    probe_figures,
)
from foveate.evaluation.replacements import ALL, ReplacedCrop, noise
from foveate.evaluation.runner import evaluate
from foveate.images import PixelBudget, View, full_view
from foveate.protocols import (
    Completion,
    Direct,
    FinishReason,
    GroundThenAnswer,
    GroundUntilAnswered,
    LocateThenAnswer,
    Protocol,
    StopReason,
    ZoomTool,
)
from foveate.questions.schema import Question
from foveate.regions import Box


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
    result = evaluate(questions, MGPO, generator, keep=0, probes=PAPERS, **options)  # type: ignore[arg-type]
    whole = evaluate(questions, MGPO, generator, seed=3)
    assert result.probes_of_all == probe(whole.groups, MGPO, generator, seed=3)
    assert result.groups == ()
    assert [one.attempts for one in result.scored] == [one.attempts for one in whole.scored]
    written, plain = result.to_json(), whole.to_json()
    assert written.pop("probes_of_all") == probe_figures(result.probes_of_all)
    assert set(written.pop("probes")) == set(PAPERS.names)
    assert written.pop("look_dependence")
    assert written.pop("outcomes")
    assert written.keys() == plain.keys(), "a score file without probes is what it was"
    assert whole.probes_of_all is None


def test_a_change_is_that_of_the_questions_for_which_the_probe_can_be_made() -> None:
    found = {UNCHANGED: [1, 0, 1, 1], "noise": [0, 0, 0, 1], "true_crop": [1, 1, None, None], "other": [None] * 4}
    figures = probe_figures(found)
    assert figures["noise"] == {"accuracy": 0.25, "change": -0.5, "questions": 4}
    assert figures["true_crop"] == {"accuracy": 1, "change": 0.5, "questions": 2}
    assert figures["other"] == {"accuracy": None, "change": None, "questions": 0}
    assert figures[UNCHANGED]["change"] == 0


def prober(policy: Policy, protocol: Protocol, **options: object) -> Prober:
    return Prober(protocol, ScriptedGenerator(policy), **options)  # type: ignore[arg-type]


def pictures(count: int, *, of: int = 1) -> list[Question]:
    """Questions about pictures of their own, `of` at a time about the same; every third has green for its answer."""

    def one(number: int) -> Question:
        def paint() -> Image.Image:
            image = drawn()
            image.putpixel((0, 0), (number // of, 0, 0))
            return image

        green = number % 3 == 2
        return ask(
            f"q{number}", image=paint, answer="green" if green else "red", regions=((OTHER if green else CARD,),)
        )

    return [one(number) for number in range(count)]


@pytest.mark.parametrize("protocol", NAMES, ids=NAMES.get)
def test_every_probe_of_one_that_uses_its_crop(protocol: Protocol) -> None:
    questions = pictures(4, of=2)
    groups = groups_of(Policy(from_crops), protocol, *questions)
    first, second, third, fourth = prober(Policy(from_crops), protocol).probe(groups)
    assert first.right.keys() == {UNCHANGED, CROP_ALONE, QUESTION_ONLY, FULL_SHOWN, *ALL}
    assert first.right["other_crop"] is None
    assert second.right["other_crop"] is None  # of the same picture
    assert third.right["other_crop"] == 0  # red, as it happens, but green is asked for
    assert fourth.right["other_crop"] == 1
    assert [one.right[UNCHANGED] for one in (first, second, third, fourth)] == [1, 1, 0, 1]
    assert (first.right["true_crop"], third.right["true_crop"]) == (1, 1)
    assert first.right["blacked_out"] == 0
    assert third.right["blacked_out"] == 0
    assert first.right["small_view"] == 1  # a card's colour is seen from far away
    assert first.right[QUESTION_ONLY] == 0
    assert first.right[FULL_SHOWN] == (1 if protocol == HART else None)
    assert first.right[CROP_ALONE] == (None if protocol == HART else 1)  # whichever the protocol did not do
    assert {one.outcome for one in (first, second, third, fourth)} == {Outcome.FROM_CROP}
    assert first.full_image == (protocol != HART)


def test_another_questions_crop_is_the_nearest_of_another_picture() -> None:
    """However many questions about one picture there are in between; and of two that could be taken, the nearer."""
    policy = Policy(from_last_view)
    red, plain = ask("red"), ask("plain", image=lambda: Image.new("RGB", SIZE))
    views: list[list[tuple[int, int, int]]] = []

    def keep(replaced: ReplacedCrop) -> View:
        views.append([other.image.getpixel((50, 50)) for other in replaced.others])
        return replaced.crop

    def painted() -> Image.Image:
        image = drawn()
        image.paste(COLOURS["green"], tuple(map(int, CARD.corners)))
        return image

    greens = [ask(f"green{number}", image=painted) for number in range(3)]
    questions = [red, *greens, plain, replace(red, id="again")]
    prober(policy, HART, probes=ProbeSet({"other_crop": keep}, ())).probe(groups_of(policy, HART, *questions))
    colours = [[name for name, rgb in COLOURS.items() if rgb in one] for one in views]
    assert colours == [[], ["red"], ["red"], ["red"], ["green"], []]
    assert views[-1] == [(0, 0, 0)]


@pytest.mark.parametrize("protocol", [Direct(), LocateThenAnswer(without_region="full_image"), MGPO], ids=str)
def test_without_a_crop_only_the_question_alone_is_asked(protocol: Protocol) -> None:
    policy = Policy(from_last_view, [])
    [one] = prober(policy, protocol).probe(groups_of(policy, protocol))
    assert one.outcome is Outcome.WITHOUT_CROP
    assert {name for name, value in one.right.items() if value is not None} == {UNCHANGED, QUESTION_ONLY}
    assert one.crops is None


def test_without_true_regions_only_the_probes_that_need_them_are_missing() -> None:
    questions = [ask("q0", regions=(), image=lambda: drawn().rotate(180)), ask("q1", regions=())]
    probed = prober(Policy(from_crops), HART).probe(groups_of(Policy(from_crops), HART, *questions))
    assert {name for name, value in probed[1].right.items() if value is None} == {
        "true_crop",
        "blacked_out",
        CROP_ALONE,
    }


def test_a_question_alone_comes_without_any_picture() -> None:
    generator = ScriptedGenerator(Policy(from_crops))
    Prober(ZOOM, generator, ProbeSet({}, (QUESTION_ONLY,))).probe(groups_of(Policy(from_crops), ZOOM))
    [_, request] = generator.requests
    assert request.context.views == ()
    assert "What colour is the upper card?" in str(request.context.messages[0].parts[0])


def test_the_full_image_comes_beside_the_crops_where_it_was_withheld() -> None:
    generator = ScriptedGenerator(Policy(from_crops))
    groups = groups_of(Policy(from_crops), HART)
    Prober(HART, generator, ProbeSet({}, (FULL_SHOWN,))).probe(groups)
    located, answered = groups[0].episodes[0].turns
    assert generator.requests[-1].context.views == (*located.context.views, *answered.context.views)


def test_where_another_model_answered_it_alone_is_asked_again_in_its_own_terms() -> None:
    """Every probe, from its own small view on: the locating model's would be cruder or finer than what it is shown."""
    own = Traits(multiple=32, budget=PixelBudget(32 * 32, 32 * 32 * 400))
    locator = ScriptedGenerator(Policy(from_question))
    answerer = ScriptedGenerator(Policy(from_crops), own)
    result = evaluate([ask()], HART, locator, answerer=Answerer(HART, answerer), probes=EVERY)
    [one] = result.probed
    told = (UNCHANGED, "noise", "true_crop", QUESTION_ONLY, FULL_SHOWN)
    assert {name: one.right[name] for name in told} == {
        UNCHANGED: 1, "noise": 0, "true_crop": 1, QUESTION_ONLY: 0, FULL_SHOWN: 1,
    }  # fmt: skip
    assert len(locator.requests) == 1
    views = [view for request in answerer.requests for view in request.context.views]
    assert all(view.size[0] % 32 == view.size[1] % 32 == 0 for view in views)
    [beside] = [context.views[0] for context in (r.context for r in answerer.requests) if len(context.views) == 2]
    assert beside.size == full_view(drawn(), own.budget, 32).size != locator.requests[0].context.views[0].size


def failing(policy: Policy, *, fails: Callable[[Context], bool]) -> Callable[[Context, int], str | Completion]:
    def reply(context: Context, seed: int) -> str | Completion:
        return completion("timed out", FinishReason.FAILED) if fails(context) else policy(context, seed)

    return reply


def test_episodes_without_a_reply_are_left_out_and_never_wrong() -> None:
    policy = Policy(from_crops)
    dead = ScriptedGenerator(failing(policy, fails=lambda context: context.views[-1].cropped))
    groups = run_episodes([ask()], HART, dead)
    assert groups[0].episodes[0].stop is StopReason.FAILED
    generator = ScriptedGenerator(policy)
    [one] = Prober(HART, generator).probe(groups)
    assert one.outcome is Outcome.FAILED
    assert set(one.right.values()) == {None}
    assert set(map(tuple, probe(groups, HART, generator).values())) == {(None,)}
    assert generator.requests == []


def test_a_probe_without_a_reply_is_left_out_alone() -> None:
    policy = Policy(from_crops)
    groups = groups_of(policy, HART)
    deaf = ScriptedGenerator(failing(policy, fails=lambda context: not context.views))
    [one] = Prober(HART, deaf).probe(groups)
    assert one.right[QUESTION_ONLY] is None
    assert (one.right[UNCHANGED], one.right["noise"]) == (1, 0)


def test_unchanged_is_the_greedy_answer_of_the_evaluation() -> None:
    questions = pictures(9)
    result = evaluate(questions, MGPO, ScriptedGenerator(Policy(from_crops)))
    probed = prober(Policy(from_crops), MGPO).probe(result.groups)
    assert [one.right[UNCHANGED] for one in probed] == [scored.attempts[0].right for scored in result.scored]


@pytest.mark.parametrize("at_once", [1, 2, 64])
@pytest.mark.parametrize("done", [0, 1, 4, 5])
def test_neither_chunks_nor_an_interruption_change_a_value(at_once: int, done: int) -> None:
    policy = Policy(from_crops)
    questions = pictures(7, of=2)
    questions[3] = ask("outside", image=questions[3].image, choices={"A": "red"}, answer="A")
    groups = groups_of(policy, FULL_KEPT, *questions)
    whole = prober(policy, FULL_KEPT, seed=3).probe(groups)
    rows = [asdict(one) for one in prober(policy, FULL_KEPT, seed=3, at_once=at_once).probe(groups[:done])]
    journal = [TypeAdapter(Probed).validate_python(json.loads(json.dumps(row))) for row in rows]
    later = prober(policy, FULL_KEPT, seed=3, at_once=at_once)
    for group, one in zip(groups, journal, strict=False):
        later.recall(group.question, one)
    assert [*journal, *later.probe(groups[done:])] == whole


def test_what_is_recalled_is_cut_as_it_was_shown() -> None:
    policy = Policy(from_crops, [CARD, OTHER])
    groups = groups_of(policy, HART, both())
    [one] = prober(policy, HART).probe(groups)
    assert one.crops is not None
    shown = groups[0].episodes[0].turns[-1].context.views
    again = one.crops.cut(drawn())
    assert [view.image.tobytes() for view in again] == [view.image.tobytes() for view in shown]
    assert [view.key for view in again] == [view.key for view in shown]


@pytest.mark.parametrize(("size", "box"), [((1, 20000), Box(0, 0, 1, 20000)), ((20000, 1), Box(7, 0, 9, 1))], ids=str)
@pytest.mark.parametrize("protocol", [HART, ZOOM], ids=["HART", "tool"])
def test_a_picture_of_one_pixel_a_side(size: tuple[int, int], box: Box, protocol: Protocol) -> None:
    questions = [
        ask(f"q{colour}", image=lambda colour=colour: Image.new("RGB", size, (colour, 0, 0)), regions=((box,),))
        for colour in range(2)
    ]
    policy = Policy(from_question, [Box(0, 0, *size)])
    first, second = prober(policy, protocol).probe(groups_of(policy, protocol, *questions))
    assert first.outcome is Outcome.FROM_CROP
    assert {name for name, value in second.right.items() if value is None} <= {FULL_SHOWN, CROP_ALONE}


def test_a_box_over_the_whole_image() -> None:
    policy = Policy(from_crops, [Box(0, 0, *SIZE)])
    questions = [ask(f"q{n}", regions=((Box(0, 0, *SIZE),),), answer="red and green") for n in range(2)]
    [one, _] = prober(policy, HART).probe(groups_of(policy, HART, *questions))
    assert (one.right[UNCHANGED], one.right["true_crop"], one.right["random_crop"]) == (1, 1, 1)
    assert (one.right["blacked_out"], one.right["noise"]) == (0, 0)


def test_the_full_image_is_shown_beside_crops_as_the_protocol_does_that_keeps_it() -> None:
    asked = ask(others=(drawn, drawn))
    probing, keeping = (ScriptedGenerator(Policy(from_crops)) for _ in range(2))
    groups = run_episodes([asked], HART, probing)
    Prober(HART, probing, ProbeSet({}, (FULL_SHOWN,))).probe(groups)
    run_episodes([asked], LocateThenAnswer(withhold_full_image=False), keeping)
    shown, kept = probing.requests[-1].context, keeping.requests[-1].context
    assert shown.key == kept.key
    assert len(shown.views) == 4
