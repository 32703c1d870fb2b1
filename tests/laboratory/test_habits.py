"""What bases are taught is true, and said in the very contexts that the protocols show."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from foveate.context import Context
from foveate.families.qwen2_5_vl import Qwen25VL
from foveate.laboratory.architecture import (
    END,
    GRID,
    STUDY_WORDS,
    make_config,
    make_image_processor,
    make_tokenizer,
    vocabulary,
)
from foveate.laboratory.dense import images_of
from foveate.laboratory.examples import Example, Examples, Optics, Seen, written_box
from foveate.laboratory.forward import Line, _ids, _positions
from foveate.laboratory.habits import COUNT, POINT, ZOOM, counting_habits, pointing_habits, reading_habits
from foveate.laboratory.lessons import ANSWER, FIND, LOCATE
from foveate.laboratory.variants import COUNTED, CROP, LEGIBLE, PARTLY, UNREADABLE, scenes
from foveate.protocols import (
    Ask,
    Completion,
    Direct,
    FinishReason,
    GroundAndAnswer,
    GroundThenAnswer,
    LocateThenAnswer,
    PointThenCount,
    Protocol,
    Stop,
    StopReason,
    Subject,
    Turn,
    ZoomTool,
)
from foveate.questions.scenes import Card, layout
from foveate.questions.scenes.drawing import draw
from foveate.questions.schema import Question
from foveate.regions import Box, Point

SEED, SCENES = 11, 20
BUDGETS = (LEGIBLE, PARTLY, UNREADABLE)
LESSONS = {"pointing": pointing_habits, "reading": reading_habits, "counting": counting_habits}
VERBS = {FIND, LOCATE, ANSWER, ZOOM, POINT, COUNT}


class Lesson(NamedTuple):
    """A line, and what it is about."""

    line: Line
    images: list[Seen]
    example: Example
    scene: int

    @property
    def form(self) -> str:
        """The prompt's shape: verbs, `view` and `crop`."""
        parts = (
            "view" if part == self.scene else "crop" if isinstance(part, int) else part for part in self.line.prompt
        )
        return " ".join(part for part in parts if part in VERBS | {"view", "crop"})

    @property
    def colour(self) -> str:
        return str(self.line.prompt[-1])

    @property
    def asked(self) -> Card:
        return next(card for card in self.example.cards if card.colour == self.colour)

    @property
    def shown(self) -> Seen:
        """What a box of the reply is about: the image shown last, but the crop tool's boxes are about the view."""
        return self.example.view if ZOOM in self.line.prompt else self.images[self.line.images[-1]]

    @property
    def cut_by(self) -> Box | None:
        """The box that the crop among its images was cut by, in pixels of the view."""
        for image in self.line.images:
            for crop, box in zip(self.example.crops, self.example.boxes, strict=True):
                if self.images[image] is crop:
                    return box
        return None

    def written(self, card: Card) -> tuple[str, ...] | None:
        """A card's box as it would be said."""
        box = self.shown.boxes[self.example.cards.index(card)]
        return tuple(map(str, written_box(box, self.shown.size))) if box else None


@cache
def lessons(name: str) -> list[Lesson]:
    config = COUNTED if name == "counting" else scenes()
    examples = [Examples(SEED, SCENES, Optics((config,), BUDGETS, CROP, legible_px=6))[i] for i in range(SCENES)]
    owners = [*range(SCENES), *(i for i, example in enumerate(examples) for _ in example.crops)]
    images = images_of(examples)
    found = []
    for line in LESSONS[name](examples, random.Random(3)):
        scene = owners[line.images[0]]
        assert {owners[image] for image in line.images} == {scene}
        found.append(Lesson(line, images, examples[scene], scene))
    return found


# --- the contexts ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family() -> Qwen25VL:
    config = make_config()
    config.text_config.vocab_size = len(vocabulary(STUDY_WORDS))
    return Qwen25VL(config, make_tokenizer(STUDY_WORDS), make_image_processor())


def protocols_of(form: str, lesson: Lesson) -> list[Protocol]:
    """All those that show a prompt of this shape."""
    view = next(
        b
        for b in BUDGETS
        if b.max_pixels >= lesson.example.view.size[0] * lesson.example.view.size[1] > 0.8 * b.max_pixels
    )
    seen = {"view_budget": view, "crop_budget": CROP}
    return {
        "view locate": [LocateThenAnswer(max_boxes=1, **seen), GroundThenAnswer(**seen)],
        "view point": [GroundAndAnswer(view)],
        "view zoom": [ZoomTool(**seen)],
        "view count": [PointThenCount(view)],
        "view answer": [Direct(view)],
        "crop answer": [LocateThenAnswer(max_boxes=1, **seen)],
        "view crop answer": [
            LocateThenAnswer(False, 1, "full_image", **seen),
            LocateThenAnswer(False, 1, view_budget=view, crop_budget=CROP, answer_view_budget=view),
        ],
        "view locate crop answer": [GroundThenAnswer(2, **seen)],
        "view locate crop locate": [GroundThenAnswer(3, **seen)],
        "view locate crop locate crop answer": [GroundThenAnswer(3, **seen)],
        "view zoom crop zoom": [ZoomTool(2, **seen)],
        "view zoom crop zoom crop zoom": [ZoomTool(2, **seen), ZoomTool(3, **seen)],
    }[form]


def completion(family: Qwen25VL, words: tuple[str, ...]) -> Completion:
    assert words[-1] == END
    ids = family.tokenizer.convert_tokens_to_ids(list(words))
    return Completion(tuple(ids), (), family.decode(ids), FinishReason.END)


def asked(lesson: Lesson, family: Qwen25VL) -> Subject:
    """The scene with a question about the lesson's card, as `Scenes` words it."""
    config = COUNTED if lesson.form == "view count" else scenes()
    image = draw(config, layout(config, SEED, lesson.scene))
    what = "What number of cards is" if config is COUNTED else "Which digit is on the card"
    question = Question("q", lambda: image, f"{what} coloured {lesson.colour}?", lesson.asked.writing)
    return Subject(question, image, family)


def said_before(lesson: Lesson) -> list[tuple[str, ...]]:
    """The replies in a prompt; where there is a crop and no reply, the one that must have brought it."""
    prompt = lesson.line.prompt
    ends = [place for place, part in enumerate(prompt) if part == END]
    if not ends and lesson.cut_by:
        return [(*(str(int(c)) for c in lesson.cut_by.corners), END)]
    return [tuple(str(part) for part in prompt[end - 4 : end + 1]) for end in ends]


def context_of(protocol: Protocol, lesson: Lesson, subject: Subject, family: Qwen25VL) -> tuple[Context, list[Turn]]:
    """What the protocol shows after the turns that the lesson's prompt tells of."""
    turns: list[Turn] = []
    ask = protocol.next(subject, turns)
    for said in said_before(lesson):
        assert isinstance(ask, Ask)
        turns.append(protocol.read(subject, turns, ask.context, completion(family, said)))
        ask = protocol.next(subject, turns)
    assert isinstance(ask, Ask)
    return ask.context, turns


@pytest.mark.parametrize("name", LESSONS)
def test_every_lesson_is_a_context_that_a_protocol_shows(name: str, family: Qwen25VL) -> None:
    """Token ids, rotary positions and pixels; and the reply is one that the protocol can read."""
    seen = Counter[str]()
    for lesson in lessons(name):
        form, line = lesson.form, lesson.line
        if form == "view find":  # the lessons' own
            continue
        seen[form] += 1
        subject = asked(lesson, family)
        for protocol in protocols_of(form, lesson):
            context, turns = context_of(protocol, lesson, subject, family)
            encoded = family.encode(context)
            ids = _ids(line, lesson.images)
            sizes = tuple(lesson.images[part].size if isinstance(part, int) else None for part in line.prompt)
            assert list(encoded.token_ids) == ids, form
            assert torch.equal(encoded.positions_AL, _positions(sizes, len(ids))), form
            for view, image in zip(context.views, line.images, strict=True):
                assert np.array_equal(np.asarray(view.image), lesson.images[image].pixels_HWC), form
            said = completion(family, line.reply)
            turn = protocol.read(subject, turns, context, said)
            assert turn.problem is None, (form, line.reply)
            after = protocol.next(subject, [*turns, turn])
            if isinstance(after, Stop) and after.reason is StopReason.ANSWERED:
                assert after.answer == line.reply[-2]
            else:
                assert len(turn.boxes) == 1
    assert set(seen) == {
        "pointing": {"view locate", "view point", "view zoom", "view locate crop locate", "view zoom crop zoom"},
        "reading": {
            "view answer", "view zoom", "crop answer", "view crop answer", "view locate crop answer",
            "view locate crop locate crop answer", "view zoom crop zoom", "view zoom crop zoom crop zoom",
        },
        "counting": {"view count"},
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", LESSONS)
def test_every_word_is_one_known_token(name: str) -> None:
    tokenizer = make_tokenizer(STUDY_WORDS)
    known = vocabulary(STUDY_WORDS)
    for lesson in lessons(name):
        for word in (*(part for part in lesson.line.prompt if isinstance(part, str)), *lesson.line.reply):
            assert tokenizer.encode(word, add_special_tokens=False) == [known.index(word)]


def test_the_words_of_the_shipped_model_keep_their_ids() -> None:
    assert vocabulary(STUDY_WORDS)[: len(vocabulary())] == vocabulary()
    assert vocabulary(STUDY_WORDS)[len(vocabulary()) :] == [ZOOM, POINT, COUNT]


# --- the truth ------------------------------------------------------------------------------------------------------


def test_boxes_are_of_cards_that_are_seen_and_find_is_answered_with_the_right_one() -> None:
    right = Counter[tuple[str, bool]]()
    for lesson in lessons("pointing"):
        box, rest = lesson.line.reply[:4], lesson.line.reply[4:]
        written = [lesson.written(card) for card in lesson.example.cards]
        own = box == lesson.written(lesson.asked)
        if lesson.form == "view locate crop locate":  # the place is to be found again, where it is in the crop
            visible = any(written)
            whole = tuple(map(str, (0, 0, *lesson.shown.size)))
            assert own if visible else box == whole
        else:
            assert box in written
        if lesson.form == "view find":
            assert own
        right[lesson.form, own] += 1
        answered = (lesson.asked.writing, END) if lesson.form == "view point" else (END,)
        assert rest == answered
    for form in ("view locate", "view point", "view zoom"):
        assert right[form, True] < right[form, False], form  # a card drawn at random


def test_what_was_said_before_a_crop_is_the_box_that_it_was_cut_by() -> None:
    for name in ("pointing", "reading"):
        for lesson in lessons(name):
            prompt = lesson.line.prompt
            if END not in prompt:
                continue
            end = prompt.index(END)
            assert tuple(map(int, prompt[end - 4 : end])) == lesson.cut_by.corners


def test_answers_are_true_and_with_a_crop_mostly_legible() -> None:
    legible = Counter[tuple[bool, bool]]()
    for lesson in lessons("reading"):
        assert lesson.line.reply == (lesson.asked.writing, END)
        card = lesson.example.cards.index(lesson.asked)
        legible["crop" in lesson.form, any(lesson.images[image].ink[card] for image in lesson.line.images)] += 1
    assert legible[True, True] > 1.5 * legible[True, False]


def test_points_are_cards_from_left_to_right_mostly_of_the_colour_and_the_count_is_theirs() -> None:
    right = wrong = 0
    for lesson in lessons("counting"):
        *words, count, end = lesson.line.reply
        points = [Point(int(x), int(y)) for x, y in zip(words[::2], words[1::2], strict=True)]
        assert (int(count), end) == (len(points), END)
        boxes = [box for box in lesson.shown.boxes if box]
        assert len(boxes) == len(lesson.example.cards)
        lefts = []
        for point in points:
            assert point.x % GRID == point.y % GRID == 0
            [place] = [i for i, box in enumerate(boxes) if _near(box, point)]
            right += lesson.example.cards[place].colour == lesson.colour
            wrong += lesson.example.cards[place].colour != lesson.colour
            lefts.append(boxes[place].x1)
        assert lefts == sorted(lefts)
    assert right > 2 * wrong


def _near(box: Box, point: Point) -> bool:
    """Whether it is the middle of the box, but for the grid."""
    return abs(box.centre.x - point.x) <= GRID / 2 and abs(box.centre.y - point.y) <= GRID / 2
