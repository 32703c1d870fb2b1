"""Further pictures of a question are shown whole after the first, and never taken for one another or for the first."""

import pytest
from PIL import Image
from tests.scripted import CHOICES, ScriptedGenerator

from foveate.episodes import run_episodes
from foveate.errors import FoveateError
from foveate.images import PixelBudget
from foveate.protocols import (
    Direct,
    GroundAndAnswer,
    GroundThenAnswer,
    GroundUntilAnswered,
    LocateThenAnswer,
    PointThenCount,
    ZoomTool,
)
from foveate.questions.schema import Question
from foveate.regions import Box

BUDGET = PixelBudget(28 * 28, 56 * 56)
COLOURS = ("red", "green", "blue")
BOX = '[{"bbox_2d": [0, 0, 28, 28]}]'
CALL = '<tool_call>{"name": "crop", "arguments": {"bbox_2d": [0, 0, 28, 28]}}</tool_call>'
ANSWER = r"\boxed{B}"


def picture(colour, size=(112, 112)):
    return Image.new("RGB", size, colour)


def question(count=3, size=(112, 112), **changes):
    images = [lambda colour=colour: picture(colour, size) for colour in COLOURS[:count]]
    return Question(
        id="q", image=images[0], others=tuple(images[1:]), text="Which?", choices=CHOICES, answer="B", **changes
    )


def shown(generator):
    """Of each request, the colours of its views, first pixel each."""
    return [
        [Image.new("RGB", (1, 1), view.image.getpixel((0, 0))).getpixel((0, 0)) for view in request.context.views]
        for request in generator.requests
    ]


RED, GREEN, BLUE = (Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in COLOURS)


def asked(protocol, replies, one=None, **options):
    generator = ScriptedGenerator(replies)
    [group] = run_episodes([one or question()], protocol, generator, **options)
    return group.episodes, generator


def test_direct_shows_all_in_order_under_the_same_budget():
    [episode], generator = asked(Direct(BUDGET), [ANSWER])
    assert shown(generator) == [[RED, GREEN, BLUE]]
    assert {view.size for view in generator.requests[0].context.views} == {(56, 56)}
    assert episode.answer == "B"


def test_a_budget_of_the_question_holds_for_all():
    _, generator = asked(Direct(BUDGET), [ANSWER], question(view_pixels=28 * 28))
    assert {view.size for view in generator.requests[0].context.views} == {(28, 28)}


@pytest.mark.parametrize("withheld", [True, False])
def test_locating_concerns_the_first(withheld):
    protocol = LocateThenAnswer(withhold_full_image=withheld, view_budget=BUDGET)
    [episode], generator = asked(protocol, [BOX, ANSWER])
    full = [] if withheld else [RED]
    assert shown(generator) == [[RED, GREEN, BLUE], [*full, RED, GREEN, BLUE]]
    assert episode.boxes == (Box(0, 0, 56, 56),)
    locate, answer = (request.context.messages[-1].parts[-1] for request in generator.requests)
    assert "first image" in locate
    assert "other images" in answer


def test_a_box_is_read_in_the_first_pictures_frame_though_others_are_of_another_size():
    images = (picture("red", (112, 112)), picture("green", (28, 28)))
    one = Question(
        id="q", image=lambda: images[0], others=(lambda: images[1],), text="Which?", choices=CHOICES, answer="B"
    )
    [episode], _ = asked(LocateThenAnswer(view_budget=BUDGET), ['[{"bbox_2d": [28, 28, 56, 56]}]', ANSWER], one)
    assert episode.boxes == (Box(56, 56, 112, 112),)


def test_crops_are_of_the_first():
    [episode], generator = asked(ZoomTool(view_budget=BUDGET), [CALL, ANSWER])
    assert shown(generator) == [[RED, GREEN, BLUE], [RED, GREEN, BLUE, RED]]
    assert generator.requests[1].context.views[-1].source == Box(0, 0, 56, 56)
    assert episode.image_size == (112, 112)


@pytest.mark.parametrize(
    "protocol", [Direct(BUDGET), LocateThenAnswer(view_budget=BUDGET), ZoomTool(view_budget=BUDGET)]
)
def test_the_words_for_one_picture_are_those_without_further_ones(protocol):
    _, generator = asked(protocol, [BOX, ANSWER], question(1))
    said = str([request.context.messages[-1].parts[-1] for request in generator.requests])
    assert "first" not in said
    assert "other images" not in said


def test_pictures_of_one_size_are_told_apart_where_contexts_are_shared():
    _, generator = asked(Direct(BUDGET), [ANSWER])
    views = generator.requests[0].context.views
    assert len({view.key for view in views}) == 3
    assert len({view.source for view in views}) == 1


def test_episodes_of_a_question_still_share_their_first_request():
    _, generator = asked(Direct(BUDGET), [ANSWER], n=4)
    assert [len(request.seeds) for request in generator.requests] == [4]


def test_each_picture_is_opened_once():
    opened = []

    def drawn(colour):
        def draw():
            opened.append(colour)
            return picture(colour)

        return draw

    one = Question(
        id="q",
        image=drawn("red"),
        others=(drawn("green"), drawn("blue")),
        text="Which?",
        choices=CHOICES,
        answer="B",
    )
    asked(LocateThenAnswer(withhold_full_image=False, view_budget=BUDGET), [BOX, ANSWER], one, n=3)
    assert opened == ["red", "green", "blue"]


@pytest.mark.parametrize(
    "protocol",
    [GroundThenAnswer(), GroundUntilAnswered(), GroundAndAnswer(), PointThenCount()],
    ids=lambda protocol: type(protocol).__name__,
)
def test_protocols_that_show_one_picture_refuse_before_anything_is_asked(protocol):
    generator = ScriptedGenerator([ANSWER] * 3)
    with pytest.raises(FoveateError, match=f"question q has 3 pictures, and {type(protocol).__name__} shows one"):
        run_episodes([question()], protocol, generator)
    assert generator.requests == []
