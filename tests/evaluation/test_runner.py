import json
from dataclasses import replace

import pytest
from tests.scripted import BriefGenerator as FakeGenerator
from tests.scripted import Traits

from foveate.episodes import Answerer
from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.probes import EVERY
from foveate.evaluation.runner import evaluate
from foveate.evaluation.scores import score_record, source_commit, write_scores
from foveate.evaluation.scoring import FIGURES
from foveate.generators.base import Sampling
from foveate.images import PixelBudget
from foveate.protocols import Completion, Direct, FinishReason, LocateThenAnswer, PointThenCount
from foveate.protocols.base import SharedContextError, Usage
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.questions.schema import Question
from foveate.regions import Point

CONFIG = SceneConfig(size=256, view_pixels=56 * 56)


def _reply(context, seed):
    if "locate" in str(context.messages[0].parts[-1]):
        return ("0, 0, 112, 112", "0, 0, 56, 56", "none")[seed % 3]
    return str(seed % 10)


def _evaluate(questions, **keywords):
    return evaluate(questions, LocateThenAnswer(), FakeGenerator(_reply), sampling=Sampling(1.0, 32), **keywords)


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return (
        Scenes(CONFIG, seed=1, length=12)[:]
        + Scenes(SceneConfig(size=256, view_pixels=56 * 56, kind="relation"), length=4)[:]
    )


def test_episodes_never_see_a_true_region(questions):
    evaluation = _evaluate(questions, samples=2)
    for question, group in zip(questions, evaluation.groups, strict=True):
        assert group.question == question
        assert all(episode.question.regions == () for episode in group.episodes)


def test_scores_do_not_depend_on_how_questions_are_grouped(questions):
    whole, single = _evaluate(questions, samples=3, at_once=64), _evaluate(iter(questions), samples=3, at_once=1)
    assert whole.summary == single.summary
    assert whole.scored == single.scored
    assert whole.setup["data_sha256"] == single.setup["data_sha256"]


def test_the_seed_decides(questions):
    assert _evaluate(questions, seed=5).scored == _evaluate(questions, seed=5).scored
    assert _evaluate(questions, seed=5).scored != _evaluate(questions, seed=6).scored


def test_figures_are_means_over_questions(questions):
    evaluation = _evaluate(questions, samples=4)
    attempts = [attempt for scored in evaluation.scored for attempt in scored.attempts]
    assert evaluation.summary.accuracy == pytest.approx(sum(a.right for a in attempts) / len(attempts))
    assert evaluation.summary.valid_boxes == pytest.approx(sum(len(a.boxes) > 0 for a in attempts) / len(attempts))
    assert 0 < evaluation.summary.box_area <= 1
    assert evaluation.summary.questions == len(questions)
    for name in FIGURES:
        low, high = evaluation.summary.intervals[name]
        assert low <= evaluation.summary.figure(name) <= high


def test_categories_make_up_the_whole(questions):
    evaluation = _evaluate(questions)
    parts = evaluation.by_category
    assert {name: part.questions for name, part in parts.items()} == {"read": 12, "relation": 4}
    assert sum(p.accuracy * p.questions for p in parts.values()) / 16 == pytest.approx(evaluation.summary.accuracy)


def test_without_true_regions_grounding_is_undefined(questions):
    summary = _evaluate([question.without_annotations() for question in questions]).summary
    assert summary.iog30 is None
    assert summary.mean_iou is None
    assert summary.box_area is not None
    assert set(summary.intervals) == {"accuracy", "box_area", "boxes", "valid_boxes"}


def test_a_protocol_without_boxes(questions):
    summary = evaluate(questions, Direct(), FakeGenerator(_reply)).summary
    assert (summary.iog30, summary.box_area, summary.valid_boxes) == (None, None, None)


def test_kept_groups_and_progress(questions):
    seen = []
    evaluation = _evaluate(questions, at_once=5, keep=3, on_progress=seen.append)
    assert [group.question.id for group in evaluation.groups] == [question.id for question in questions[:3]]
    assert seen == [5, 5, 5, 1]
    assert len(evaluation.scored) == 16


def test_every_way_of_ending_is_counted(questions):
    evaluation = evaluate(questions, LocateThenAnswer(), FakeGenerator(lambda context, seed: "nothing"))
    assert evaluation.stops == {"no_region": 16}
    assert evaluation.summary.accuracy == 0


def test_counting_is_scored_by_its_answers_and_by_no_box():
    counted = Scenes(SceneConfig(size=448, kind="count"), length=8)[:]
    evaluation = evaluate(counted, PointThenCount(), FakeGenerator(lambda context, seed: "8 8 100 100 2"))
    assert evaluation.summary.accuracy == sum(question.answer == "2" for question in counted) / 8
    assert [name for name in FIGURES if evaluation.summary.figure(name) is not None] == ["accuracy"]
    for group in evaluation.groups:
        assert all(episode.question.points is None and len(episode.points) == 2 for episode in group.episodes)


@pytest.mark.parametrize("probes", [None, EVERY])
def test_two_models_that_are_the_same_score_as_one_row_by_row(questions, probes):
    alone = _evaluate(questions, samples=3, probes=probes)
    together = _evaluate(
        questions, samples=3, probes=probes, answerer=Answerer(LocateThenAnswer(), FakeGenerator(_reply))
    )
    for one, two in zip(alone.scored, together.scored, strict=True):
        for attempt in two.attempts:
            located, answered = attempt.by_model
            assert located.tokens + answered.tokens == attempt.tokens
            assert located.visual_tokens + answered.visual_tokens == attempt.visual_tokens
            assert (answered.tokens > 0) == (attempt.stop != "no_region")
        assert replace(two, attempts=tuple(replace(attempt, by_model=None) for attempt in two.attempts)) == one
    setup = dict(together.setup)
    assert setup.pop("answerer") == {"protocol": setup["protocol"], "family": setup["family"]}
    assert setup == alone.setup
    by_model = together.to_json()["by_model"]
    for name in ("tokens_per_question", "visual_tokens_per_question"):
        summed = sum(part[name] for part in by_model.values())
        assert summed == pytest.approx(alone.to_json()[name])
    assert "by_model" not in alone.to_json()


def test_each_of_two_models_has_its_own_costs(questions):
    """Views in visual tokens of its own size; what an endpoint counted only where there is one."""
    own = Traits(multiple=32, budget=PixelBudget(32 * 32, 32 * 32 * 50))
    reply = Completion((), (), "7", FinishReason.END, Usage(100, 3))
    answerer = FakeGenerator(lambda context, seed: reply, own)
    locator = FakeGenerator(lambda context, seed: Completion((1, 2), (), "0, 0, 28, 56", FinishReason.END))
    protocol = LocateThenAnswer()
    result = evaluate(questions[:2], protocol, locator, answerer=Answerer(protocol, answerer))
    for scored, group in zip(result.scored, result.groups, strict=True):
        [attempt], [episode] = scored.attempts, group.episodes
        [crop] = episode.turns[1].context.views
        located, answered = attempt.by_model
        assert (located.tokens, located.visual_tokens, located.prompt_tokens) == (2, 16, None)
        assert (answered.tokens, answered.prompt_tokens) == (3, 100)
        assert answered.visual_tokens == crop.size[0] * crop.size[1] // 32**2
        assert (attempt.tokens, attempt.prompt_tokens) == (5, 100)
    costs = result.to_json()["by_model"]
    assert "prompt_tokens_per_question" not in costs["locator"]
    assert costs["answerer"]["prompt_tokens_per_question"] == 100
    assert result.setup["answerer"]["family"]["multiple"] == 32


def test_two_models_are_refused_before_a_folder_is_touched(tmp_path, questions):
    answerer = Answerer(Direct(), FakeGenerator(_reply))
    folder = EvaluationFolder(tmp_path / "run", {})
    with pytest.raises(SharedContextError):
        evaluate(questions, Direct(), FakeGenerator(_reply), answerer=answerer, folder=folder)
    assert not (tmp_path / "run").exists()


def test_no_questions():
    with pytest.raises(ValueError, match="no questions"):
        _evaluate([])


def test_the_data_hash_tells_pictures_and_words_apart_but_not_folders(tmp_path, questions):
    def digest(image, **changes):
        row = {"id": "1", "image": image, "text": "what?", "answer": "7", **changes}
        return _evaluate([Question(**row)]).setup["data_sha256"]

    picture = questions[0].image()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / "x.png")
    first = digest(tmp_path / "a" / "x.png")
    assert first == digest(tmp_path / "b" / "x.png") == digest((tmp_path / "a" / "x.png").read_bytes())
    assert first != digest(tmp_path / "a" / "x.png", answer="8")
    assert first != digest(tmp_path / "a" / "x.png", view_pixels=784)
    counted = [digest(tmp_path / "a" / "x.png", points=points) for points in (None, (), (Point(1, 2),), (Point(2, 1),))]
    assert counted[0] == first
    assert len(set(counted)) == 4
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(tmp_path / "a" / "x.png")
    assert first != digest(tmp_path / "a" / "x.png")
    assert digest(lambda: picture) == digest(picture.copy)  # not the function's address


def test_the_score_file_says_what_the_score_depends_on(tmp_path, questions):
    evaluation = _evaluate(questions, samples=2, seed=4)
    path, lines = write_scores(
        tmp_path / "out" / "scores.json", evaluation, score_record(evaluation, model="tiny", more={"recipe": "hart"})
    )
    record = json.loads(path.read_text())
    assert record["model"] == "tiny"
    assert record["recipe"] == "hart"
    assert record["foveate"]["version"]
    assert record["setup"]["sampling"] == {"name": "Sampling", "temperature": 1.0, "max_new_tokens": 32}
    assert record["setup"]["protocol"]["name"] == "LocateThenAnswer"
    assert record["setup"]["family"]["budget"] == {"min_pixels": 784, "max_pixels": 12544}
    assert record["setup"]["seed"] == 4
    assert record["setup"]["prompts"][0] == ["<image 112x112>", f"locate {questions[0].text}"]
    assert record["summary"] == json.loads(json.dumps(evaluation.summary.to_json()))
    assert set(record["summary"]["intervals"]) == set(FIGURES)
    assert record["unparsed"] == 0
    assert record["tokens_per_question"] > 0
    assert record["seconds_per_question"] > 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["id"] for row in rows] == [question.id for question in questions]
    assert all(len(row["attempts"]) == 2 for row in rows)


def test_the_commit_is_only_of_the_packages_own_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.__file__", str(tmp_path / "__init__.py"))
    assert source_commit() is None
