"""A table run for real, on the embedded model and scenes: trained, evaluated, compared, and not done twice."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foveate.cli import app
from foveate.questions.scenes import SceneConfig, export
from foveate.reproduction import run as run_module
from foveate.training import loop

SMALL = [
    word
    for setting in (
        "images.max_pixels=13000",
        "rollout.max_new_tokens=8",
        "rollout.group_size=2",
        "optimisation.steps=1",
        "optimisation.questions_per_step=2",
    )
    for word in ("--set", setting)
]


def reproduce(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["reproduce", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    export(SceneConfig(size=448), 6, 0, folder / "train")
    export(SceneConfig(size=448), 3, 1, folder / "test")
    return folder


def test_tables_are_listed() -> None:
    assert "hart/table-2" in reproduce()


def test_a_base_and_a_trained_row_from_data_to_comparison(tmp_path: Path, data: Path, monkeypatch) -> None:
    given = ["--data", f"mme-realworld={data / 'train'}", "--data", f"treebench={data / 'test'}"]
    given += ["--data", f"visual-cot={data / 'test'}", "--model", "tiny", "--out", tmp_path / "out"]
    rows = ["--row", "Qwen2.5-VL-7B", "--row", "AP-GRPO"]
    said = reproduce("hart/grounding", *given, *rows, *SMALL)
    assert "(50.2)" in said
    figures = json.loads((tmp_path / "out/hart/grounding.json").read_text())["rows"]
    for method in ("Qwen2.5-VL-7B", "AP-GRPO"):
        assert set(figures[method]["ours"]) == {"TreeBench", "Visual CoT"}
        assert all(0 <= value <= 100 for value in figures[method]["ours"].values())
    assert figures["GRPO"]["left_out"] == "not asked for"
    assert figures["AP-GRPO"]["published"]["Visual CoT"] == 77.7
    scores = [path for path in (tmp_path / "out/scores").glob("*.json")]
    assert len(scores) == 4
    assert all(json.loads(path.read_text())["command"].startswith("foveate eval") for path in scores)

    def again(*_args: object, **_options: object) -> None:
        pytest.fail("what is finished is done again")

    monkeypatch.setattr(run_module, "evaluate_model", again)
    monkeypatch.setattr(loop.Trainer, "run", again)
    reproduce("hart/grounding", *given, *rows, *SMALL)
    assert json.loads((tmp_path / "out/hart/grounding.json").read_text())["rows"] == figures


def test_a_row_is_never_measured_over_fewer_questions_and_goes_on(tmp_path: Path, data: Path) -> None:
    shutil.copytree(data / "test", tmp_path / "test")
    broken = sorted((tmp_path / "test/images").iterdir())[1]
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    given = ["hart/grounding", "--row", "Qwen2.5-VL-7B", "--model", "tiny", "--out", tmp_path / "out", *SMALL]
    given += [f"--data={name}={tmp_path / 'test'}" for name in ("treebench", "visual-cot")]
    said = " ".join(reproduce(*given, status=2).split())
    assert "1 of the questions of" in said
    assert "is not asked again" in said
    assert not list((tmp_path / "out/scores").glob("*.json"))
    [unfinished] = (tmp_path / "out/scores").glob("*/questions.jsonl")
    answered = unfinished.read_text().splitlines()
    assert len(answered) == 2

    broken.write_bytes(whole)
    reproduce(*given)
    assert unfinished.read_text().splitlines()[:2] == answered
    for file in (tmp_path / "out/scores").glob("*.json"):
        assert json.loads(file.read_text())["summary"]["questions"] == 3


def test_tables_of_probes(tmp_path: Path, data: Path) -> None:
    given = ["--data", f"vstar={data / 'test'}", "--model", "tiny", "--out", tmp_path / "out", *SMALL]
    given += ["--set", "optimisation.questions_per_update=2"]
    assert "(47.1)" in reproduce("mgpo/crops", "--row", "Qwen2.5-VL-7B", *given)
    [file] = (tmp_path / "out/scores").glob("*.json")
    probes = json.loads(file.read_text())["probes"]
    figures = json.loads((tmp_path / "out/mgpo/crops.json").read_text())["rows"]["Qwen2.5-VL-7B"]["ours"]
    assert figures == {"V*": pytest.approx(100 * probes["crop_alone"]["accuracy"])}
    assert probes["true_crop"]["questions"] == 3

    given += ["--data", f"lfpc-stage-1={data / 'train'}"]
    given += [f"--data={name}={data / 'test'}" for name in ("hr-bench-8k", "hr-bench-4k")]
    said = reproduce("lfpc/dependence", "--row", "baseline", *given)
    assert "(4.5)" in said
    assert "warning: no question" in said, "which is what makes it the baseline"
    figures = json.loads((tmp_path / "out/lfpc/dependence.json").read_text())["rows"]["baseline"]["ours"]
    assert set(figures) == {"HR-Bench-8K", "HR-Bench-4K", "V*", "V*, true crop"}
    assert all(-100 <= value <= 100 for value in figures.values())


def test_figures_of_the_training_itself(tmp_path: Path, data: Path) -> None:
    reproduce(
        "mgpo/coordinates", "--row", "MGPO", "--model", "tiny", "--data", f"mme-realworld={data / 'train'}",
        "--out", tmp_path, "--set", "optimisation.questions_per_update=2", *SMALL,
    )  # fmt: skip
    ours = json.loads((tmp_path / "mgpo/coordinates.json").read_text())["rows"]["MGPO"]["ours"]
    assert ours["at the start"] == ours["at the end"]
    assert 0 <= ours["at the start"] <= 100


def test_missing_data_is_asked_for_by_name_before_anything_runs(tmp_path: Path) -> None:
    said = reproduce("hart/grounding", "--model", "tiny", "--out", tmp_path / "out", status=2)
    assert "--data mme-realworld=PATH" in said
    assert "21,690 questions" in said
    given = [f"--data={name}=none.jsonl" for name in ("mme-realworld", "treebench", "visual-cot")]
    assert "none.jsonl" in reproduce("hart/grounding", "--model", "tiny", *given, "--out", tmp_path / "out", status=2)
    assert not (tmp_path / "out").exists()
    assert "write NAME=PATH" in reproduce("hart/grounding", "--data", "treebench", status=2)


def test_a_dry_run_runs_nothing(tmp_path: Path) -> None:
    said = reproduce("mgpo/turns", "--dry-run", "--out", tmp_path / "out", "--set", "optimisation.steps=7")
    assert "protocol.turns=3" in said
    assert "steps=7" in said
    assert "steps=43" not in said
    assert not (tmp_path / "out").exists()
