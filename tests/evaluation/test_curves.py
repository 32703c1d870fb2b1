import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import BriefGenerator

from foveate.evaluation.curves import THRESHOLDS, grounding_curves
from foveate.evaluation.grounding import Grounding
from foveate.evaluation.runner import evaluate
from foveate.evaluation.scoring import Attempt, Scored
from foveate.protocols import Direct, LocateThenAnswer
from foveate.questions.scenes import SceneConfig, Scenes


def asked(boxes, regions, iog30=0.0):
    """A question of one attempt."""
    attempt = Attempt(False, None, "answered", Grounding(iog30, 0.0, None, len(boxes), bool(boxes)), boxes, (), (), 0)
    return Scored("q", None, "", (attempt,), regions=regions)


def test_a_box_that_covers_half_is_found_below_a_half():
    [(_, iog), (_, iou)] = sorted(grounding_curves([asked(((0, 0, 10, 5),), (((0, 0, 10, 10),),))]).items())
    assert [share for _, share in iog] == [1.0] * 10 + [0.0] * 10  # the half itself is not over 0.5
    assert iou == iog  # the box lies inside, so both measure the same


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=4))
def test_curves_fall_and_iou_is_never_over_iog(corners):
    boxes = tuple((x, y, x + 15, y + 15) for x, y in corners)
    curves = grounding_curves([asked(boxes, (((10, 10, 30, 30),), ((0, 0, 9, 9),)))])
    for curve in curves.values():
        shares = [share for _, share in curve]
        assert [threshold for threshold, _ in curve] == list(THRESHOLDS)
        assert shares == sorted(shares, reverse=True)
    assert all(under <= over for (_, under), (_, over) in zip(curves["iou"], curves["iog"], strict=True))


def test_the_point_at_three_tenths_is_the_figure_of_the_summary():
    questions = Scenes(SceneConfig(size=256, view_pixels=56 * 56, kind="compare"), seed=1, length=8)[:]
    replies = BriefGenerator(lambda context, seed: f"0, 0, 56, 112; 0, 0, {56 + 4 * (seed % 9)}, 56")
    result = evaluate(questions, LocateThenAnswer(), replies, samples=3)
    curve = dict(grounding_curves(result.scored)["iog"])
    assert curve[0.3] == pytest.approx(result.summary.iog30)
    assert 0 < curve[0.95] < curve[0.3] <= curve[0.0] <= 1
    assert result.to_json()["curves"]["iog"] == list(curve.items())


def test_no_curve_without_boxes_asked_for_or_true_regions():
    questions = Scenes(SceneConfig(size=256), length=2)[:]
    replies = BriefGenerator(lambda context, seed: "0, 0, 56, 56")
    assert grounding_curves(evaluate(questions, Direct(), replies).scored) == {}
    bare = [question.without_annotations() for question in questions]
    assert "curves" not in evaluate(bare, LocateThenAnswer(), replies).to_json()
