import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import BriefGenerator

from foveate.episodes import Episode, Group, run_episodes
from foveate.evaluation.grounding import best_iou, grounding_of, iog_hit, measured
from foveate.generators.base import Sampling
from foveate.protocols import Direct, LocateThenAnswer
from foveate.questions.scenes import SceneConfig, scene
from foveate.questions.schema import Question
from foveate.regions import Box, box_area, iog

SIZE = (640, 480)
WHOLE = Box(0, 0, *SIZE)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Any box inside the image, at least a hundredth of a pixel wide and high."""
    x1 = draw(st.floats(0, SIZE[0] - 0.02))
    y1 = draw(st.floats(0, SIZE[1] - 0.02))
    return Box(x1, y1, draw(st.floats(x1 + 0.01, SIZE[0])), draw(st.floats(y1 + 0.01, SIZE[1])))


regions = st.lists(st.lists(boxes(), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


@given(st.lists(boxes(), max_size=40), regions, st.floats(0, 1))
def test_figures_are_shares(predicted, true, threshold):
    assert 0 <= iog_hit(predicted, true, threshold) <= 1
    assert 0 <= best_iou(predicted, true) <= 1 + 1e-9
    area = box_area(predicted, SIZE)
    assert (area is None) == (not predicted)
    assert area is None or 0 < area <= 1 + 1e-9


@given(regions)
def test_the_whole_image_finds_every_region_and_its_area_tells(true):
    assert iog_hit([WHOLE], true, 0.99) == 1
    assert box_area([WHOLE], SIZE) == 1


@given(regions)
def test_no_box_finds_nothing(true):
    assert iog_hit([], true) == 0
    assert best_iou([], true) == 0


@given(st.lists(boxes(), min_size=1, max_size=40), boxes(), regions)
def test_one_more_box_never_finds_less(predicted, more, true):
    assert iog_hit([*predicted, more], true) >= iog_hit(predicted, true)
    assert best_iou([*predicted, more], true) >= best_iou(predicted, true)


@given(st.lists(boxes(), max_size=8), regions)
def test_a_higher_threshold_never_finds_more(predicted, true):
    hits = [iog_hit(predicted, true, threshold / 20) for threshold in range(20)]
    assert hits == sorted(hits, reverse=True)


@given(regions)
def test_the_true_boxes_themselves_are_perfect(true):
    assert iog_hit([region[0] for region in true], true) == 1
    for level in range(min(len(region) for region in true)):
        assert best_iou([region[level] for region in true], true) == pytest.approx(1)


def test_iog_is_of_the_smallest_level_and_iou_of_the_best():
    writing, card = Box(10, 10, 20, 20), Box(0, 0, 100, 100)
    assert iog_hit([Box(40, 40, 100, 100)], [(writing, card)]) == 0  # most of the card, none of its writing
    assert best_iou([card], [(writing, card)]) == 1
    assert iog_hit([Box(10, 10, 13, 20)], [(writing,)]) == 0  # 0.3 exactly: not more than 0.3
    assert iog_hit([Box(10, 10, 13.1, 20)], [(writing,)]) == 1


def test_the_share_counts_regions_not_boxes():
    true = [(Box(0, 0, 10, 10),), (Box(100, 100, 110, 110),)]
    assert iog_hit([Box(0, 0, 10, 10)] * 40, true) == 0.5


def test_no_true_region_is_an_error_not_a_number():
    with pytest.raises(ValueError, match="no true region"):
        iog_hit([WHOLE], [])
    with pytest.raises(ValueError, match="no true region"):
        best_iou([WHOLE], [])


def test_boxes_over_the_edge_count_only_inside():
    assert box_area([Box(-640, 0, 640, 480)], SIZE) == 1
    assert box_area([Box(700, 0, 800, 480)], SIZE) == 0


# --- whole episodes ---------------------------------------------------------------------------------------------


def _episode(located: str, protocol=None) -> tuple[Question, Episode]:
    question = scene(SceneConfig(size=256, view_pixels=56 * 56), 0, 0)
    generator = BriefGenerator(lambda context, seed: located if "locate" in str(context.messages[0].parts[-1]) else "7")
    group = run_episodes(
        [question.without_annotations()], protocol or LocateThenAnswer(), generator, sampling=Sampling(0)
    )
    return question, group[0].episodes[0]


def test_an_episode_without_a_valid_box():
    question, episode = _episode("over there")
    assert measured(episode, question.regions) == measured(episode, question.regions)
    look = measured(episode, question.regions)
    assert (look.iog30, look.mean_iou, look.box_area, look.valid_boxes) == (0, 0, None, False)


def test_an_episode_over_the_whole_image():
    question, episode = _episode("0, 0, 112, 112")
    look = measured(episode, question.regions)
    assert (look.iog30, look.box_area, look.valid_boxes) == (1, 1, True)
    assert look.mean_iou == pytest.approx(question.regions[0][1].area / 256**2)


def test_an_episode_without_true_regions():
    _, episode = _episode("0, 0, 56, 112")
    look = measured(episode, ())
    assert (look.iog30, look.mean_iou, look.box_area, look.valid_boxes) == (None, None, 0.5, True)


def test_an_episode_never_asked_for_boxes():
    question, episode = _episode("7", Direct())
    look = measured(episode, question.regions)
    assert (look.iog30, look.mean_iou, look.box_area, look.valid_boxes) == (None, None, None, None)


def test_predicted_boxes_are_measured_in_original_pixels():
    question, episode = _episode("0, 0, 56, 56")
    quarter = Box(0, 0, 128, 128)
    assert episode.boxes == (quarter,)
    assert measured(episode, question.regions).iog30 == float(iog(quarter, question.regions[0][0]) > 0.3)


def test_rollouts_are_measured_from_outside():
    question, whole = _episode("0, 0, 112, 112")
    _, none = _episode("nowhere")
    group = Group(question.without_annotations(), (whole, none))
    figures = grounding_of([group], {question.id: question})
    assert figures["iog30"] == 0.5
    assert all(math.isfinite(value) for value in figures.values())
    assert grounding_of([group], {question.id: question.without_annotations()}) == {}
    assert grounding_of([], {}) == {}
