"""From an image file to a box and back: what a model writes in its family's frame lands where it should."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.models import noise_view, published_processor, random_vlm
from tests.pictures import marked, red_box
from tests.scripted import ScriptedGenerator

from foveate.context import Context
from foveate.episodes import run_episodes
from foveate.images import open_image
from foveate.protocols import LocateThenAnswer
from foveate.protocols.parsing import parse_boxes
from foveate.questions.schema import Question
from foveate.regions import Box, Frame

STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is stored, by EXIF orientation."""

FRAMES = {"qwen2_5_vl": Frame.PIXEL, "qwen2_vl": Frame.THOUSAND, "qwen3_vl": Frame.THOUSAND, "internvl": Frame.THOUSAND}


def family_of(kind):
    family = random_vlm(kind=kind, processor=published_processor(kind)).family
    family.box_style = "json"
    return family


FAMILIES = {kind: family_of(kind) for kind in FRAMES}


def photograph(folder, size, box, orientation):
    """A JPEG file: blue, with a red rectangle, stored as a camera turns it."""
    upright = marked(size, box)
    turn, exif = STORED[orientation], Image.Exif()
    exif[0x0112] = orientation
    file = folder / "photograph.jpg"
    (upright if turn is None else upright.transpose(turn)).save(file, quality=95, subsampling=0, exif=exif)
    return file


def as_it_sees(view, frame):
    """The red rectangle as the shown picture itself has it, in whole units of the frame."""
    seen = red_box(view.image)
    extent = (1000, 1000) if frame is Frame.THOUSAND else view.size
    scale = [extent[0] / view.size[0], extent[1] / view.size[1]] * 2
    return [round(c * s) for c, s in zip(seen.corners, scale, strict=True)]


@pytest.mark.parametrize("kind", FRAMES)
@settings(max_examples=12)
@given(
    size=st.tuples(st.integers(200, 1400), st.integers(200, 1400)),
    place=st.tuples(*[st.integers(0, 99)] * 2, *[st.integers(20, 90)] * 2),
    orientation=st.sampled_from(sorted(STORED)),
)
@example(size=(1400, 1050), place=(10, 20, 30, 30), orientation=6)
@example(size=(900, 1300), place=(90, 90, 90, 90), orientation=3)
def test_a_box_lands_where_it_is_seen(kind, size, place, orientation, tmp_path_factory):
    """The "model" looks at the very pixels it is shown, and writes down where the red is."""
    family = FAMILIES[kind]
    width, height = (side * share // 100 for side, share in zip(size, place[2:], strict=True))
    left, top = ((side - own) * p // 99 for side, own, p in zip(size, (width, height), place[:2], strict=True))
    target = Box(left, top, left + width, top + height)
    file = photograph(tmp_path_factory.mktemp("p"), size, target.corners, orientation)

    def model(context, _seed):
        [view] = context.views
        assert view.size[0] % family.multiple == view.size[1] % family.multiple == 0
        if view.cropped:
            return r"\boxed{7}"
        return json.dumps([{"bbox_2d": as_it_sees(view, family.frame), "label": "red"}])

    question = Question(id="q", image=file, text="What is red?", answer="7")
    [[_, [episode]]] = run_episodes([question], LocateThenAnswer(), ScriptedGenerator(model, traits=family))
    assert episode.answer == "7"
    [found] = episode.boxes
    view = episode.turns[0].context.views[0]
    assert view.original_size == open_image(file).size == size
    assert max(abs(one - other) for one, other in zip(found.corners, target.corners, strict=True)) <= 2, (found, target)
    [crop] = episode.turns[1].context.views
    shown = red_box(crop.image)
    assert shown.area >= 0.9 * crop.size[0] * crop.size[1]


@pytest.mark.parametrize(("kind", "frame"), FRAMES.items())
def test_the_frames_are_the_families_own(kind, frame):
    assert FAMILIES[kind].frame is frame


@pytest.mark.parametrize("kind", FRAMES)
def test_a_model_is_told_its_frame(kind):
    family = FAMILIES[kind]
    asked = []

    def model(context, _seed):
        asked.append(context)
        return "7"

    question = Question(id="q", image=lambda: marked((1120, 896)), text="What is red?", answer="7")
    run_episodes([question], LocateThenAnswer(), ScriptedGenerator(model, traits=family))
    text = " ".join(part for part in asked[0].messages[0].parts if isinstance(part, str))
    view = asked[0].views[0]
    assert ("0 to 1000" in text) == (family.frame is Frame.THOUSAND)
    assert (f"{view.size[0]} x {view.size[1]}" in text) == (family.frame is Frame.PIXEL)


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("qwen2_5_vl", '```json\n[\n\t{"bbox_2d": [112, 84, 336, 168], "label": "sign"}\n]\n```'),
        ("qwen2_vl", "(250,250),(750,500)"),  # its own manner, the special tokens around it decoded away
        ("qwen2_vl", "the sign(250,250),(750,500)"),
        ("qwen2_vl", "<|object_ref_start|>sign<|object_ref_end|><|box_start|>(250,250),(750,500)<|box_end|>"),
        ("qwen3_vl", '[{"bbox_2d": [250, 250, 750, 500], "label": "sign"}]'),
        ("internvl", "sign[[250, 250, 750, 500]]"),  # likewise
        ("internvl", "<ref>sign</ref><box>[[250, 250, 750, 500]]</box>"),
    ],
)
def test_boxes_in_the_families_own_manner_are_read(kind, reply):
    parsed = parse_boxes(reply, FAMILIES[kind].frame, (448, 336), (448, 336))
    assert parsed.problem is None
    assert [box.corners for box in parsed.boxes] == [(112, 84, 336, 168)]


@pytest.mark.parametrize("kind", FRAMES)
def test_an_image_costs_what_it_is_said_to_cost(kind):
    family = FAMILIES[kind]
    view = noise_view(20, 10, patch=family.multiple)
    encoded = family.encode(Context.user(view, "red"))
    assert encoded.token_ids.count(family.image_token_id) == family.feature_count(view)
