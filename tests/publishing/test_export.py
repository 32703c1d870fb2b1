"""What is exported is what was trained, loads anywhere, and says how it came about."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer
from typer.testing import CliRunner

from foveate.cli import app
from foveate.families import load
from foveate.publishing import ExportError, export_run, hub
from foveate.publishing import export as module
from foveate.questions.scenes import SceneConfig, export
from foveate.recipes import load_recipe
from foveate.runs import load_policy, recipe_for, start
from foveate.training.checkpoints import checkpoints

SMALL = (
    "optimisation.questions_per_step=2",
    "rollout.group_size=4",
    "optimisation.steps=2",
    "optimisation.learning_rate=1e-3",
    "images.max_pixels=13000",
    "objective.k=0.3",
)
FILES = {
    "README.md",
    "asked_by.yaml",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return " ".join(re.sub(r"(Loading|Writing) [^\]]*it/s\]", "", result.output).split())  # without progress bars


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(SceneConfig(size=448), 4, 0, tmp_path_factory.mktemp("data"))


def trained(out: Path, data: Path, *settings: str, name: str = "demo") -> Path:
    recipe = load_recipe(name, [*SMALL, *settings])
    start(recipe, "tiny", str(data), out, seed=7, resume=False, save_every=1)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    out = trained(tmp_path_factory.mktemp("runs") / "whole", data)
    run("eval", "--model", out, "--data", data, "--out", out / "eval")
    return out


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "adapted", data, "setup.lora.rank=4")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def front_of(folder: Path) -> tuple[dict, str]:
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_folder_holds_the_newest_weights_and_nothing_of_the_trainer(tmp_path: Path, whole: Path) -> None:
    exported = export_run(str(whole), tmp_path / "model")
    assert {path.name for path in exported.folder.iterdir()} == FILES
    newest = checkpoints(whole / "checkpoints")[-1]
    assert exported.checkpoint == newest
    mine, kept = weights_of(exported.folder), weights_of(newest)
    assert mine.keys() == kept.keys()
    assert all(torch.equal(mine[name], kept[name]) for name in kept)


def test_a_checkpoint_can_be_named_and_weights_rounded(tmp_path: Path, whole: Path) -> None:
    earlier = checkpoints(whole / "checkpoints")[0]
    export_run(str(earlier), tmp_path / "model", dtype="bfloat16")
    mine, kept = weights_of(tmp_path / "model"), weights_of(earlier)
    assert all(torch.equal(mine[name], kept[name].to(torch.bfloat16)) for name in kept)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    assert "1 steps" in front_of(tmp_path / "model")[1]


def test_plain_transformers_loads_it_to_the_same_function(tmp_path: Path, whole: Path) -> None:
    export_run(str(whole), tmp_path / "model")
    own = load_policy(str(whole)).model
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "model").encode("what is written here")])
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, own(input_ids=ids).logits)


def test_it_is_asked_the_way_it_was_trained(tmp_path: Path, whole: Path, data: Path) -> None:
    run("export", whole, "--out", tmp_path / "model")
    picture = next((data.parent / "images").glob("*.png"))
    by_run, by_folder = (
        run("ask", picture, "What is written?", "--model", model, "--out", tmp_path / "drawn.png")
        for model in (whole, tmp_path / "model")
    )
    assert by_run == by_folder
    assert "asked by the recipe demo, protocol locate_answer" in by_folder
    assert recipe_for(str(tmp_path / "model")) == recipe_for(str(whole))


def test_after_the_supervised_stage_it_is_asked_as_that_trained(tmp_path: Path, data: Path) -> None:
    settings = ("stages=rl,sft", "split.sft_count=2", "sft.questions_per_update=2")
    out = trained(tmp_path / "both", data, *settings, name="hart-full")
    export_run(str(out), tmp_path / "model")
    asked = recipe_for(str(tmp_path / "model"))
    assert asked == recipe_for(str(out))
    assert not asked.protocol.withhold_full_image
    text = front_of(tmp_path / "model")[1]
    assert "Questions of the stage rl: 2" in text
    assert "Questions of the stage sft: 2" in text


def test_the_card_has_recipe_data_seed_and_scores(tmp_path: Path, whole: Path, data: Path) -> None:
    run("export", whole, "--out", tmp_path / "model", "--scores", whole / "eval")
    front, text = front_of(tmp_path / "model")
    assert front["library_name"] == "transformers"
    assert front["license"] == "apache-2.0"
    assert "base_model" not in front  # the embedded model is none of the hub's
    assert "foveate" in front["tags"]
    noted = json.loads((whole / "run.json").read_text())
    scores = json.loads((whole / "eval" / "scores.json").read_text())
    digest = noted["trained_on"]["rl"]["sha256"]
    assert digest == scores["setup"]["data_sha256"]
    low, high = scores["summary"]["intervals"]["accuracy"]
    for said in (
        f"4 of `{data.name}`, SHA-256 `{digest}`",
        "- Seed: 7",
        "2 steps in the last",
        "| objective.k | 0.3 | 0.6 |",
        f"| right answers | {scores['summary']['accuracy']:.3f} | {low:.3f} to {high:.3f} |",
        f"foveate {noted['foveate']}",
        "What is written on the sign?",
    ):
        assert said in text, said
    assert str(data.parent) not in text  # where it lies is nobody's business


def test_the_card_names_the_hubs_base_and_its_licence_through_earlier_runs(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, base in (("first", "Qwen/Qwen2.5-VL-3B-Instruct"), ("second", str(tmp_path / "first"))):
        shutil.copytree(whole, tmp_path / name)
        note = tmp_path / name / "run.json"
        note.write_text(json.dumps(json.loads(note.read_text()) | {"model": base}))
    card = tmp_path / "cached.md"
    card.write_text("---\nlicense: other\n---\n# Its card\n")
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda repo, file: str(card))
    export_run(str(tmp_path / "second"), tmp_path / "model")
    front, text = front_of(tmp_path / "model")
    assert (front["base_model"], front["license"]) == ("Qwen/Qwen2.5-VL-3B-Instruct", "other")
    assert str(tmp_path) not in text
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda repo, file: None)
    export_run(str(tmp_path / "second"), tmp_path / "unknown")
    assert "license" not in front_of(tmp_path / "unknown")[0]


def test_scores_of_another_checkpoint_are_refused(tmp_path: Path, whole: Path) -> None:
    earlier = checkpoints(whole / "checkpoints")[0]
    with pytest.raises(ExportError, match="scores of another checkpoint"):
        export_run(str(earlier), tmp_path / "model", scores=[whole / "eval"])
    with pytest.raises(ExportError, match="no score file"):
        export_run(str(whole), tmp_path / "model", scores=[whole / "run.json"])
    assert not (tmp_path / "model").exists()


def test_adapters_are_merged_to_what_the_run_computes(tmp_path: Path, adapted: Path) -> None:
    export_run(str(adapted), tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    mine, own = load(tmp_path / "model").model.state_dict(), load_policy(str(adapted)).model.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in own.items())
    start = load().model.state_dict()
    assert any(not torch.equal(mine[name], value) for name, value in start.items())


def test_adapters_alone_load_with_peft_and_with_foveate(tmp_path: Path, adapted: Path) -> None:
    from peft import PeftModel

    export_run(str(adapted), tmp_path / "adapter", adapter=True)
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert names == FILES - {"config.json", "generation_config.json", "model.safetensors"} | {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    front, text = front_of(tmp_path / "adapter")
    assert front["library_name"] == "peft"
    assert "`setup.lora` {'rank': 4" in text
    own = load_policy(str(adapted)).model
    merged = load(tmp_path / "adapter").model.state_dict()
    assert all(torch.equal(merged[name], value) for name, value in own.state_dict().items())
    plain = PeftModel.from_pretrained(load().model, tmp_path / "adapter").eval()
    ids = torch.arange(7, 30)[None]
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, own(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_adapters_upon_an_earlier_run_do_not_claim_to_be_of_its_base(tmp_path: Path, adapted: Path, data: Path) -> None:
    """Put upon that, they would make a model that was never trained."""
    second = load_recipe("demo", [*SMALL, "setup.lora.rank=4", "optimisation.steps=1"])
    start(second, str(adapted), str(data), tmp_path / "second", seed=7, resume=False)
    export_run(str(tmp_path / "second"), tmp_path / "adapter", adapter=True)
    assert f"LoRA adapters of `{checkpoints(adapted / 'checkpoints')[-1].name}`" in front_of(tmp_path / "adapter")[1]
    export_run(str(tmp_path / "second"), tmp_path / "whole")
    assert "trained from `tiny`" in front_of(tmp_path / "whole")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tiny",), "no folder of a run"),
        (("nowhere",), "no folder of a run"),
        (("WHOLE", "--adapter"), "has no adapters"),
        (("WHOLE", "--dtype", "float16"), "float32 or bfloat16"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path: Path, whole: Path, arguments, said: str) -> None:
    words = [whole if word == "WHOLE" else word for word in arguments]
    assert said in run("export", *words, "--out", tmp_path / "model", status=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "is not empty" in run("export", whole, "--out", tmp_path / "full", status=2)


class FakeHub:
    """Takes what it is given, as the hub would; or refuses."""

    uploads: list[dict[str, bytes]] = []  # noqa: RUF012
    refuses = False

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        assert exist_ok
        if self.refuses:
            raise HfHubHTTPError(
                "403 Forbidden: no write access\nmore", response=SimpleNamespace(headers={}, request=None)
            )
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        files = [path for path in Path(folder_path).rglob("*") if path.is_file()]
        self.uploads.append({str(path.relative_to(folder_path)): path.read_bytes() for path in files})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr(hub, "HfApi", FakeHub)
    monkeypatch.setattr(hub, "get_token", lambda: "hf_token")
    monkeypatch.setattr(FakeHub, "uploads", [])
    return FakeHub


def test_the_folder_is_uploaded_as_it_is(tmp_path: Path, whole: Path, fake: type[FakeHub]) -> None:
    assert "uploaded" in run("export", whole, "--out", tmp_path / "model", "--push-to-hub", "me/model")
    [uploaded] = fake.uploads
    assert uploaded == {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}


def test_without_a_token_nothing_is_begun(tmp_path: Path, whole: Path, fake: type[FakeHub], monkeypatch) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: None)
    said = run("export", whole, "--out", tmp_path / "model", "--push-to-hub", "me/model", status=2)
    assert "hf auth login" in said
    assert not (tmp_path / "model").exists()


def test_a_refusal_is_said_and_the_folder_stays(tmp_path: Path, whole: Path, fake: type[FakeHub], monkeypatch) -> None:
    monkeypatch.setattr(fake, "refuses", True)
    said = run("export", whole, "--out", tmp_path / "model", "--push-to-hub", "me/model", status=2)
    assert "me/model cannot be written to: 403 Forbidden: no write access" in said
    assert (tmp_path / "model" / "README.md").exists()


def test_adapters_of_what_nobody_has_are_not_uploaded(tmp_path: Path, adapted: Path, fake: type[FakeHub]) -> None:
    said = run("export", adapted, "--out", tmp_path / "a", "--adapter", "--push-to-hub", "me/model", status=2)
    assert "not on the hub" in said
    assert fake.uploads == []
