"""From a path or hub id to a model, and what is said when a part is missing."""

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.models import KINDS, noise_view, published_processor, random_vlm

from foveate.context import Context
from foveate.families import EMBEDDED, UnsupportedModelError, checkpoint_digest, load, tiny
from foveate.images import PixelBudget, View
from foveate.regions import Box


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded checkpoint, to be broken."""
    target = tmp_path / "checkpoint"
    shutil.copytree(tiny.path(), target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return target


def change_config(folder, **changes):
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def same(first, second):
    assert first.model.state_dict().keys() == second.model.state_dict().keys()
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name
    context = Context.user(noise_view(4, 3, patch=first.family.multiple), "locate red")
    one, two = first.family.encode(context), second.family.encode(context)
    assert one.token_ids == two.token_ids
    assert torch.equal(one.images["pixel_values"], two.images["pixel_values"])
    assert first.family.budget == second.family.budget
    assert first.family.box_style == second.family.box_style
    assert first.family.forbidden_token_ids() == second.family.forbidden_token_ids()


def test_the_embedded_model_is_the_default():
    vlm = load()
    same(vlm, load(EMBEDDED))
    same(vlm, load(tiny.path()))
    assert not vlm.model.training
    assert vlm.model.dtype == torch.float32
    assert vlm.device.type == "cpu"


def test_a_chat_template_may_lie_where_processors_used_to_keep_it(folder):
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()
    same(load(folder), load())


def test_the_weights_precision_can_be_chosen():
    assert load(dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_saved_and_loaded_again_it_is_the_same(tmp_path):
    vlm = load()
    with torch.no_grad():
        next(vlm.model.parameters()).add_(1.0)
    vlm.save(tmp_path / "a" / "b")
    same(vlm, load(tmp_path / "a" / "b"))
    same(vlm, load(str(tmp_path / "a" / "b")))


def test_a_checkpoint_with_qwens_tokenizer_survives_the_round_trip(qwen_vlm, tmp_path):
    qwen_vlm.save(tmp_path)
    loaded = load(tmp_path)
    same(qwen_vlm, loaded)
    assert loaded.family.tokenizer.chat_template == qwen_vlm.family.tokenizer.chat_template
    assert loaded.family.eos_token_id == 151_645
    assert loaded.family.pad_token_id == 151_643
    assert loaded.family.box_style == "json"


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./nope", "../nope", "runs/demo/nope", "a/b/c/d", "~/no-such-folder-here"]
)
def test_a_missing_folder_is_said_at_once_and_not_looked_up(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load(name)


def test_a_misspelt_name_in_a_folder_that_exists_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="runs/nope"):
        load("runs/nope")


@pytest.mark.parametrize("name", ["some-organisation/some-model", "no-such-model"])
def test_a_hub_id_that_cannot_be_had_is_an_os_error(name):
    with pytest.raises(OSError, match=name):
        load(name)


def test_a_file_is_no_checkpoint(folder):
    with pytest.raises(UnsupportedModelError, match="is a file"):
        load(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("config.json", "configuration"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
        ("tokenizer_config.json", "tokenizer"),
        ("preprocessor_config.json", "image processor"),
        ("chat_template.jinja", "chat template"),
    ],
)
def test_a_missing_file_is_named(folder, file, part):
    (folder / file).unlink()
    with pytest.raises(UnsupportedModelError, match=part) as caught:
        load(folder)
    assert file in str(caught.value)
    assert str(folder) in str(caught.value)


def test_pickled_weights_are_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModelError, match=r"model\.safetensors"):
        load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_any_family_is_told_by_its_configuration(kind, tmp_path):
    """Saved and loaded by its path alone; the logits are the same to the last bit."""
    made = random_vlm(kind=kind, tied=kind == "internvl")
    made.save(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded.family) is type(made.family)
    assert type(loaded.model) is type(made.model)
    same(made, loaded)
    encoded = made.family.encode(Context.user(noise_view(4, 3, patch=made.family.multiple), "locate red"))
    with torch.no_grad():
        one, two = (
            vlm.model(
                input_ids=torch.tensor([encoded.token_ids]),
                position_ids=made.family.position_ids(encoded.positions_AL[:, None]),
                **encoded.images,
            ).logits
            for vlm in (made, loaded)
        )
    assert torch.equal(one, two)
    assert checkpoint_digest(loaded)


CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
PUBLISHED = {
    "qwen2_vl": (
        {"min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
        | CLIP
        | {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor"},
        PixelBudget(3136, 12_845_056),
    ),
    "qwen2_5_vl": (
        {"min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
        | CLIP
        | {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"},
        PixelBudget(3136, 12_845_056),
    ),
    "qwen3_vl": (
        {"size": {"longest_edge": 16_777_216, "shortest_edge": 65_536}, "patch_size": 16, "merge_size": 2}
        | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "temporal_patch_size": 2}
        | {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"},
        PixelBudget(65_536, 16_777_216),
    ),
    "internvl": (
        {"crop_size": None, "crop_to_patches": False, "min_patches": 1, "max_patches": 12, "resample": 3}
        | {"size": {"height": 448, "width": 448}, "size_divisor": None, "data_format": "channels_first"}
        | {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_center_crop": None}
        | {"image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor"},
        PixelBudget(448 * 448, 12 * 448 * 448),
    ),
}
"""What the image processors of published checkpoints are told, by their keys."""


@pytest.mark.parametrize("nested", [False, True], ids=["preprocessor_config", "processor_config"])
@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_processors_settings_are_read_as_they_are_published(kind, nested, tmp_path):
    """Also as transformers writes them since version 5, within the processor's own."""
    settings, budget = PUBLISHED[kind]
    random_vlm(kind=kind, processor=published_processor(kind)).save(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    name, written = "preprocessor_config.json", settings
    if nested:
        name, written = "processor_config.json", {"image_processor": settings}
    (tmp_path / name).write_text(json.dumps(written))
    family = load(tmp_path).family
    assert family.budget == budget
    assert family.multiple == (32 if kind == "qwen3_vl" else 28)
    side = 448
    grey = Image.new("RGB", (side, side), (128, 128, 128))
    values = family.pixels(View(grey, Box(0, 0, side, side), (side, side)))["pixel_values"]
    for mean, std in zip(settings["image_mean"], settings["image_std"], strict=True):
        assert torch.isclose(values, torch.tensor((128 / 255 - mean) / std), atol=1e-5).any()


@pytest.mark.parametrize("kind", ["llama", "qwen3_5", "martian", None])
def test_other_models_are_refused_by_name(folder, kind):
    change_config(folder, model_type=kind)
    with pytest.raises(UnsupportedModelError, match=kind or "model_type") as caught:
        load(folder)
    for supported in ("qwen2_5_vl", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "internvl"):
        assert supported in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen3_5"}, "linear-attention"),
        ({"model_type": "qwen3_5_moe"}, "linear-attention"),
        ({"model_type": "qwen3_next"}, "linear-attention"),
        ({"model_type": "other", "text_config": {"layer_types": ["linear_attention"]}}, "linear-attention"),
        ({"model_type": "internvl_chat", "auto_map": {"AutoConfig": "c.C"}}, "OpenGVLab/InternVL3-1B-hf"),
        ({"model_type": "llava_qwen", "auto_map": {"AutoConfig": "c.C"}}, "code of its own"),
        ({"model_type": "gemma3"}, "is a 'gemma3' model. Supported"),
    ],
)
def test_unsuitable_models_are_refused_with_the_reason(folder, changes, reason):
    change_config(folder, **changes)
    with pytest.raises(UnsupportedModelError, match=reason):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_in_a_checkpoint_is_not_run(folder, name):
    """Neither is a person asked on the terminal whether to run it."""
    bait = folder / "bait.py"
    bait.write_text("raise SystemExit('the code of the checkpoint was run')\n")
    written = json.loads((folder / name).read_text())
    written["auto_map"] = {
        "AutoConfig": "bait.C",
        "AutoModelForImageTextToText": "bait.M",
        "AutoTokenizer": [None, "bait.T"],
        "AutoImageProcessor": "bait.P",
    }
    (folder / name).write_text(json.dumps(written))
    same(load(), load(folder))


def test_a_language_model_that_may_not_attend_plainly_is_refused(tmp_path):
    random_vlm(kind="internvl").save(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    written["text_config"] = {"model_type": "gpt_oss", "vocab_size": 164}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(UnsupportedModelError, match="gpt_oss"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"<html>not found</html>"])
def test_broken_files_are_errors_a_person_can_read(folder, file, content):
    (folder / file).write_bytes(content)
    with pytest.raises((UnsupportedModelError, OSError)) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_missing_weights_are_not_made_up(folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "mlp.gate_proj" in name)
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="1 weights"):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    change_config(folder, image_token_id=9)
    with pytest.raises(UnsupportedModelError, match="not of one checkpoint"):
        load(folder)


def loaded_from(folder):
    """All of a model that its digest asks for."""
    return SimpleNamespace(model=SimpleNamespace(name_or_path=str(folder), config=SimpleNamespace()))


def test_a_change_of_any_one_tensor_is_a_change_of_the_checkpoint(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    content = 8 + int.from_bytes(whole[:8], "little")
    tensors = json.loads(whole[8:content])
    tensors.pop("__metadata__", None)
    assert sum(end - begin for begin, end in (one["data_offsets"] for one in tensors.values())) == len(whole) - content
    digests = {checkpoint_digest(loaded_from(folder))}
    for one in tensors.values():
        begin, end = (content + offset for offset in one["data_offsets"])
        file.write_bytes(whole[:begin] + bytes(255 - byte for byte in whole[begin:end]) + whole[end:])
        digests.add(checkpoint_digest(loaded_from(folder)))
    assert len(digests) == len(tensors) + 1
    file.write_bytes(whole)
    assert checkpoint_digest(loaded_from(folder)) in digests


def test_the_same_bytes_under_another_shape_are_another_checkpoint(tmp_path):
    for name, shape in (("a", (2, 8)), ("b", (8, 2))):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.ones(shape)}, tmp_path / name / "model.safetensors")
    assert checkpoint_digest(loaded_from(tmp_path / "a")) != checkpoint_digest(loaded_from(tmp_path / "b"))


def test_little_of_a_large_checkpoint_is_read_for_its_digest(tmp_path, monkeypatch):
    """Two files of four tensors of 256 MiB each, sparse on the disk."""
    size, read = 2**28, []

    class Counted(io.FileIO):
        def readinto(self, buffer):
            read.append(super().readinto(buffer))
            return read[-1]

        def readall(self):
            pytest.fail("a whole file is read")

    for number in range(2):
        entries = {
            f"{number}.{n}": {"dtype": "U8", "shape": [size], "data_offsets": [n * size, (n + 1) * size]}
            for n in range(4)
        }
        header = json.dumps(entries).encode()
        with (tmp_path / f"model-{number}.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(file.tell() + 4 * size)
    monkeypatch.setattr(Path, "open", lambda path, mode: io.BufferedReader(Counted(path, mode)))
    assert checkpoint_digest(loaded_from(tmp_path))
    tensors, places, buffered = 8, 3, io.DEFAULT_BUFFER_SIZE
    assert tensors * places * 4096 <= sum(read) <= 2 * tensors * places * (4096 + buffered)


def test_a_folder_without_weights_has_no_digest(tmp_path):
    assert checkpoint_digest(loaded_from(tmp_path)) == ""
