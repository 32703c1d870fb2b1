"""A real server, `transformers serve` with the embedded checkpoint, says what the model says in this process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from foveate.episodes import Episode, run_episodes
from foveate.evaluation import Scored
from foveate.evaluations import evaluate_model
from foveate.families import load, tiny
from foveate.generators import Endpoint, Generator, LocalGenerator, Sampling
from foveate.protocols import Direct, LocateThenAnswer, Protocol, ZoomTool
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.recipes import load_recipe

QUESTIONS = 50
PROTOCOLS = {
    "direct": Direct(),
    "locate": LocateThenAnswer(max_boxes=1),
    "locate_and_full": LocateThenAnswer(max_boxes=1, withhold_full_image=False),
    "zoom": ZoomTool(max_calls=1),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parent / "transformers_server.py"
    command = [sys.executable, str(script), str(tiny.path()), str(port)]
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL) as server:
        try:
            while not _healthy(port):
                with pytest.raises(subprocess.TimeoutExpired):  # it must not end
                    server.wait(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def local() -> LocalGenerator:
    return LocalGenerator(load())


def episodes(protocol: Protocol, generator: Generator) -> list[Episode]:
    scenes = [question.without_annotations() for question in Scenes(SceneConfig(), seed=7, length=QUESTIONS)]
    groups = run_episodes(scenes, protocol, generator, sampling=Sampling(0.0, 8))
    return [group.episodes[0] for group in groups]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_greedy_answers_are_those_of_the_model_in_this_process(url: str, local: LocalGenerator, name: str) -> None:
    remote = Endpoint(url=url, concurrency=2).generator(str(tiny.path()))
    assert remote.family.name == "tiny"
    here, there = episodes(PROTOCOLS[name], local), episodes(PROTOCOLS[name], remote)
    for ours, theirs in zip(here, there, strict=True):
        assert [_said(turn) for turn in theirs.turns] == [_said(turn) for turn in ours.turns]
        assert (theirs.answer, theirs.stop, theirs.boxes) == (ours.answer, ours.stop, ours.boxes)
    if name != "direct":
        assert sum(len(episode.boxes) for episode in there) >= QUESTIONS / 2
    assert len({turn.completion.text for episode in there for turn in episode.turns}) > 3
    shown = [len(local.family.encode(turn.context).token_ids) for episode in here for turn in episode.turns]
    assert remote.spent.prompt_tokens == sum(shown)  # no picture was resized, no text told otherwise


def test_an_evaluation_over_the_network_is_the_one_in_this_process(url: str, tmp_path: Path) -> None:
    recipe = load_recipe("demo", ["rollout.max_new_tokens=12"])
    here = evaluate_model(recipe, "tiny", "scenes", limit=QUESTIONS).evaluation
    endpoint = Endpoint.of(url, ["family=tiny", "concurrency=2", "prompt_price=2", "completion_price=8"])
    there = evaluate_model(
        recipe, str(tiny.path()), "scenes", limit=QUESTIONS, endpoint=endpoint, out=tmp_path
    ).evaluation
    assert 0.2 < there.summary.accuracy < 1
    for ours, theirs in zip(here.scored, there.scored, strict=True):
        assert theirs.attempts == tuple(replace(one, prompt_tokens=shown_tokens(theirs)) for one in ours.attempts)
    costs = json.loads((tmp_path / "scores.json").read_text())["endpoint"]
    assert costs["url"] == url
    assert costs["cost"] == pytest.approx((2 * costs["prompt_tokens"] + 8 * costs["completion_tokens"]) / 1e6)


def shown_tokens(scored: Scored) -> int | None:
    return scored.attempts[0].prompt_tokens


def _said(turn):
    return turn.completion.text, turn.completion.finish_reason, turn.completion.tokens
