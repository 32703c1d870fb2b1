"""vLLM itself, on a CPU, beside the local generator: the same policy, token by token, whatever it is shown."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.engines import said
from tests.scripted import picture
from tests.vllm.conftest import changed

from foveate.context import Context, Sampled
from foveate.episodes import run_episodes
from foveate.families import VLM
from foveate.generators import Generator, LocalGenerator, Request, Sampling
from foveate.generators.rollout import RolloutError
from foveate.generators.weights import policy_tensors
from foveate.images import PixelBudget, crop_view, full_view
from foveate.protocols import Direct, GroundThenAnswer, LocateThenAnswer, ZoomTool
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.regions import Box
from foveate.training.packing import separate_logprobs

SCENES = Scenes(SceneConfig(), seed=5, length=4)
ROUNDING = 1e-4
"""Between log-probs of vLLM and of transformers, in float32, as the self-check has it. Seen: 1e-6 of greedy replies,
3e-5 of samples, the unlikely ones among them."""
GREEDY, DRAWN = Sampling(0.0, 8), Sampling(1.0, 8)


def view(area: int):
    return full_view(picture(), PixelBudget(784, area), 28)


def contexts() -> list[Context]:
    crop = crop_view(picture(), Box(280, 140, 420, 280), PixelBudget(784, 6000), 28)
    first = Context.user(view(12_000), "Where is the red card?")
    reply = Sampled((48, 40, 54, 54, 1), "")
    return [
        first,
        first.replied(reply, crop, "What is on it?"),  # a crop in mid-episode
        first.replied(reply, crop, "And now?").replied(Sampled((45,), ""), crop, view(5000), "What is on it?"),
        Context.user(view(12_000), view(12_000), view(3000), "Which is larger?"),
        Context.user("No picture at all."),
        Context.user(view(784), "The smallest.", system="Be brief."),
    ]


def worst(one, other) -> float:
    """The largest difference of log-probs; the tokens must be equal."""
    differences = [0.0]
    for a, b in zip(one, other, strict=True):
        assert [said(reply) for reply in a] == [said(reply) for reply in b]
        for x, y in zip(a, b, strict=True):
            differences.append(np.abs(np.array(x.logprobs) - np.array(y.logprobs)).max())
    return max(differences)


def greedy_difference(vlm: VLM, engine: Generator) -> float:
    requests = [Request(context, (1,)) for context in contexts()]
    return worst(LocalGenerator(vlm).generate(requests, GREEDY), engine.generate(requests, GREEDY))


def drawn_difference(vlm: VLM, engine: Generator, temperature: float = 1.0) -> float:
    """Between what the engine said of its samples and what the policy says of them, turn by turn, crops included."""
    difference = 0.0
    for protocol in (Direct(), LocateThenAnswer(without_region="full_image"), GroundThenAnswer(turns=3), ZoomTool()):
        groups = run_episodes(SCENES, protocol, engine, n=4, sampling=Sampling(temperature, 8), seed=3)
        episodes = [episode for group in groups for episode in group.episodes]
        with torch.no_grad():
            policy = separate_logprobs(vlm, episodes, temperature=temperature)
        for episode, own_N in zip(episodes, policy, strict=True):
            told = [logprob for turn in episode.turns for logprob in turn.completion.logprobs]
            difference = max(difference, float((own_N - torch.tensor(told)).abs().max()))
    return difference


def test_greedy_replies_are_the_local_generators(vlm, engine) -> None:
    difference = greedy_difference(vlm, engine)
    print(f"\nlargest difference of log-probs, greedy: {difference:.2g}")
    assert difference < ROUNDING


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.4])
def test_log_probs_of_samples_are_the_policys_at_that_temperature(vlm, engine, temperature) -> None:
    difference = drawn_difference(vlm, engine, temperature)
    print(f"\nlargest difference of log-probs at {temperature}: {difference:.2g}")
    assert difference < ROUNDING


def test_a_sample_depends_on_its_seed_alone(engine) -> None:
    all_of_them = [Request(context, tuple(range(8 * i, 8 * i + 8))) for i, context in enumerate(contexts())]
    together = engine.generate(all_of_them, DRAWN)
    alone = [[engine.generate([Request(r.context, (s,))], DRAWN)[0][0] for s in r.seeds] for r in all_of_them[::-1]]
    assert worst(together, alone[::-1]) < ROUNDING
    assert len({said(reply) for reply in together[0]}) > 3


def test_samples_are_drawn_from_the_policy(vlm, engine) -> None:
    context, count = contexts()[0], 600
    ((*replies,),) = engine.generate([Request(context, tuple(range(count)))], Sampling(1.0, 1))
    ids, logprobs = np.unique([(r.token_ids[0], r.logprobs[0]) for r in replies], axis=0).T
    drawn = [sum(r.token_ids[0] == token for r in replies) for token in ids]
    expected = count * np.exp(logprobs)
    assert expected.sum() == pytest.approx(count, rel=0.05)
    assert np.all(np.abs(drawn - expected) < 5 * np.sqrt(expected) + 3)


def test_placeholders_are_never_sampled_however_likely_and_their_share_is_not_given_to_others(vlm, engine) -> None:
    likely = LocalGenerator(vlm).generate([Request(contexts()[0], (1,))], GREEDY)[0][0].token_ids[0]
    embedding = vlm.model.get_input_embeddings().weight
    with torch.no_grad():  # as an input a placeholder is a picture's feature: only its logit changes
        embedding[vlm.family.image_token_id] = 2 * embedding[likely]
    engine.update_weights(policy_tensors(vlm.model))
    assert greedy_difference(vlm, engine) < ROUNDING
    for sampling in (GREEDY, Sampling(1.0, 8), Sampling(0.7, 8)):
        ((*replies,),) = engine.generate([Request(contexts()[0], tuple(range(32)))], sampling)
        assert not {t for reply in replies for t in reply.token_ids} & set(vlm.family.forbidden_token_ids())
        assert np.mean([reply.logprobs[0] for reply in replies]) < -2


def test_episodes_are_the_same_in_lock_step_and_as_replies_arrive(engine) -> None:
    class LockStep(Generator):
        family = engine.family

        def generate(self, requests, sampling):
            return engine.generate(requests, sampling)

    for protocol in (LocateThenAnswer(without_region="full_image"), GroundThenAnswer(turns=3)):
        flowing, locked = (run_episodes(SCENES, protocol, one, n=6, sampling=DRAWN) for one in (engine, LockStep()))
        for one, other in zip(flowing, locked, strict=True):
            for a, b in zip(one.episodes, other.episodes, strict=True):
                assert [said(turn.completion) for turn in a.turns] == [said(turn.completion) for turn in b.turns]


@pytest.mark.parametrize("part", ["", "visual", "language_model", "embed_tokens", "merger", "norm"])
def test_after_an_update_the_engine_is_the_updated_policy(vlm, engine, part) -> None:
    greedy_difference(vlm, engine)  # fills the caches
    changed(vlm, part)
    engine.update_weights(policy_tensors(vlm.model))
    assert greedy_difference(vlm, engine) < ROUNDING
    assert drawn_difference(vlm, engine) < ROUNDING


def test_adapters_are_merged_on_the_way(vlm, engine) -> None:
    model = get_peft_model(vlm.model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "qkv"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    engine.update_weights(policy_tensors(model))
    assert greedy_difference(VLM(model, vlm.family), engine) < ROUNDING


def test_a_picture_that_the_engine_would_resize_is_refused(engine) -> None:
    with pytest.raises(RolloutError, match=r"pictures of 196x140 pixels.*resized"):
        engine.generate([Request(Context.user(view(30_000), "Where?"), (1,))], GREEDY)


def test_a_context_that_is_too_long_is_refused_and_the_next_is_not(vlm, engine) -> None:
    with pytest.raises(RolloutError, match=r"setup.engine.max_length"):
        engine.generate([Request(Context.user("word " * 3000), (1,))], GREEDY)
    assert greedy_difference(vlm, engine) < ROUNDING
