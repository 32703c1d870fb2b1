"""Every family from image file to update: packed equals separate, the recipes train, what is saved can be asked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.families.conftest import with_qwens_tokenizer
from tests.models import KINDS, chained, group, located, make_question, noise_view, of_kind, random_vlm
from tests.pictures import marked, red_box
from torch import Tensor
from typer.testing import CliRunner

from foveate.cli import app
from foveate.context import Context
from foveate.episodes import Episode, run_episodes
from foveate.families import VLM, Family, load
from foveate.generators import LocalGenerator, Sampling
from foveate.generators.base import Generator, Request
from foveate.images import View
from foveate.protocols import Completion, Direct, FinishReason
from foveate.questions.schema import Question
from foveate.recipes import load_recipe
from foveate.regions import Box
from foveate.training import Trainer, sampler
from foveate.training.checkpoints import checkpoints
from foveate.training.packing import packed_logprobs, separate_logprobs
from foveate.training.selfcheck import self_check

TOLERANCE = 1e-5
FAMILIES = ["qwen2_5_vl", "qwen2_vl", "qwen3_vl", "internvl"]


@pytest.fixture(params=KINDS)
def vlm(request: pytest.FixtureRequest) -> VLM:
    return of_kind(request.param)


def shapes(patch: int) -> dict[str, list[Episode]]:
    """Of every recipe: one image; a fresh answer turn with crops (HART); turns that go on (MGPO, LFPC)."""

    def crop(number: int, columns: int = 2, rows: int = 2) -> View:
        return noise_view(columns, rows, 100 + number, patch)

    several = Context.user(noise_view(4, 3, 1, patch), noise_view(2, 3, 2, patch), "answer red")
    return {
        "one image": group([5, 3, 6, 1], patch=patch),
        "several images": [_again(episode, several) for episode in group([5, 3, 6], patch=patch)],
        "fresh turns": located([[crop(0)], [], [crop(0)], [crop(1, 3, 1), crop(2)]], patch=patch),
        "continued turns": chained([[crop(0)], [], [crop(1, 1, 2), crop(2, 6, 1)]], patch=patch),
        "two questions": [*group([4, 2], patch=patch), *group([3, 5], size=(6, 2), name="other", seed=9, patch=patch)],
    }


def _again(episode: Episode, context: Context) -> Episode:
    [turn] = episode.turns
    return Episode(make_question("several"), (type(turn)(context, turn.completion),), None, episode.stop)


def gradients(vlm: VLM, of: Callable[..., list[Tensor]], episodes: Sequence[Episode]) -> dict[str, Tensor]:
    vlm.model.zero_grad()
    flat_N = torch.cat(of(vlm, episodes))
    (flat_N * torch.linspace(-1.0, 2.0, len(flat_N))).sum().backward()
    found = {n: p.grad.clone() for n, p in vlm.model.named_parameters() if p.grad is not None}
    vlm.model.zero_grad()
    return found


@pytest.mark.parametrize("shape", shapes(28))
def test_packed_rows_are_separate_rows(vlm: VLM, shape: str) -> None:
    episodes = shapes(vlm.family.multiple)[shape]
    for one, other in zip(packed_logprobs(vlm, episodes), separate_logprobs(vlm, episodes), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE)
    assert self_check(vlm, episodes).max_difference <= TOLERANCE
    packed, separate = (gradients(vlm, of, episodes) for of in (packed_logprobs, separate_logprobs))
    assert packed.keys() == separate.keys()
    assert any("vis" in name for name in packed)
    largest = max(float(gradient.norm()) for gradient in separate.values())
    for name, gradient in separate.items():
        scale = max(float(gradient.norm()), 1e-2 * largest)
        assert float((packed[name] - gradient).norm()) <= TOLERANCE * scale, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_self_check_passes_in_bfloat16(kind: str) -> None:
    vlm = random_vlm(kind=kind, gain=1.0)
    vlm.model.to(torch.bfloat16)
    for episodes in shapes(vlm.family.multiple).values():
        assert self_check(vlm, episodes).max_difference < 0.2


def test_what_a_crop_shows_counts(vlm: VLM) -> None:
    """No family trains blind: with other pixels in one episode's crop, its log-probs change, and no other's."""
    patch = vlm.family.multiple
    crops = [noise_view(2, 2, 100 + number, patch) for number in range(3)]
    dark = View(Image.new("RGB", crops[1].size), crops[1].source, crops[1].original_size)
    for build in (located, chained):
        with torch.no_grad():
            seen = packed_logprobs(vlm, build([[crop] for crop in crops], patch=patch))
            changed = packed_logprobs(vlm, build([[crops[0]], [dark], [crops[2]]], patch=patch))
        differences = [float((one - other).abs().max()) for one, other in zip(seen, changed, strict=True)]
        assert differences[1] > 1e-2
        assert max(differences[0], differences[2]) < TOLERANCE


def test_no_dense_mask_is_made_of_a_packed_row(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers would make one of positions in two dimensions that restart: the square of the row."""
    seen = []
    layer = vlm.model.model.language_model.layers[0].self_attn
    hook = layer.register_forward_pre_hook(
        lambda _m, _a, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    with torch.no_grad():
        packed_logprobs(vlm, group([5, 3, 6], patch=vlm.family.multiple))
    hook.remove()
    assert seen
    assert all(mask is None or mask.numel() == 1 for mask in seen)


# --- from an image file to an update, and to an answer ---------------------------------------------------------------

RED = Box(100, 80, 220, 200)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """Blue with a red square, on its side in the file."""
    exif = Image.Exif()
    exif[0x0112] = 6
    marked((400, 300), RED.corners).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


class Scripted(Generator):
    """Points at the red in its family's frame, then answers, rightly every other time, in the family's own tokens."""

    def __init__(self, vlm: VLM, **_: int) -> None:
        self._family = vlm.family

    @property
    def family(self) -> Family:
        return self._family

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        return [[self._reply(request.context, i) for i, _ in enumerate(request.seeds)] for request in requests]

    def _reply(self, context: Context, number: int) -> Completion:
        view = context.views[-1]
        text = "78"[number % 2]
        if self._family.box_style == "json":
            text = rf"The number is \boxed{{{text}}}."
        if not view.cropped:
            x1, y1, x2, y2 = view.from_original(RED, self._family.frame).corners
            written = [math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)]
            text = " ".join(map(str, written))
            if self._family.box_style == "json":
                text = json.dumps([{"bbox_2d": written, "label": "red square"}])
            if any("<tool_call>" in str(part) for message in context.messages for part in message.parts):
                text = f'<tool_call>{{"name": "crop", "arguments": {{"bbox_2d": {written}}}}}</tool_call>'
        return Completion(self._family.reply(text), (), text, FinishReason.END)


@pytest.mark.parametrize("name", ["hart", "mgpo", "lfpc-1"])
@pytest.mark.parametrize("tokenizer", ["tiny", pytest.param("qwen", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*FAMILIES, "qwen3_vl_moe"])
def test_a_step_of_every_recipe(
    kind: str, tokenizer: str, name: str, photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped recipe, in small: the file is opened, the box lands on the red, the crop is cut, weights move."""
    monkeypatch.setattr(sampler, "LocalGenerator", Scripted)
    small = {
        "rollout.group_size": 4,
        "rollout.max_new_tokens": 16,
        "optimisation.steps": 1,
        "optimisation.questions_per_step": 2,
        "optimisation.questions_per_update": 2,
        "optimisation.learning_rate": 1e-3,
        "images.max_pixels": 13_000,
    }
    vlm, groups = random_vlm(kind=kind, gain=1.0) if tokenizer == "tiny" else with_qwens_tokenizer(kind), []
    before = {name: weight.clone() for name, weight in vlm.model.state_dict().items()}
    trainer = Trainer(
        load_recipe(name, [f"{setting}={value}" for setting, value in small.items()]),
        vlm,
        [Question(id=f"q{i}", image=photograph, text="red square", answer="7") for i in range(2)],
        tmp_path / "run",
        observers=[lambda report: groups.extend(report.groups)],
    )
    [metrics] = trainer.run()  # with its self-check on the first group
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["grad_norm"] > 0
    assert metrics["accuracy"] == 0.5
    moved = {name for name, weight in vlm.model.state_dict().items() if not torch.equal(weight, before[name])}
    for part in ("vis", "language_model", "lm_head"):
        assert any(part in name for name in moved), part
    for group_ in groups:
        for episode in group_.episodes:
            [found] = episode.boxes
            view = episode.turns[0].context.views[0]
            unit = max(view.original_size[side] / view.size[side] for side in (0, 1))
            assert all(abs(a - b) <= unit for a, b in zip(found.corners, RED.corners, strict=True))
            assert red_box(episode.turns[-1].context.views[-1].image).area > 0
    again = load(checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert self_check(again, groups[0].episodes).max_difference < 1e-4
    assert all(torch.equal(again.model.state_dict()[name], weight) for name, weight in vlm.model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_can_be_asked(kind: str, photograph: Path, tmp_path: Path) -> None:
    vlm = random_vlm(kind=kind)
    vlm.save(tmp_path / "model")
    asked = Question(id="q", image=photograph, text="red square", answer="", choices={"A": "7", "B": "8"})
    sampling = Sampling(0.0, load_recipe("demo").rollout.max_new_tokens)
    replies = []
    for one in (vlm, load(tmp_path / "model")):
        [[_, [episode]]] = run_episodes([asked], Direct(), LocalGenerator(one), sampling=sampling)
        replies.append(episode.turns[0].completion.token_ids)
    assert replies[0] == replies[1]
    drawn = tmp_path / "drawn.png"
    model, out = str(tmp_path / "model"), str(drawn)
    said = CliRunner().invoke(
        app, ["ask", str(photograph), "red square", "--model", model, "--protocol", "direct", "--out", out]
    )
    assert said.exit_code == 0, said.output
    assert Image.open(drawn).size == (400, 300)
