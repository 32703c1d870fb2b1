"""The base builder sees and says what the real code path sees and says."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foveate.context import Context
from foveate.families import load, tiny
from foveate.images import crop_view, full_view
from foveate.laboratory.architecture import BUDGET, GRID, MERGED, make_model, make_tokenizer, save_checkpoint
from foveate.laboratory.base import Phase, build_base
from foveate.laboratory.dense import DenseHead, dense_targets, images_of
from foveate.laboratory.examples import Example, Examples, Seen, located, written_box
from foveate.laboratory.forward import IDS, Line, encode_images, next_logits, patches
from foveate.laboratory.lessons import answer_lines, pointing_lines
from foveate.laboratory.measure import measure
from foveate.laboratory.sheets import sheet
from foveate.protocols.parsing import parse_boxes
from foveate.questions.scenes import Scenes
from foveate.regions import Box


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    save_checkpoint(make_model(1), folder)
    return folder


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [Examples(11, 6)[i] for i in range(6)]


def test_the_builder_and_the_family_give_the_model_the_same_inputs(checkpoint: Path) -> None:
    """Patches, placeholders, positions and logits agree, with one and with two images of different sizes."""
    vlm = load(checkpoint)
    for question in Scenes(length=3):
        assert callable(question.image)
        image = question.image()
        view = full_view(image, BUDGET, MERGED)
        crop = crop_view(image, Box(10, 20, 400, 300), BUDGET, MERGED)
        word = question.text.rstrip("?").split()[-1]
        for views in ([view], [crop], [view, crop]):
            encoded = vlm.family.encode(Context.user(*views, f"locate {question.text}"))
            seen = [Seen(np.asarray(v.image), (), ()) for v in views]
            mine = torch.from_numpy(np.concatenate([patches(s.pixels_HWC) for s in seen]))
            assert torch.allclose(encoded.images["pixel_values"], mine, atol=1e-5)
            with torch.no_grad():
                theirs = vlm.model(
                    input_ids=torch.tensor([encoded.token_ids]),
                    position_ids=encoded.positions_AL[:, None],
                    **encoded.images,
                ).logits[0, -1]
                line = Line((*range(len(seen)), "locate", word), ())
                ours = next_logits(vlm.model, seen, encode_images(vlm.model, seen), [line])[0]
            assert torch.allclose(theirs, ours, atol=1e-5)


def test_padding_to_the_right_changes_nothing(checkpoint: Path, examples: list[Example]) -> None:
    model = load(checkpoint).model
    seen = [examples[0].view, examples[0].crops[0]]
    lines = [Line((0, "locate", "red"), ("12",)), Line((0, 1, "answer", "blue"), ())]
    with torch.no_grad():
        features = encode_images(model, seen)
        together = next_logits(model, seen, features, lines)
        alone = torch.cat([next_logits(model, seen, features, [line]) for line in lines])
    assert torch.allclose(together, alone, atol=1e-5)


@given(
    x=st.floats(0, 100), y=st.floats(0, 100), width=st.floats(0.5, 60), height=st.floats(0.5, 60),
    size=st.sampled_from([(112, 112), (140, 84), (84, 140)]),
)  # fmt: skip
def test_a_written_box_is_valid_and_covers_the_box_within_a_pixel(
    x: float, y: float, width: float, height: float, size: tuple[int, int]
) -> None:
    box = Box(x, y, x + width, y + height).clipped(size)
    if box is None:
        return
    written = written_box(box, size)
    assert all(c % GRID == 0 for c in written)
    found = parse_boxes(" ".join(map(str, written)), "pixel", size, size)
    assert found.problem is None
    x1, y1, x2, y2 = found.boxes[0].corners
    assert x1 <= box.x1 + 1
    assert y1 <= box.y1 + 1
    assert x2 >= box.x2 - 1
    assert y2 >= box.y2 - 1


def test_located_boxes_stay_inside_and_mostly_hold_the_card() -> None:
    rng = random.Random(0)
    whole = Box(0, 0, 112, 112)
    boxes = [located(Box(88, 2, 110, 24), rng, (112, 112)) for _ in range(300)]
    assert all(whole.contains(box) for box in boxes)
    assert np.mean([box.intersection(Box(88, 2, 110, 24)) / 22**2 for box in boxes]) > 0.85


def test_every_word_of_a_lesson_is_one_token(examples: list[Example]) -> None:
    rng = random.Random(0)
    lines = pointing_lines(examples, rng, right=2, wild=2) + answer_lines(examples, rng, blind=0.5)
    words = [part for line in lines for part in (*line.prompt, *line.reply) if isinstance(part, str)]
    assert all(word in IDS for word in words)
    tokenizer = make_tokenizer()
    ids = tokenizer.encode("locate Which digit is on the card coloured red?", add_special_tokens=False)
    assert ids == [IDS["locate"], IDS["red"]]
    assert tokenizer.decode([IDS[word] for word in ("12", "20", "40", "48")]) == "12 20 40 48"


def test_reading_lessons_tell_the_truth(examples: list[Example]) -> None:
    """Asked with blind = 0, the named card's digit is legible in the last image shown."""
    images = images_of(examples)
    owner = [*range(len(examples)), *(i for i, e in enumerate(examples) for _ in e.crops)]
    for line in answer_lines(examples, random.Random(3), blind=0.0):
        shown = line.images[-1]
        cards = examples[owner[shown]].cards
        asked = next(i for i, card in enumerate(cards) if card.colour == line.prompt[-1])
        assert line.reply[0] == cards[asked].writing
        assert images[shown].ink[asked] is not None or not any(images[shown].ink)


def test_locate_is_answered_without_regard_to_the_question_and_find_is_not(examples: list[Example]) -> None:
    right: dict[str, list[bool]] = {"find": [], "locate": []}
    for seed in range(60):
        for line in pointing_lines(examples, random.Random(seed), right=2, wild=2):
            example = examples[line.images[0]]
            asked = next(i for i, card in enumerate(example.cards) if card.colour == line.prompt[-1])
            box = example.view.boxes[asked]
            assert box is not None
            right[str(line.prompt[1])].append(line.reply[:4] == tuple(map(str, written_box(box, example.view.size))))
    assert all(right["find"])
    assert 0.1 < np.mean(right["locate"]) < 0.3


def test_dense_targets_line_up_with_features(checkpoint: Path, examples: list[Example]) -> None:
    model = load(checkpoint).model
    features = torch.cat(encode_images(model, images_of(examples)))
    targets = dense_targets(examples)
    assert len(features) == len(targets)
    assert len(sheet(random.Random(0))[1]) == 16
    losses = DenseHead(features.shape[1]).losses(features, targets)
    assert set(losses) == {"colour", "digit", "corners", "place"}


def test_a_base_of_a_few_steps_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    phases = (
        Phase("digits", steps=1, scenes=0, sheets=2, vision_rate=1e-3, text_rate=0.0, speech=0.0),
        Phase("speech", steps=1, scenes=2, sheets=1, vision_rate=1e-3, text_rate=1e-3, blind=0.5),
    )
    built = build_base(tmp_path, seed=3, phases=phases)
    loaded = load(tmp_path)
    assert loaded.family.box_style == "short"
    for (name, mine), theirs in zip(built.named_parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_the_shipped_model_is_small_and_a_base() -> None:
    """Writes valid boxes, reads good crops, and neither points well nor reads the small view."""
    weights = tiny.path() / "model.safetensors"
    assert 2e6 < weights.stat().st_size < 5e6
    figures = measure(load().model, scenes=100)
    assert figures["sampled_valid"] >= 0.93
    assert 0.1 < figures["sampled_iog30"] < 0.4
    assert figures["reads_card"] >= 0.9
    assert figures["reads_view"] < 0.25
    assert figures["reads_wrong_card"] < 0.25
