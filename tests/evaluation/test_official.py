"""Official figures, on small sets of answers whose figures can be said by hand."""

import dataclasses
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import BriefGenerator

from foveate.evaluation.grounding import Grounding
from foveate.evaluation.official import official
from foveate.evaluation.runner import evaluate
from foveate.evaluation.scoring import Attempt, Scored
from foveate.protocols import Direct, is_right
from foveate.questions.benchmarks import BENCHMARKS
from foveate.questions.scenes import SceneConfig, Scenes


def attempt(right=True, answer="A", stop="answered", iog30=None, iou=None):
    return Attempt(right, answer, stop, Grounding(iog30, iou, None, None, None), (), (), (), 1)


def one(*right, name="q", category=None, expected="A", regions=0, tags=None, attempts=None):
    made = attempts or tuple(attempt(bool(value)) for value in right)
    boxes = (((0, 0, 1, 1),),) * regions
    return Scored(name, category, expected, made, tags=tags or {}, regions=boxes)


def some(shares, **common):
    """A question for each share of right answers out of two."""
    return [one(share > 0.2, share > 0.7, name=f"{common}{n}", **common) for n, share in enumerate(shares)]


TAGS = {"cycle": "0", "base": "x", "task": "Perception", "subtask": "OCR", "l2_category": "scene", "config": "Jigsaw"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_official_figures_with_their_questions(name):
    figures = official(name, [one(1, category="c", tags=TAGS, expected="yes")])
    assert figures.figures
    assert all(figure.questions == 1 for figure in figures.figures.values())


def test_unknown_benchmarks_and_no_questions_are_refused():
    with pytest.raises(ValueError, match="no official figures for 'gqa'"):
        official("gqa", [one(1)])
    with pytest.raises(ValueError, match="no question of vstar"):
        official("vstar", [])
    with pytest.raises(ValueError, match="has no tag 'cycle'"):
        official("hr-bench-4k", [one(1, tags={"base": "x"})])


def test_the_mean_over_attempts_counts():
    figures = official("vstar", [one(1, 0, category="a", name="1"), one(1, category="b", name="2")])
    assert figures["overall"].value == 0.75
    assert figures["overall"].questions == 2
    assert (figures["a"].value, figures["b"].value) == (0.5, 1.0)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=9))
def test_a_mean_over_questions_has_an_interval_around_it(shares):
    figure = official("vstar", some(shares, category="a"))["overall"]
    assert figure.value == pytest.approx(fmean(shares))
    low, high = figure.interval
    assert low <= figure.value <= high


# HR-Bench


def rotations(base, *right, category="single", cycles="0123"):
    return [
        one(value, name=f"{base}{cycle}", category=category, tags={"base": base, "cycle": cycle})
        for cycle, value in zip(cycles, right, strict=False)
    ]


def test_hr_bench_is_the_mean_over_cycles_beside_the_strict_figure():
    scored = [
        *rotations("a", 1, 1, 1, 1),
        *rotations("b", 1, 1, 0, 0),
        *rotations("c", 1, 1, 1, 1, category="cross"),
        *rotations("d", 0, 0, 0, 0, category="cross"),
    ]
    figures = official("hr-bench-4k", scored)
    assert figures["average"].value == pytest.approx((0.75 + 0.75 + 0.5 + 0.5) / 4)
    assert (figures["single"].value, figures["cross"].value) == (0.75, 0.5)
    assert (figures["strict"].value, figures["single/strict"].value, figures["cross/strict"].value) == (0.5, 0.5, 0.5)
    assert (figures["average"].questions, figures["strict"].questions) == (16, 4)
    assert figures["average"].interval is not None
    assert figures.counts["incomplete"] == 0


def test_hr_bench_with_missing_rotations_is_over_what_is_there_and_says_so():
    scored = [*rotations("a", 1, 1, 1, 1), *rotations("b", 1, 1), *rotations("c", 0)]
    figures = official("hr-bench-8k", scored)
    assert figures["average"].value == pytest.approx((2 / 3 + 1 + 1 + 1) / 4)
    assert figures["average"].interval is None
    assert (figures["strict"].value, figures["strict"].questions) == (1.0, 1)
    assert figures.counts["incomplete"] == 2


def test_a_cycle_that_comes_twice_is_no_complete_rotation():
    figures = official("hr-bench-4k", rotations("a", 1, 1, 1, 1, cycles="0122"))
    assert figures.counts["incomplete"] == 1
    assert "strict" not in figures.figures


def test_strict_asks_for_all_rotations_to_be_right_in_the_same_attempt():
    scored = [
        one(1, 0, name=str(cycle), category="single", tags={"base": "a", "cycle": str(cycle)}) for cycle in range(3)
    ]
    last = one(0, 1, name="3", category="single", tags={"base": "a", "cycle": "3"})
    assert official("hr-bench-4k", [*scored, last])["strict"].value == 0.0
    last = one(1, 0, name="3", category="single", tags={"base": "a", "cycle": "3"})
    assert official("hr-bench-4k", [*scored, last])["strict"].value == 0.5


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=8))
def test_strict_is_never_above_the_average(right):
    scored = [one for n, base in enumerate(right) for one in rotations(str(n), *base)]
    figures = official("hr-bench-4k", scored)
    assert figures["strict"].value <= figures["average"].value + 1e-9
    assert figures["average"].value == pytest.approx(fmean(value for base in right for value in base))


# MME-RealWorld


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["Perception", "Reasoning"]), st.sampled_from(["OCR", "Monitoring", "Diagram"])),
        st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6),
        min_size=1,
    )
)
def test_mme_realworld_is_weighted_by_question(parts):
    scored = [
        question
        for (task, subtask), shares in parts.items()
        for question in some(shares, tags={"task": task, "subtask": subtask})
    ]
    figures = official("mme-realworld", scored)
    assert figures["overall"].value == pytest.approx(fmean(share for shares in parts.values() for share in shares))
    for (task, subtask), shares in parts.items():
        assert figures[f"{task}/{subtask}"].value == pytest.approx(fmean(shares))
        own = [share for (other, _), others in parts.items() if other == task for share in others]
        assert figures[task].value == pytest.approx(fmean(own))
        assert figures[task].questions == len(own)


# TreeBench and Visual CoT


def test_treebench_counts_true_boxes_and_not_questions():
    scored = [
        one(name="1", category="Perception/OCR", regions=3, attempts=(attempt(iog30=1.0, iou=0.8),)),
        one(name="2", category="Reasoning/Order", regions=1, attempts=(attempt(False, iog30=0.0, iou=0.0),)),
    ]
    figures = official("treebench", scored)
    assert figures["mean_iou"].value == pytest.approx(0.6)
    assert figures["iog30"].value == pytest.approx(0.75)
    assert figures["mean_iou"].interval is None
    assert (figures["overall"].value, figures["Perception/OCR"].value) == (0.5, 1.0)


def test_who_did_not_point_found_nothing_where_others_did():
    pointed, silent = attempt(iog30=1.0, iou=0.5), attempt()
    scored = [one(name="1", regions=1, attempts=(pointed,)), one(name="2", regions=1, attempts=(silent,))]
    figures = official("visual-cot", scored)
    assert (figures["iog30"].value, figures["mean_iou"].value) == (0.5, 0.25)
    assert figures.counts["not_pointed"] == 1
    assert "iog30" not in official("visual-cot", scored[1:]).figures


# Means over parts


def test_mmstar_and_blink_count_each_part_once():
    sizes = {"scene": [1.0] * 6, "count": [0.0, 0.0]}
    star = [q for name, shares in sizes.items() for q in some(shares, category="c", tags={"l2_category": name})]
    figures = official("mmstar", star)
    assert (figures["macro"].value, figures["overall"].value, figures["c/scene"].value) == (0.5, 0.75, 1.0)
    blink = [q for name, shares in sizes.items() for q in some(shares, tags={"config": name})]
    figures = official("blink", blink)
    assert (figures["mean"].value, figures["overall"].value, figures["count"].value) == (0.5, 0.75, 0.0)


# POPE


def said(expected, *answers, category="random", name="q"):
    attempts = tuple(
        attempt(is_right(answer, expected), answer, "answered" if answer else "unparsed") for answer in answers
    )
    return one(name=name, category=category, expected=expected, attempts=attempts)


def test_pope():
    scored = [
        said("yes", "Yes."),
        said("yes", "yes, there is one"),
        said("yes", "no"),
        said("yes", None),
        said("no", "no"),
        said("no", "Yes"),
        said("no", "nothing of the kind"),
        said("no", "No."),
    ]
    figures = official("pope", scored)
    assert figures["accuracy"].value == pytest.approx(4 / 8)
    assert figures["precision"].value == pytest.approx(2 / 3)
    assert figures["recall"].value == pytest.approx(2 / 4)
    assert figures["f1"].value == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert figures["yes_rate"].value == pytest.approx(3 / 8)
    assert figures.counts["unparsed"] == 2
    assert figures["random/recall"].value == figures["recall"].value


def test_pope_precision_of_a_model_that_never_says_yes_is_undefined():
    figures = official("pope", [said("yes", "no"), said("no", "no")])
    assert figures["precision"].value is None
    assert figures["f1"].value == 0.0
    assert figures["yes_rate"].value == 0.0


def test_pope_attempts_share_their_question():
    figures = official("pope", [said("yes", "yes", "no", "no", "no", name="1"), said("no", "no", name="2")])
    assert figures["recall"].value == 0.25
    assert figures["yes_rate"].value == 0.125


@pytest.mark.parametrize("yes", ["Yeah, there is.", '"Yes"', "The answer is yes.", "Yes there is a dog"])
def test_pope_reads_yes_as_the_marking_does(yes):
    figures = official("pope", [said("yes", yes, name="1"), said("no", yes, name="2")])
    assert figures["accuracy"].value == 0.5
    assert (figures["recall"].value, figures["precision"].value, figures["yes_rate"].value) == (1.0, 0.5, 1.0)
    assert figures.counts["unparsed"] == 0


def test_pope_takes_a_judges_word():
    judged = one(name="q", category="random", expected="yes", attempts=(attempt(True, "A dog sits there"),))
    figures = official("pope", [judged])
    assert (figures["accuracy"].value, figures["recall"].value, figures.counts["unparsed"]) == (1.0, 1.0, 0)


def test_scored_questions_keep_their_tags_and_the_number_of_their_regions():
    [scene] = Scenes(SceneConfig(size=256, view_pixels=56 * 56), seed=1, length=1)[:]
    scene = dataclasses.replace(scene, tags={"task": "Perception"})
    evaluation = evaluate([scene], Direct(), BriefGenerator(lambda context, seed: "1"))
    assert evaluation.scored[0].tags == {"task": "Perception"}
    assert len(evaluation.scored[0].regions) == len(scene.regions) == 1
