"""Scenes: a function of (config, seed, index), true boxes that are true, answers that do not leak."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.images import open_image
from foveate.questions.readers import load_questions
from foveate.questions.scenes import SceneConfig, Scenes, export, layout, scene
from foveate.questions.scenes.palette import COLOURS, SHAPES
from foveate.questions.schema import QuestionRow
from foveate.regions import Box

KINDS = ("read", "compare", "relation")


def pixels(config: SceneConfig, seed: int, index: int) -> np.ndarray:
    return np.asarray(open_image(scene(config, seed, index).image))


def test_a_scene_is_a_function_of_config_seed_and_index() -> None:
    config = SceneConfig(size=256, view_pixels=56 * 56)
    forwards = [scene(config, 3, i) for i in range(4)]
    backwards = [scene(config, 3, i) for i in reversed(range(4))]
    assert forwards == backwards[::-1]
    assert np.array_equal(pixels(config, 3, 2), pixels(config, 3, 2))
    assert not np.array_equal(pixels(config, 3, 2), pixels(config, 4, 2))
    assert not np.array_equal(pixels(config, 3, 2), pixels(config, 3, 1))


def test_nothing_is_drawn_before_it_is_needed_and_a_question_pickles() -> None:
    question = scene(SceneConfig(size=8192), 0, 0)  # 200 MB, were it drawn
    assert callable(question.image)
    assert pickle.loads(pickle.dumps(question)) == question


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1024, (1536, 896), (640, 1280)])
def test_true_boxes_are_nested_and_inside(kind: str, size: int | tuple[int, int]) -> None:
    config = SceneConfig(size=size, kind=kind)
    whole = Box(0, 0, config.width, config.height)
    for index in range(30):
        question = scene(config, 1, index)
        assert len(question.regions) == (1 if kind == "read" else 2)
        for writing, card in question.regions:
            assert card.contains(writing)
            assert whole.contains(card)


def test_the_writing_box_holds_all_the_ink_and_nothing_but_the_card_around_it() -> None:
    config = SceneConfig(size=512)
    for index in range(20):
        question = scene(config, 2, index)
        plan = layout(config, 2, index)
        card = next(card for card in plan.cards if card.writing_box == question.regions[0][0])
        image = pixels(config, 2, index).astype(int)
        x1, y1, x2, y2 = (int(c) for c in card.writing_box.corners)
        is_ink = np.abs(image - card.ink).sum(-1) < np.abs(image - card.fill).sum(-1)
        is_card = np.zeros(is_ink.shape, bool)
        cx1, cy1, cx2, cy2 = (round(c) for c in card.box.corners)
        is_card[cy1:cy2, cx1:cx2] = np.abs(image[cy1:cy2, cx1:cx2] - card.fill).sum(-1) == 0
        assert is_ink[y1:y2, x1:x2].any()
        ring = np.zeros_like(is_ink)
        ring[y1 - 2 : y2 + 2, x1 - 2 : x2 + 2] = True
        ring[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1] = False
        assert is_card[ring].all(), f"scene {index}: the writing touches the card's edge or leaves its box"


def test_cards_do_not_touch() -> None:
    for index in range(50):
        cards = layout(SceneConfig(), 0, index).cards
        assert all(a.square.intersection(b.square) == 0 for a in cards for b in cards if a is not b)
        assert len({card.colour for card in cards}) == len({card.shape for card in cards}) == len(cards)


def test_the_digit_does_not_follow_from_colour_shape_or_place() -> None:
    cards = [card for index in range(2000) for card in layout(SceneConfig(), 5, index).cards]

    def chi_squared(key: str) -> tuple[float, int]:
        pairs = Counter((_place(card) if key == "place" else getattr(card, key), card.writing) for card in cards)
        keys, digits = ({pair[i] for pair in pairs} for i in (0, 1))
        rows, columns = (Counter[object]() for _ in "12")
        for (row, column), n in pairs.items():
            rows[row] += n
            columns[column] += n
        expected = {(r, c): rows[r] * columns[c] / len(cards) for r in keys for c in digits}
        score = sum((pairs[pair] - e) ** 2 / e for pair, e in expected.items())
        return score, (len(keys) - 1) * (len(digits) - 1)

    for key in ("colour", "shape", "place"):
        score, freedom = chi_squared(key)
        assert score < freedom + 4 * (2 * freedom) ** 0.5, key


def test_a_prior_is_the_share_of_digits_that_go_with_their_colour_beside_chance() -> None:
    for prior in (0.3, 0.6, 1.0):
        config = SceneConfig(prior=prior)
        pairs = Counter((card.colour, card.writing) for index in range(600) for card in layout(config, 5, index).cards)
        found = sum(count for (colour, writing), count in pairs.items() if writing == str(list(COLOURS).index(colour)))
        cards = sum(pairs.values())
        assert found / cards == pytest.approx(prior + (1 - prior) / 10, abs=4 * (0.25 / cards) ** 0.5)
        if prior < 1:  # the rest is any digit
            assert {writing for _, writing in pairs} == set("0123456789")


@pytest.mark.parametrize(
    ("knobs", "digest"),
    [
        ({}, "87943f95e62700a6"),
        ({"size": 512, "writing_px": 58}, "3e142b287162df25"),
        (
            {"writing": "word", "size": 2048, "writing_px": 60, "cards": (2, 3), "card_side": (0.22, 0.28)},
            "c44afb84cc00d4ee",
        ),
    ],
)
def test_layouts_without_a_prior_are_those_that_the_shipped_model_was_made_with(
    knobs: dict[str, object], digest: str
) -> None:
    plans = [layout(SceneConfig(**knobs), seed, index) for seed in (0, 7) for index in range(8)]  # type: ignore[arg-type]
    assert blake2b(repr(plans).encode(), digest_size=8).hexdigest() == digest


def _place(card: object) -> tuple[int, int]:
    box: Box = card.box  # type: ignore[attr-defined]
    return int(box.x1 // 256), int(box.y1 // 256)


def test_answers_follow_from_what_the_boxes_hold() -> None:
    for kind in KINDS:
        for choice in (False, True):
            config = SceneConfig(kind=kind, multiple_choice=choice)
            for index in range(40):
                question = scene(config, 9, index)
                plan = {card.writing_box: card for card in layout(config, 9, index).cards}
                cards = [plan[region[0]] for region in question.regions]
                said = question.choices[question.answer] if question.choices else question.answer
                if kind == "read":
                    assert said == cards[0].writing
                elif kind == "compare":
                    assert said == max(cards, key=lambda card: int(card.writing)).colour
                    assert cards[0].writing != cards[1].writing
                else:
                    axis = "x1" if "left" in question.text else "y1"
                    first = min(cards, key=lambda card: getattr(card.square, axis) + card.square.width / 2)
                    assert said == first.colour


def test_choices_are_distinct_and_the_right_one_is_anywhere() -> None:
    config = SceneConfig(multiple_choice=True)
    questions = Scenes(config, seed=4, length=400)[:]
    assert all(q.choices and len(set(q.choices.values())) == 4 for q in questions)
    letters = Counter(q.answer for q in questions)
    assert set(letters) == set("ABCD")
    assert min(letters.values()) > 60


def test_neither_order_nor_name_gives_a_comparison_away() -> None:
    questions = Scenes(SceneConfig(kind="compare"), seed=6, length=600)[:]
    earlier = sum(q.text.split(" or ")[0].endswith(q.answer) for q in questions)
    assert 230 < earlier < 370


def test_the_naming_word_comes_last() -> None:
    assert all(q.text.rstrip("?").split()[-1] in COLOURS for q in Scenes(length=50))
    assert all(q.text.rstrip("?").split()[-1] in SHAPES for q in Scenes(SceneConfig(named_by="shape"), length=50))


@pytest.mark.parametrize("writing", ["word", "code"])
def test_words_and_codes_fit_when_small_enough(writing: str) -> None:
    config = SceneConfig(writing=writing, writing_px=20, named_by="shape", multiple_choice=True)
    for index in range(50):
        question = scene(config, 0, index)
        assert question.choices is not None
        assert len(question.choices[question.answer]) == 3


def test_the_sequence_is_bounded_and_slices() -> None:
    scenes = Scenes(SceneConfig(), seed=1, length=5)
    assert len(scenes) == 5
    assert [q.id for q in scenes] == [scenes[i].id for i in range(5)]
    assert scenes[-1] == scenes[4]
    assert scenes[1:3] == [scenes[1], scenes[2]]
    with pytest.raises(IndexError):
        scenes[5]


def test_writing_follows_the_view_budget() -> None:
    for size, view_pixels in ((1024, 112 * 112), (2048, 12544), (4096, 1_000_000)):
        assert SceneConfig(size=size, view_pixels=view_pixels).writing_height_in_view == pytest.approx(4.25, rel=0.05)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"cards": (4, 9)}, "cards"),
        ({"cards": (1, 4), "kind": "compare"}, "needs 2"),
        ({"cards": (8, 8), "card_side": (0.3, 0.4)}, "do not fit"),
        ({"distractors": 200}, "do not fit"),
        ({"distractors": -1}, "distractors"),
        ({"card_side": (0.3, 0.2)}, "card_side"),
        ({"size": 32}, "at least 64"),
        ({"size": 128}, "not legible in the original"),
        ({"writing_px": 160}, "do not fit on enough cards"),
        ({"size": (4096, 128)}, "do not fit"),
        ({"kind": "riddle"}, "choose one of read"),
        ({"writing": "runes"}, "choose one of digit"),
        ({"view_pixels": 0}, "view_pixels"),
        ({"prior": -0.1}, "prior is -0.1"),
        ({"prior": 1.5}, "prior is 1.5"),
        ({"prior": 0.3, "writing": "word", "writing_px": 20}, "only of digits"),
        ({"prior": 1.0, "kind": "count"}, "no digit is read"),
    ],
)
def test_knobs_that_cannot_be_are_refused_by_name(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneConfig(**knobs)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_holds_the_same_questions(tmp_path: Path, kind: str) -> None:
    config = SceneConfig(size=300, view_pixels=84 * 84, kind=kind, multiple_choice=kind != "read")
    path = export(config, 3, 8, tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 3
    for index, raw in enumerate(rows):
        row, question = QuestionRow(**raw), scene(config, 8, index)
        assert (row.id, row.question, row.answer, row.category) == (
            question.id, question.text, question.answer, question.category,
        )  # fmt: skip
        assert row.boxes() == question.regions
        assert row.lettered_choices() == question.choices
        with Image.open(path.parent / raw["image"]) as stored:
            assert np.array_equal(np.asarray(stored), pixels(config, 8, index))


# --- counting ---------------------------------------------------------------------------------------------------------

CROWD = SceneConfig(kind="count", cards=(4, 9), card_side=(0.12, 0.16))


@pytest.mark.parametrize(
    "config", [CROWD, SceneConfig(kind="count"), SceneConfig(kind="count", named_by="shape", multiple_choice=True)]
)
def test_the_count_is_that_of_the_cards_so_named_and_the_points_are_their_centres(config: SceneConfig) -> None:
    for index in range(40):
        question, plan = scene(config, 2, index), layout(config, 2, index)
        named = question.text.rstrip("?").split()[-1]
        cards = [card for card in plan.cards if named in (card.colour, card.shape)]
        assert question.points == tuple(card.box.centre for card in cards)
        assert question.regions == tuple((card.box,) for card in cards)
        said = question.choices[question.answer] if question.choices else question.answer
        assert said == str(len(cards))
        if question.choices:
            assert len(set(question.choices.values())) == 4


def test_a_point_lies_on_its_card() -> None:
    for index in range(10):
        config = replace(CROWD, size=512, distractors=0)
        image, question = pixels(config, 2, index), scene(config, 2, index)
        assert question.points
        for point in question.points:
            assert tuple(image[int(point.y), int(point.x)].tolist()) != layout(config, 2, index).ground


def test_counts_are_spread_and_no_colour_gives_them_away() -> None:
    questions = Scenes(CROWD, seed=4, length=1200)[:]
    counts = Counter(question.answer for question in questions)
    assert set(counts) == set("123456")
    assert min(counts.values()) > 1200 * 0.09
    assert max(counts.values()) < 1200 * 0.28
    asked = Counter(question.text.rstrip("?").split()[-1] for question in questions)
    assert set(asked) == set(COLOURS)
    assert min(asked.values()) > 100


def test_the_other_kinds_know_no_points_and_have_the_layouts_of_one_another() -> None:
    for kind in KINDS:
        assert scene(SceneConfig(kind=kind), 0, 0).points is None
        assert layout(SceneConfig(kind=kind), 0, 0) == layout(SceneConfig(), 0, 0)
    assert layout(SceneConfig(kind="count"), 0, 0) != layout(SceneConfig(), 0, 0)


def test_counting_scenes_are_written_with_their_points_and_read_back(tmp_path: Path) -> None:
    config = SceneConfig(kind="count", size=448)
    read = load_questions(export(config, 4, 0, tmp_path))
    assert [question.points for question in read] == [scene(config, 0, index).points for index in range(4)]


@pytest.mark.parametrize("cards", [(1, 4), (5, 4), (4, 40)])
def test_cards_that_cannot_be_counted_are_refused(cards: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cards"):
        SceneConfig(kind="count", cards=cards)
