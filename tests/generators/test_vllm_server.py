"""The client of a vLLM server, over the loopback: tokens and pictures come through unharmed; failures are said."""

import json
import socket

import pytest
import torch
from tests.engines import said
from tests.generators.rollout_server import Refusal, serving
from tests.scripted import picture

from foveate.context import Context
from foveate.episodes import run_episodes
from foveate.families import load
from foveate.generators import LocalGenerator, Request, Sampling
from foveate.generators.rollout import RolloutError
from foveate.generators.serving import arguments_of
from foveate.generators.vllm_server import VLLMServerGenerator
from foveate.generators.weights import policy_tensors
from foveate.images import PixelBudget, full_view
from foveate.protocols import GroundThenAnswer
from foveate.questions.scenes import SceneConfig, Scenes

SCENES = Scenes(SceneConfig(size=448), seed=5, length=2)
BRIEF = Sampling(1.0, 8)


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture
def vlm():
    return load()


@pytest.fixture
def client(server, vlm, tmp_path):
    server.bent = lambda path, answer: answer
    server.asked.clear()
    made = VLLMServerGenerator(vlm.family, server.url + "/", tmp_path / "shared")
    made.update_weights(policy_tensors(vlm.model))
    return made


def requests(seeds=(1, 2)) -> list[Request]:
    views = [full_view(picture(), PixelBudget(784, area), 28) for area in (12_000, 5_000)]
    return [Request(Context.user(*views, "which is red?"), seeds), Request(Context.user("hello"), seeds)]


def test_episodes_with_crops_are_those_of_the_policy(vlm, client) -> None:
    protocol = GroundThenAnswer(turns=2)
    ways = [run_episodes(SCENES, protocol, one, n=3, sampling=BRIEF, seed=7) for one in (LocalGenerator(vlm), client)]
    assert max(len(episode.turns) for group in ways[1] for episode in group.episodes) == 2
    for own, served in zip(*ways, strict=True):
        for one, other in zip(own.episodes, served.episodes, strict=True):
            assert [said(turn.completion) for turn in one.turns] == [said(turn.completion) for turn in other.turns]
            for a, b in zip(one.turns, other.turns, strict=True):
                assert b.completion.logprobs == pytest.approx(a.completion.logprobs, abs=1e-5)


def test_new_weights_reach_the_server_and_empty_its_caches(server, vlm, client) -> None:
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            parameter.mul_(1.05)
    server.asked.clear()
    client.update_weights(policy_tensors(vlm.model))
    assert [path for path, _ in server.asked] == ["/collective_rpc", "/reset_prefix_cache", "/reset_encoder_cache"]
    greedy = Sampling(0.0, 8)
    expected = LocalGenerator(vlm).generate(requests((1,)), greedy)
    served = client.generate(requests((1,)), greedy)
    assert [[said(one) for one in own] for own in served] == [[said(one) for one in own] for own in expected]


def test_the_temperature_is_in_the_engine_and_every_sample_has_its_seed(server, client) -> None:
    client.generate(requests((5, 2**63 - 1)), Sampling(0.7, 4))
    client.generate(requests((6,)), Sampling(0.7, 4))
    scaled = [body["args"] for path, body in server.asked if path == "/collective_rpc" and "temp" in body["method"]]
    assert scaled == [["0.7"]]
    asked = [body["sampling_params"] for path, body in server.asked if path == "/inference/v1/generate"]
    assert sorted(one["seed"] for one in asked) == sorted([5, 2**63 - 1] * 2 + [6, 6])
    assert {(one["temperature"], one["max_tokens"]) for one in asked} == {(1.0, 4)}
    assert all(one["ignore_eos"] and one["stop_token_ids"] == [client.family.eos_token_id] for one in asked)


def test_a_temperature_that_another_trainer_left_behind_does_not_stay(server, vlm, client, tmp_path) -> None:
    client.generate(requests((5,)), Sampling(0.7, 4))
    after = VLLMServerGenerator(vlm.family, server.url, tmp_path)
    after.update_weights(policy_tensors(vlm.model))
    server.asked.clear()
    after.generate(requests((5,)), Sampling(1.0, 4))
    assert [body["args"] for path, body in server.asked if path == "/collective_rpc"] == [["1.0"]]


def other_tokens(answer):
    answer["choices"][0]["logprobs"]["content"][0]["token_id"] += 1
    return answer


def one_too_few(answer):
    answer["choices"][0]["logprobs"]["content"].pop()
    return answer


def resized(answer):
    return {**answer, "prompt_token_ids": answer["prompt_token_ids"][:-3]}


def refused(status, text=""):
    def refuse(answer):
        raise Refusal(status, text)

    return refuse


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (other_tokens, "log-probs of other tokens"),
        (one_too_few, "log-probs of other tokens"),
        (resized, "has resized them"),
        (lambda answer: {"choices": []}, "prompt_token_ids.*is it vLLM"),
        (lambda answer: "<html>", "not JSON.*serve-rollouts"),
        (refused(404), "/inference/v1/generate answered 404.*serve-rollouts"),
        (refused(403), "answered 403.*serve-rollouts"),
        (refused(400, "too long"), "answered 400: too long.*max_length"),
        (refused(500, "boom"), "answered 500: boom.*what the server printed"),
    ],
)
def test_what_the_server_does_wrong_is_said_with_its_address(server, client, bend, message) -> None:
    server.bent = lambda path, answer: bend(answer) if "generate" in path else answer
    with pytest.raises(RolloutError, match=message):
        client.generate(requests(), BRIEF)
    server.bent = lambda path, answer: answer
    assert len(client.generate(requests(), BRIEF)) == 2  # the next ones are not mixed up with those


def test_a_cache_that_is_not_dropped_is_no_update(server, client, vlm) -> None:
    server.bent = lambda path, answer: {"success": False} if path == "/reset_prefix_cache" else answer
    with pytest.raises(RolloutError, match="prefix cache"):
        client.update_weights(policy_tensors(vlm.model))


def test_nobody_there(vlm, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RolloutError, match=rf"127.0.0.1:{port}.*foveate serve-rollouts.*setup.engine.url"):
        VLLMServerGenerator(vlm.family, f"http://127.0.0.1:{port}", tmp_path)


def test_settings_become_arguments() -> None:
    settings = {"max_model_len": 5, "logits_processors": ["a:b"], "mm_processor_kwargs": {"x": {"y": 1}}, "quiet": True}
    given = arguments_of(settings)
    assert given[:4] == ["--max-model-len", "5", "--logits-processors", "a:b"]
    assert given[4] == "--mm-processor-kwargs"
    assert json.loads(given[5]) == {"x": {"y": 1}}
    assert given[6:] == ["--quiet"]
