"""Training with vLLM's rollouts: colocated and served it learns as with the trainer's own model."""

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from tests.vllm.conftest import MAX_PIXELS, changed
from tests.vllm.test_engine import ROUNDING, drawn_difference, greedy_difference

from foveate.families import load
from foveate.generators.weights import policy_tensors
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import load_recipe
from foveate.training import Trainer
from foveate.training.sampler import Sampler, SamplerMismatch

SCENES = Scenes(SceneConfig(), seed=0, length=640)
STEPS = 40
BRIEFLY = ("optimisation.steps=3", "optimisation.questions_per_step=4")


@pytest.fixture
def colocated(engine, monkeypatch):
    """The session's engine, where a run would make its own: vLLM is made once a process."""
    build = Sampler._build
    monkeypatch.setattr(
        Sampler, "_build", lambda self, recipe: engine if recipe.setup.engine.name == "vllm" else build(self, recipe)
    )
    return engine


def run(path, *settings: str, questions=SCENES) -> list[dict[str, float]]:
    return Trainer(load_recipe("demo", settings), load(), questions, path).run()


def test_a_run_learns_as_with_the_local_generator(tmp_path, colocated) -> None:
    settings = (f"optimisation.steps={STEPS}", "optimisation.schedule=constant")
    rows = {name: run(tmp_path / name, f"setup.engine.name={name}", *settings) for name in ("local", "vllm")}
    reward = {
        name: [round(float(np.mean([row["reward"] for row in own[a : a + 10]])), 3) for a in range(0, STEPS, 10)]
        for name, own in rows.items()
    }
    difference = [max(row[f"sampler_difference{which}"] for row in rows["vllm"]) for which in ("", "_max")]
    print(f"\nmean reward of every ten steps: {reward}; log-probs differ by {difference[0]:.2g}, {difference[1]:.2g}")
    assert all(own[-1] > own[0] + 0.15 for own in reward.values())
    assert abs(reward["vllm"][-1] - reward["local"][-1]) < 0.15
    assert difference[0] < ROUNDING / 10
    assert difference[1] < ROUNDING


def test_an_engine_that_misses_an_update_stops_the_run(tmp_path, colocated, monkeypatch) -> None:
    update, given = colocated.update_weights, []

    def once(weights) -> None:
        if not given:
            update(weights)
        given.append(weights)

    monkeypatch.setattr(colocated, "update_weights", once)
    with pytest.raises(SamplerMismatch, match="earlier update"):
        run(tmp_path, "setup.engine.name=vllm", *BRIEFLY)
    assert len(given) == 2


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = ["serve-rollouts", "--recipe", "demo", "--set", f"images.max_pixels={MAX_PIXELS}", "--port", str(port)]
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", "from foveate.cli import app; app()", *command],
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urlopen(url + "/health", timeout=5)
                break
            except (URLError, OSError):
                assert server.poll() is None, log.read_text()[-3000:]
                time.sleep(0.5)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait()


def test_a_served_engine_is_the_policy_before_and_after_an_update(url, vlm, tmp_path) -> None:
    from foveate.generators.vllm_server import VLLMServerGenerator

    client = VLLMServerGenerator(vlm.family, url, tmp_path)
    client.update_weights(policy_tensors(vlm.model))
    assert greedy_difference(vlm, client) < ROUNDING
    assert drawn_difference(vlm, client, 0.7) < ROUNDING
    changed(vlm)
    assert drawn_difference(vlm, client) > 10 * ROUNDING
    client.update_weights(policy_tensors(vlm.model))
    assert greedy_difference(vlm, client) < ROUNDING


def test_a_run_goes_through_a_server_and_gives_it_each_update(url, tmp_path) -> None:
    server = (f"setup.engine.url={url}", f"setup.engine.shared_folder={tmp_path / 'weights'}")
    rows = run(tmp_path / "run", "setup.engine.name=vllm_server", *server, *BRIEFLY)
    assert all(0 < row["sampler_difference"] < ROUNDING / 10 for row in rows)
