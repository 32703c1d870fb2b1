import pytest
from tests.study.cells import make

from foveate.study.analysis import Difference
from foveate.study.claims import Claim, Comparison, Judgement, Outcome, Verdict, judge, verdict
from foveate.study.results import StudyError

POLICY = Claim(
    "b",
    "AP-GRPO grounds better than GRPO's plain advantages.",
    (Comparison("k = 0.6 against k = 0", "loop/iog30", "hart", "hart-k0", 1),),
)
LEAD = Claim(
    "h",
    "A smaller pixel budget widens MGPO's lead.",
    (Comparison("lead at a small budget", "loop/accuracy", ("mgpo-s", "grpo-s"), ("mgpo", "grpo"), 1),),
)
MORE = Comparison("a third turn", "three/accuracy", "mgpo", "mgpo", 1, figure_b="two/accuracy")


def found(low, high):
    return Difference((low + high) / 2, low, high, {0: low, 1: high}, 100, None)


@pytest.mark.parametrize(
    ("expected", "interval", "said"),
    [
        (1, (0.01, 0.2), "holds"),
        (-1, (0.01, 0.2), "opposite"),
        (1, (-0.3, -0.1), "opposite"),
        (-1, (-0.3, -0.1), "holds"),
        (1, (-0.1, 0.2), "not shown"),
        (-1, (0.0, 0.2), "not shown"),
        (0, (-0.04, 0.05), "holds"),
        (0, (0.01, 0.04), "holds"),
        (0, (-0.02, 0.06), "undecided"),
        (0, (0.06, 0.2), "opposite"),
        (0, (-0.2, -0.06), "opposite"),
    ],
)
def test_what_an_interval_says(expected, interval, said):
    comparison = Comparison("", "own/accuracy", "a", "b", expected)
    assert verdict(comparison, found(*interval)) == said


def test_claims_are_judged_by_the_cells():
    ways = {"ways": ("loop",)}
    cells = [
        *make("hart", place=0.65, **ways),
        *make("hart-k0", place=0.4, **ways),
        *make("mgpo-s", accuracy=0.7, **ways),
        *make("grpo-s", accuracy=0.3, **ways),
        *make("mgpo", accuracy=0.75, **ways),
        *make("grpo", accuracy=0.7, **ways),
    ]
    policy, lead = judge([POLICY, LEAD], cells)
    assert (policy.verdict, lead.verdict) == ("holds", "holds")
    assert lead.outcomes[0].difference.value == pytest.approx(0.35, abs=0.1)
    assert policy.outcomes[0].difference.p <= policy.outcomes[0].holm


def test_the_same_method_asked_in_two_ways():
    (judged,) = judge([Claim("g", "One more turn helps.", (MORE,))], make("mgpo", ways=("two", "three")))
    assert judged.outcomes[0].difference is not None
    assert judged.verdict == "not shown"


def test_what_is_not_there_is_not_run():
    (judged,) = judge([POLICY], make("hart", ways=("loop",)))
    assert (judged.verdict, judged.outcomes[0].reason) == ("not run", "there are no cells of hart-k0")
    (judged,) = judge([POLICY], [*make("hart"), *make("hart-k0")])
    assert judged.verdict == "not run"
    assert "not measured" in judged.outcomes[0].reason


def test_a_claim_about_a_method_of_several_bases_must_name_one():
    cells = [*make("hart", ways=("loop",)), *make("hart", ways=("loop",), base="prior"), *make("hart-k0")]
    with pytest.raises(StudyError, match="hart@prior or hart@view"):
        judge([POLICY], cells)


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "opposite"], "holds in part"),
        (["holds", "not run"], "holds in part"),
        (["not shown", "opposite"], "opposite"),
        (["not shown", "not run"], "not shown"),
        (["not run", "not run"], "not run"),
    ],
)
def test_a_claim_holds_when_all_of_it_does(verdicts, together):
    outcomes = tuple(Outcome(MORE, None, Verdict(each)) for each in verdicts)
    assert Judgement(POLICY, outcomes).verdict == together


def test_p_is_corrected_over_all_claims_together():
    cells = [*make("a"), *make("b", accuracy=0.5), *make("c", accuracy=0.4)]
    pairs = [Claim(x, "", (Comparison("", "own/accuracy", "a", x, 1),)) for x in "bc"]
    outcomes = [judged.outcomes[0] for judged in judge(pairs, cells)]
    low, high = sorted(outcomes, key=lambda outcome: outcome.difference.p)
    assert low.holm == pytest.approx(min(1, 2 * low.difference.p))
    assert high.holm == pytest.approx(max(low.holm, high.difference.p))


def test_a_method_cannot_be_compared_with_a_pair():
    with pytest.raises(ValueError, match="both be pairs"):
        Comparison("", "own/accuracy", "a", ("b", "c"), 1)


def test_a_comparison_that_expects_nothing_is_not_corrected_and_corrects_nothing():
    cells = [*make("hart", place=0.65, ways=("loop",)), *make("hart-k0", place=0.4, ways=("loop",))]
    nothing = Claim("i", "It adds nothing.", (Comparison("", "loop/accuracy", "hart", "hart-k0", 0),))
    policy, added = (judged.outcomes[0] for judged in judge([POLICY, nothing], cells))
    assert policy.holm == policy.difference.p
    assert (added.holm, added.difference.p is None) == (None, False)
