"""Trackers hold the metrics; one that fails costs the run nothing but a warning."""

import importlib.util
import json
from pathlib import Path
from typing import ClassVar

import pytest
from accelerate import tracking as accelerates
from accelerate.utils import LoggerType

from foveate.families import load
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import load_recipe
from foveate.training import StepReport, Trainer, tracking
from foveate.training.tracking import TrackerError

SCENES = Scenes(SceneConfig(size=448), seed=3, length=64)
SMALL = (
    "optimisation.questions_per_step=2",
    "rollout.group_size=2",
    "rollout.max_new_tokens=4",
    "images.max_pixels=13000",
)


def trainer(run_dir: Path, *trackers: str, steps: int = 4, **options) -> Trainer:
    recipe = load_recipe("demo", [*SMALL, f"optimisation.steps={steps}", f"setup.trackers=[{','.join(trackers)}]"])
    return Trainer(recipe, load(), SCENES, run_dir, **options)


def interrupted(run_dir: Path, *trackers: str) -> None:
    """Three steps, of which two are in a checkpoint; then resumed to the end."""

    def crash(report: StepReport) -> None:
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(run_dir, *trackers, observers=[crash], save_every=2).run()
    trainer(run_dir, *trackers, save_every=2).run(resume=True)


def installed(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@installed("tensorboard")
def test_tensorboard_has_every_metric_of_every_step_once_also_after_a_crash(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    interrupted(tmp_path / "run", "tensorboard")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "run" / "tensorboard")).Reload()
    for name in ("reward", "grad_norm", "skipped_updates", "memory/resident_mib"):
        logged = [(event.step, event.value) for event in runs.Scalars(".", name)]
        assert [step for step, _ in logged] == [0, 1, 2, 3]
        assert [value for _, value in logged] == pytest.approx([row[name] for row in rows])
    [settings] = (tmp_path / "run" / "tensorboard").glob("*/hparams.yml")  # told once, though begun twice
    assert "objective.k: 0.6" in settings.read_text()


@installed("trackio")
def test_trackio_has_the_run_and_goes_on_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trackio import sqlite_storage

    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    interrupted(tmp_path / "run", "trackio")
    storage = sqlite_storage.SQLiteStorage
    [name] = storage.get_runs("foveate")
    assert name.startswith("run-")
    assert {0, 1, 2, 3} <= {one["step"] for one in storage.get_logs("foveate", name) if "reward" in one}


@installed("wandb")
def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    interrupted(tmp_path / "run", "wandb")
    name = json.loads((tmp_path / "run" / "trackers.json").read_text())["run"]
    files = list((tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{name}.wandb"))
    assert files
    assert any(b"skipped_updates" in file.read_bytes() and b"objective.k" in file.read_bytes() for file in files)


class Fake(accelerates.GeneralTracker):
    name, requires_logging_directory, tracker = "wandb", False, None
    calls: ClassVar[list[str]] = []
    fails_at = ""

    def __init__(self, run_name: str, **settings: object) -> None:
        super().__init__()
        self.calls.append(f"{run_name} {settings['name']}")

    def __getattribute__(self, name: str):
        if name in ("start", "log", "finish"):
            return lambda *_, **__: self.did(name)
        return super().__getattribute__(name)

    def did(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails_at:
            raise ConnectionError("the server is gone\nand more")

    def store_init_configuration(self, values: dict) -> None:
        assert values["objective.k"] == 0.6
        assert values["stage"] == "rl"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setitem(accelerates.LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    for module in (accelerates, tracking):
        monkeypatch.setattr(module, "get_available_trackers", lambda: [LoggerType.WANDB])
    monkeypatch.setattr(Fake, "calls", [])
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    return Fake


@pytest.mark.parametrize("at", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_left_out_with_one_warning(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr(fake, "fails_at", at)
    said: list[str] = []
    assert len(trainer(tmp_path, "wandb", steps=2, warn=said.append).run()) == 2
    assert said == [
        "the tracker wandb fails and is left out from here on: the server is gone. All metrics are in metrics.jsonl"
    ]
    assert fake.calls[1:] == {"start": ["start"], "log": ["start", "log"]}.get(at, ["start", "log", "log", "finish"])


def test_a_resumed_run_has_the_same_name_and_another_run_another(tmp_path: Path, fake: type[Fake]) -> None:
    names = []
    for folder in ("b", "b", "c"):
        trainer(tmp_path / folder, "wandb", steps=1).run(resume=True)
        names.append(fake.calls[0])
        fake.calls.clear()
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("mine b-")


def test_what_is_not_installed_is_named_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "get_available_trackers", list)
    with pytest.raises(TrackerError, match=r'pip install "foveate\[trackio\]"'):
        trainer(tmp_path / "run", "trackio")
    assert not (tmp_path / "run").exists()
