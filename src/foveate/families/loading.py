"""From a path or hub id to a model that can be spoken to."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils.hub import cached_file

from foveate.families import adapters, tiny
from foveate.families.base import VLM
from foveate.families.registry import architecture_of
from foveate.families.traits import UnsupportedModelError

EMBEDDED = "tiny"
"""The name of the model that ships with the package."""

_SAMPLE = 4096
"""Bytes of a tensor that are read at each of three places: some megabytes of a checkpoint of any size."""
_HUB_ID = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?")
_NEEDED = (
    ("the configuration", ("config.json",)),
    ("the weights in safetensors", ("model.safetensors", "model.safetensors.index.json")),
    ("the tokenizer", ("tokenizer.json", "vocab.json")),
    ("the tokenizer's configuration", ("tokenizer_config.json",)),
    ("the image processor", ("preprocessor_config.json", "processor_config.json")),
)
"""What a checkpoint folder holds, each in one of these files."""


def load(model: str | Path = EMBEDDED, *, revision: str | None = None, dtype: torch.dtype = torch.float32) -> VLM:
    """Loads a checkpoint from a folder, from the hub, or the embedded one (`"tiny"`). Safetensors only.

    Code that comes with a checkpoint is never run: every supported family is transformers' own.

    Of a folder of LoRA adapters, the checkpoint that they were trained on, with the adapters added to its weights.

    Args:
        model: a folder in `save_pretrained` layout, with tokenizer, chat template and image processor; or a hub id.
            What can only be a path (it begins with `.`, `/` or `~`, is deeper than a hub id, or its parent folder
            exists) is never looked up on the hub.
        revision: of a hub id.
        dtype: of the weights.

    Raises:
        UnsupportedModelError: the architecture is not one of the supported families, or a part is missing or does not
            fit.
        OSError: there is no such folder or hub id, or the hub cannot be reached.
    """
    if base := adapters.base_of(Path(model).expanduser()):
        below = _below(base, model, dtype)
        return VLM(adapters.merged(below.model, Path(model).expanduser()), below.family)
    path = str(tiny.path()) if str(model) == EMBEDDED else _checkpoint(model)
    with _reading("configuration", path):
        # As it is written, first: transformers knows nothing of some models that there is something to say about.
        architecture = architecture_of(path, PretrainedConfig.get_config_dict(path, **_at(revision))[0])
        config = AutoConfig.from_pretrained(path, **_at(revision))
    with _reading("tokenizer", path):
        tokenizer = AutoTokenizer.from_pretrained(path, **_at(revision))
        tokenizer.chat_template = tokenizer.chat_template or _processors_template(path, revision)
    if not tokenizer.chat_template:
        raise UnsupportedModelError(
            f"{path}: the tokenizer has no chat template: add the model's chat_template.jinja to the folder"
        )
    with _reading("image processor", path):
        processor = architecture.image_processor.from_pretrained(path, **_at(revision))
    family = architecture.family(config, tokenizer, processor)
    with _reading("weights", path):
        weights = _weights(architecture.weights, path, config, revision, dtype)
    weights.eval()  # dropout stays off in training too: old and new log-probs must be of one function
    return VLM(weights, family)


def checkpoint_digest(vlm: VLM) -> str:
    """What tells the checkpoint that a model was loaded from apart from others; "" where it was loaded from none.

    Of a folder, its weights: the names, types and shapes of all tensors, and bytes from the beginning, the middle and
    the end of every one. So a copy is the same, and one of which any tensor was trained is not, be all others frozen; a
    change to single elements of a large tensor may be missed. Of the hub, its id and commit. Of LoRA adapters, their
    weights and what they were trained on.
    """
    return _digest(str(vlm.model.name_or_path), getattr(vlm.model.config, "_commit_hash", None))


def _digest(model: str, commit: str | None) -> str:
    path = tiny.path() if model == EMBEDDED else Path(model)
    if not path.is_dir():
        return f"{model}@{commit}" if commit else ""
    digest = hashlib.sha256()
    if base := adapters.base_of(path):
        # With the scale that the weights are added with, but not where the base lies: it may be moved.
        config = json.loads((path / adapters.CONFIG).read_text(encoding="utf-8"))
        own = {name: value for name, value in config.items() if name not in adapters.NAMES_BASE}
        digest.update(json.dumps(own, sort_keys=True).encode())
        digest.update((_digest(base.model, base.revision) or base.model).encode())
    files = sorted(path.glob("*.safetensors"))
    for file in files:
        digest.update(f"{file.name} ".encode())
        for sample in _samples(file):
            digest.update(sample)
    return digest.hexdigest() if files else ""


def _samples(file: Path) -> Iterator[bytes]:
    """The header of a safetensors file (its length in eight bytes, then JSON), then some of every tensor's bytes."""
    with file.open("rb") as weights:
        header = weights.read(int.from_bytes(weights.read(8), "little"))
        yield header
        content = weights.tell()
        tensors = (entry for name, entry in json.loads(header).items() if name != "__metadata__")
        for begin, end in sorted(tuple(tensor["data_offsets"]) for tensor in tensors):
            spread = (begin, (begin + end - _SAMPLE) // 2, end - _SAMPLE)
            small = end - begin <= len(spread) * _SAMPLE
            for place in (begin,) if small else spread:
                weights.seek(content + place)
                yield weights.read(end - begin if small else _SAMPLE)


def _checkpoint(model: str | Path) -> str:
    """The folder, checked for its parts, or what can only be a hub id."""
    path = Path(model).expanduser()
    if path.is_dir():
        for part, names in _NEEDED:
            if not any((path / name).is_file() for name in names):
                raise UnsupportedModelError(f"{path} lacks {part}: there is no {' or '.join(names)}")
        return str(path)
    if path.exists():
        raise UnsupportedModelError(f"{path} is a file: name the folder of the checkpoint")
    written = os.fspath(model)
    # A name in a folder that is there is a misspelt path, not an organisation's model.
    if not _HUB_ID.fullmatch(written) or ("/" in written and path.parent.is_dir()):
        raise FileNotFoundError(f"there is no folder {path}")
    return written


def _below(base: adapters.Base, folder: str | Path, dtype: torch.dtype) -> VLM:
    """What adapters were trained on."""
    try:
        return load(base.model, revision=base.revision, dtype=dtype)
    except OSError as error:
        raise type(error)(
            f"{folder} holds adapters of {base.model}, which cannot be loaded ({error}): put it there, or write where "
            f"it is into base_model_name_or_path of {Path(folder) / adapters.CONFIG}"
        ) from error


def _processors_template(path: str, revision: str | None) -> str | None:
    """The chat template as processors kept it before chat_template.jinja came; the tokenizer does not look there."""
    file = cached_file(path, "chat_template.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(file).read_text(encoding="utf-8")).get("chat_template") if file else None


def _weights(
    kind: type[PreTrainedModel], path: str, config: PretrainedConfig, revision: str | None, dtype: torch.dtype
) -> PreTrainedModel:
    loaded: Any = kind.from_pretrained(
        path, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **_at(revision)
    )
    weights: PreTrainedModel = loaded[0]
    if missing := sorted({*loaded[1]["missing_keys"], *(str(key) for key in loaded[1]["mismatched_keys"])}):
        raise UnsupportedModelError(
            f"{path}: {len(missing)} weights of the model are missing or of another shape, {missing[0]} first: "
            "they would be random"
        )
    return weights


def _at(revision: str | None) -> dict[str, Any]:
    # Said aloud: where it is left open, transformers asks on the terminal whether to run a checkpoint's code.
    asked: dict[str, Any] = {"trust_remote_code": False}
    return asked if revision is None else asked | {"revision": revision}


@contextmanager
def _reading(part: str, path: str) -> Iterator[None]:
    """What transformers raises over a broken file (JSON, safetensors, an unknown model_type), with the names."""
    try:
        yield
    except UnsupportedModelError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        kind = OSError if isinstance(error, OSError) else UnsupportedModelError
        raise kind(f"{path}: its {part} cannot be read: {reason}") from error
