"""The command line: what a person types, and what they are told when it goes wrong."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.evaluation.folders import make_run
from tests.questions.benchmarks import published
from typer.testing import CliRunner

from foveate.cli import app
from foveate.questions.benchmarks import BENCHMARKS
from foveate.questions.scenes import SceneConfig, export
from foveate.recipes import load_recipe, recipe_names
from foveate.training.checkpoints import checkpoints, step_of

FAST = ["--set", "optimisation.steps=2", "--set", "optimisation.questions_per_step=2", "--set", "rollout.group_size=2"]


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return export(SceneConfig(size=448), 4, 0, tmp_path / "data")


def test_help_of_every_command_has_an_example() -> None:
    for command in (
        ["demo"],
        ["train"],
        ["eval"],
        ["probe"],
        ["select-resolution"],
        ["ask"],
        ["export"],
        ["data", "scenes"],
        ["data", "check"],
        ["data", "benchmarks"],
        ["bench", "update"],
        ["bench", "rollout"],
        ["recipes", "show"],
        ["reproduce"],
        ["study"],
        ["report"],
    ):
        assert "Example" in run(*command, "--help")


def test_a_benchmark_from_check_to_its_official_figures(tmp_path: Path) -> None:
    file = published.write_tsv(tmp_path / "TreeBench.tsv", [published.tree_row(n) for n in range(2)])
    assert "2 good, 0 bad" in run("data", "check", f"treebench:{file}")
    scores = tmp_path / "scores.json"
    said = run("eval", "--data", f"treebench:{file}", "--json", scores)
    assert "treebench, as it is reported" in said
    official = json.loads(scores.read_text())["official"]
    assert official["figures"]["overall"]["questions"] == 2
    assert "Perception/Attributes" in official["figures"]


def test_benchmarks_are_listed(tmp_path: Path) -> None:
    assert "hr-bench-8k" in run("data", "benchmarks", "--json", tmp_path / "benchmarks.json")
    listed = json.loads((tmp_path / "benchmarks.json").read_text())
    assert {one["name"] for one in listed} == BENCHMARKS.keys()


def test_own_data_from_check_to_ask(tmp_path: Path, data: Path) -> None:
    assert "4 good, 0 bad" in run("data", "check", data)
    out = tmp_path / "run"
    assert "finished" in run("train", "demo", "--data", data, "--out", out, *FAST)
    scores = tmp_path / "scores.json"
    said = run("eval", "--model", out, "--data", data, "--json", scores)
    assert "asked by the recipe demo" in said
    assert "accuracy" in said
    written = json.loads(scores.read_text())
    assert (written["recipe"], written["summary"]["questions"]) == ("demo", 4)
    picture = next((data.parent / "images").glob("*.png"))
    drawn = tmp_path / "drawn.png"
    said = run("ask", picture, "Which digit is on the card coloured red?", "--model", out, "--out", drawn)
    assert said.strip()
    assert Image.open(drawn).size == (448, 448)
    told = run("ask", picture, "Which digit?", "--model", out, "--out", tmp_path / "drawn.xyz", status=2)
    assert "name a picture" in told.replace("\n", " ")


def test_probes_say_whether_the_crops_are_used(tmp_path: Path, data: Path) -> None:
    scores = tmp_path / "scores.json"
    said = run("eval", "--data", data, "--recipe", "mgpo", "--probes", "--json", scores)
    written = json.loads(scores.read_text())
    assert list(written["probes_of_all"]) == ["unchanged", "crop_alone", "noise", "true_crop", "random_crop"]
    for figures in written["probes"].values():
        if figures["accuracy"] is not None:
            assert f"{figures['title']} " in said
            assert f" {figures['accuracy']:.3f} " in said
    assert written["look_dependence"]["verdict"]["title"] in said


def test_counting_from_scenes_to_ask(tmp_path: Path) -> None:
    run("data", "scenes", "--kind", "count", "--n", 3, "--size", 448, "--out", tmp_path / "data")
    assert "3 with true points" in run("data", "check", tmp_path / "data")
    picture, drawn = next((tmp_path / "data" / "images").glob("*.png")), tmp_path / "new" / "drawn.png"
    run("ask", picture, "What number of cards is coloured red?", "--recipe", "counting", "--out", drawn)
    assert Image.open(drawn).size == (448, 448)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few questions of each kind, with true regions or points."""
    folder = tmp_path_factory.mktemp("drawn")
    return {kind: export(SceneConfig(size=448, kind=kind), 6, 0, folder / kind) for kind in ("read", "count")}


def own_data(recipe: str, drawn: dict[str, Path]) -> Path:
    """What a recipe says that it needs, and no more: question-answer pairs alone, or with the boxes or points."""
    with_all, needs = drawn["count" if "counting" in recipe else "read"], load_recipe(recipe)
    unseen = {key for key, needed in (("regions", needs.needs_regions), ("points", needs.needs_points)) if not needed}
    rows = [json.loads(line) for line in with_all.read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if key not in unseen} for row in rows]
    file = with_all.with_name(f"{recipe}.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return file


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_trains_on_own_data_and_is_evaluated(tmp_path: Path, drawn: dict[str, Path], recipe: str) -> None:
    file, out, scores = own_data(recipe, drawn), tmp_path / "run", tmp_path / "scores.json"
    smallest = ["steps=1", "questions_per_step=2", "questions_per_update=2"]
    settings = [f"optimisation.{setting}" for setting in smallest]
    settings += ["rollout.group_size=2", "rollout.max_new_tokens=12", "images.max_pixels=13000"]
    chosen = [part for setting in settings for part in ("--set", setting)]
    said = run("train", recipe, "--data", file, "--model", "tiny", "--out", out, *chosen)
    assert "finished" in said
    assert ("warning: no question of" in said) == (recipe == "lfpc-1")
    stages = load_recipe(recipe).stages
    folders = [out] if len(stages) == 1 else [out / f"{i}-{stage}" for i, stage in enumerate(stages, start=1)]
    assert json.loads((out / "run.json").read_text())["stages"] == stages
    assert len(stages) == 1 or (out / "split.json").is_file()
    for folder in folders:
        assert load_recipe(folder / "recipe.yaml") == load_recipe(recipe, settings)
        for written in ("metrics.jsonl", "rollouts.jsonl"):
            assert (folder / written).read_text().count("\n") >= 1
        [checkpoint] = (folder / "checkpoints").iterdir()
        for written in ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"):
            assert (checkpoint / written).is_file()
    said = run("eval", "--model", out, "--data", file, "--json", scores)
    assert "accuracy" in said
    assert json.loads(scores.read_text())["summary"]["questions"] == 6


def test_a_stopped_run_resumes_and_a_finished_one_is_finished(tmp_path: Path, data: Path) -> None:
    arguments = ["train", "demo", "--data", data, "--out", tmp_path / "run", *FAST]
    run(*arguments)
    assert "--resume" in run(*arguments, status=2)
    assert "finished" in run(*arguments, "--resume")
    assert "seed" in run(*arguments, "--resume", "--seed", 5, status=2)


def test_resolutions_are_selected_resumed_and_trained_on(tmp_path: Path, data: Path) -> None:
    out, figures = tmp_path / "gap", tmp_path / "figures.json"
    arguments = ["select-resolution", "--data", data, "--out", out, "--unchanged", "keep"]
    said = run(*arguments, "--json", figures)
    assert "answer changes first" in said
    assert "4 questions in" in said
    assert json.loads(figures.read_text())["levels"][0]["asked"] == 4
    assert "resume" in run(*arguments, status=2)
    assert "4 questions in" in run(*arguments, "--resume")
    assert "numbers of pixels" in run(*arguments, "--resume", "--levels", "large", status=2).replace("\n", " ")
    assert "4 with a pixel budget" in run("data", "check", out)
    assert "finished" in run("train", "demo", "--data", out, "--out", tmp_path / "run", *FAST)


def test_two_stages_from_one_file_or_from_two(tmp_path: Path, data: Path) -> None:
    settings = [*FAST, "--set", "images.max_pixels=13000", "--set", "rollout.max_new_tokens=8"]
    settings += ["--set", "stages=rl,sft"]
    out = tmp_path / "run"
    assert "finished" in run("train", "demo", "--data", data, "--out", out, *settings)
    assert (out / "1-rl/metrics.jsonl").exists()
    assert (out / "2-sft/metrics.jsonl").exists()
    for stage, withheld in (("", False), ("1-rl", True), ("2-sft", False)):
        scores = tmp_path / f"{stage}.json"
        run("eval", "--model", out / stage, "--data", data, "--json", scores)
        assert json.loads(scores.read_text())["setup"]["protocol"]["withhold_full_image"] == withheld
    both = ["--data", data, "--sft-data", data]
    told = run("train", "demo", *both, "--out", tmp_path / "shared", *settings, status=2)
    assert "is in both D_RL and D_SFT" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "heart", "--data", "scenes", "--out", "x"], "no recipe 'heart'; there are counting"),
        (["train", "hart", "--data", "nowhere.jsonl", "--out", "x"], "nowhere.jsonl"),
        (["train", "hart", "--data", "scenes", "--out", "x", "--set", "objective.k=7"], "objective.k"),
        (["train", "hart", "--data", "scenes", "--out", "x", "--set", "objective.k=["], "is no value in YAML"),
        (["eval", "--data", "scenes", "--model", "nowhere/at/all"], "nowhere/at/all"),
        (["ask", "nothing.png", "What?"], "nothing.png"),
        (["data", "check", "nothing.jsonl"], "nothing.jsonl"),
        (["data", "scenes", "--out", "x", "--kind", "riddle"], "riddle"),
    ],
)
def test_a_mistake_ends_with_a_sentence_and_no_traceback(tmp_path, monkeypatch, arguments, told) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*arguments, status=2)
    assert told in said.replace("\n", " ")
    assert "Traceback" not in said


def test_data_check_names_the_row_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"id": "1", "image": "none.png", "question": "What?", "answer": "a"}\n')
    report = tmp_path / "report.json"
    assert "none.png" in run("data", "check", file, "--json", report, status=1)
    assert json.loads(report.read_text())["bad"] == 1


def test_evaluations_are_compared_on_one_page(tmp_path: Path) -> None:
    for model in ("a", "b"):
        make_run(tmp_path / model, 5, model=model)
    out = tmp_path / "new" / "page.html"
    said = run("report", tmp_path / "a", tmp_path / "b", "--out", out, "--title", "Before & after")
    assert f"the report is in {out} ({out.stat().st_size / 1e6:.1f} MB)" in said
    assert "<h1>Before &amp; after</h1>" in out.read_text("utf-8")
    (tmp_path / "run.json").write_text("{}")
    assert "evaluate it first: foveate eval" in run("report", tmp_path, status=2).replace("\n", " ")


def test_recipes_are_listed_and_shown() -> None:
    assert "hart" in run("recipes", "list")
    assert "k: 0.3" in run("recipes", "show", "hart", "--set", "objective.k=0.3")


def test_a_recipe_that_is_shown_can_be_saved_and_used(tmp_path: Path) -> None:
    for name in recipe_names():
        shown = tmp_path / f"{name}.yaml"
        shown.write_text(run("recipes", "show", name, "--set", "objective.clip_low=0.1"))
        assert load_recipe(shown) == load_recipe(name, ["objective.clip_low=0.1"])
    assert "# paper: 0.2" in (tmp_path / "mgpo.yaml").read_text()


def test_a_run_is_probed_over_its_checkpoints(tmp_path: Path, data: Path) -> None:
    out, figures = tmp_path / "run", tmp_path / "deep" / "look.json"
    run("train", "demo", "--data", data, "--out", out, *FAST, "--save-every", 1)
    said = run("probe", "--model", out, "--data", data, "--limit", 3, "--checkpoints", "--json", figures)
    for words in ("its own crop", "no picture at all", "look dependence", "undecided", "gain", "step-000002"):
        assert words in said
    written = json.loads(figures.read_text())
    assert [one["name"] for one in written["checkpoints"]] == ["start", "step-000001", "step-000002"]
    assert written["checkpoints"][-1]["gains"] == written["gain_harm"]
    assert written["checkpoints"][0]["learned"]["in_all"]["value"] == 0
    assert sum(written["outcomes"].values()) == 3
    assert written["recipe"] == "demo"


def test_sigterm_saves_after_the_step_under_way_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [
        word
        for name, value in (("steps", 500), ("questions_per_step", 1))
        for word in ("--set", f"optimisation.{name}={value}")
    ]
    command = ["train", "demo", "--data", "scenes", "--out", str(out), *settings, "--set", "rollout.group_size=2"]
    train = subprocess.Popen(
        [sys.executable, "-c", "from foveate.cli import app; app()", *command], stdout=subprocess.PIPE, text=True
    )
    while train.poll() is None and not (out / "metrics.jsonl").exists():
        time.sleep(0.01)
    train.terminate()
    said, _ = train.communicate()
    assert train.returncode == 128 + signal.SIGTERM
    steps = (out / "metrics.jsonl").read_text().count("\n")
    [saved] = checkpoints(out / "checkpoints")
    assert step_of(saved) == steps < 500
    assert f"stopped after step {steps} of 500 of rl; go on with --resume" in " ".join(said.split())


def test_what_has_no_checkpoints_has_no_course(data: Path) -> None:
    assert "folder of a run" in " ".join(run("probe", "--data", data, "--checkpoints", status=2).split())


def test_a_model_that_makes_no_crops_is_probed(data: Path) -> None:
    said = run("probe", "--data", data, "--limit", 2, "--recipe", "grpo")
    assert "makes no crops" in said
    assert "look dependence" not in said
