"""What is right: matching first, then a judge; what a judge did not decide is no answer of the model's."""

import pytest
from tests.scripted import BriefGenerator

from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.marking import Marker
from foveate.evaluation.runner import evaluate
from foveate.protocols import Completion, Direct, FinishReason
from foveate.questions.scenes import SceneConfig, scene
from foveate.questions.schema import Question

PICTURE = scene(SceneConfig(size=256), seed=0, index=0).image


def ask(name, expected, choices=None):
    return Question(name, PICTURE, f"What of {name}?", expected, choices)


def says(*answers):
    """A model that answers the n-th question with the n-th answer."""

    def answer(context, seed):
        return answers[int(str(context.messages[0].parts[-1]).rstrip("?").split()[-1])]

    return BriefGenerator(answer)


class Judge(BriefGenerator):
    identity = "a judge"

    def __init__(self, verdict):
        self.asked = []
        super().__init__(lambda context, seed: self.asked.append(context.messages[0].parts[0]) or verdict)


QUESTIONS = [ask("0", "a bus"), ask("1", "42"), ask("2", "B", {"A": "red", "B": "blue"}), ask("3", "Paris")]
ANSWERS = says("The bus.", "43", "A", "the capital of France")


def rights(**options):
    result = evaluate(QUESTIONS, Direct(), ANSWERS, **options)
    return {scored.id: scored.attempts[0].right for scored in result.scored}, result


def test_without_a_judge_answers_match_or_are_wrong():
    assert rights()[0] == {"0": True, "1": False, "2": False, "3": False}


def test_a_tolerance_is_for_numbers_alone():
    found, result = rights(marker=Marker(tolerance=0.05))
    assert found == {"0": True, "1": True, "2": False, "3": False}
    assert result.setup["tolerance"] == 0.05
    with pytest.raises(ValueError, match="a share of the number"):
        Marker(tolerance=-1)


def test_a_judge_is_asked_about_open_answers_that_do_not_match_and_about_nothing_else():
    judge = Judge("Yes.")
    found, result = rights(marker=Marker(judge=judge))
    assert found == {"0": True, "1": True, "2": False, "3": True}
    assert len(judge.asked) == 2
    assert "Question: What of 3?\nRight answer: Paris\nAnswer given: the capital of France" in judge.asked[1]
    assert [scored.attempts[0].judged for scored in result.scored] == [False, True, False, True]
    assert result.to_json()["judged"] == 2
    assert result.setup["judge"]["identity"] == "a judge"
    assert rights(marker=Marker(judge=Judge("<think>yes or no?</think> No")))[0]["3"] is False


def test_equal_answers_of_a_question_are_judged_once():
    judge = Judge("no")
    evaluate(QUESTIONS[3:], Direct(), ANSWERS, samples=5, marker=Marker(judge=judge))
    assert len(judge.asked) == 1


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Completion((), (), "HTTP 500", FinishReason.FAILED), "the judge did not answer: HTTP 500"),
        ("It depends.", "the judge said neither yes nor no: 'It depends.'"),
    ],
)
def test_what_a_judge_did_not_decide_is_neither_right_nor_wrong(tmp_path, verdict, reason):
    found, result = rights(marker=Marker(judge=Judge(verdict)), folder=EvaluationFolder(tmp_path, {}))
    assert found == {"0": True, "2": False}
    assert result.failed == {"1": reason, "3": reason}
    assert result.summary.questions == 2
    assert rights(marker=Marker(judge=Judge("yes")), folder=EvaluationFolder(tmp_path, {}))[0]["3"] is True
