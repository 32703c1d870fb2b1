"""A checkpoint of a run as a folder that anybody can load: weights, tokenizer, processor, recipe and model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from huggingface_hub import try_to_load_from_cache
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from foveate.context import Context
from foveate.errors import FoveateError
from foveate.evaluation.folder import SCORES
from foveate.families import EMBEDDED, VLM, checkpoint_digest
from foveate.families import adapters as lora
from foveate.protocols import Ask, Subject
from foveate.publishing.card import Card
from foveate.questions.schema import Question
from foveate.recipes import Recipe, dump_recipe, load_recipe
from foveate.runs import EXPORTED_RECIPE, Origin, load_policy, origin_of, recipe_for
from foveate.training.checkpoints import step_of

Dtype = Literal["float32", "bfloat16"]


class ExportError(FoveateError, ValueError):
    """What cannot be exported, or not so; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that was written.

    Attributes:
        checkpoint: that it was made of.
        base: what the weights need, or were made from: a hub id, "tiny", or a folder of this machine.
        adapter: whether it holds adapters alone.
    """

    folder: Path
    checkpoint: Path
    base: str
    adapter: bool


def export_run(
    model: str,
    out: Path,
    *,
    adapter: bool = False,
    dtype: Dtype = "float32",
    scores: Sequence[Path] = (),
    licence: str | None = None,
) -> Exported:
    """Writes a clean `save_pretrained` folder; adapters are added to the weights of their base.

    Args:
        model: a run's folder, for its newest checkpoint, or one of its checkpoints.
        out: a folder that is empty or missing.
        adapter: the adapters alone.
        dtype: of the weights that are written. Training keeps float32; bfloat16 takes half of it.
        scores: folders of evaluations, or score files, for the model card.
        licence: for the card; that of the base where it says one.

    Raises:
        ExportError: the model comes from no run, has no adapters, the folder is not empty, or scores are of another
            checkpoint.
    """
    origin = origin_of(model)
    if origin is None:
        raise ExportError(f"{model} is no folder of a run and no checkpoint in one: give what `foveate train` wrote")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is not empty: name another folder")
    if adapter and lora.base_of(origin.checkpoint) is None:
        raise ExportError(f"{origin.checkpoint} has no adapters: all weights were trained, export it without --adapter")
    vlm, asked, base = load_policy(str(origin.checkpoint)), recipe_for(str(origin.checkpoint)), _base_of(origin)
    records = [_record(path, vlm) for path in scores]
    out.mkdir(parents=True, exist_ok=True)
    if adapter:
        _write_adapters(origin.checkpoint, out, getattr(torch, dtype))
        vlm.family.save(out)
    else:
        vlm.model.to(getattr(torch, dtype))
        vlm.save(out)
    (out / EXPORTED_RECIPE).write_text(dump_recipe(asked), encoding="utf-8")
    needs = lora.base_of(origin.checkpoint) if adapter else None  # perhaps an earlier stage, not its base
    card = Card(
        name=out.absolute().name,
        base=Path(base).name if Path(base).is_dir() else base,
        on_hub="/" in base and not Path(base).is_dir(),
        licence=licence or _licence_of(base),
        adapter=adapter,
        stands_on=Path(needs.model).name if needs and needs.model != base else None,
        dtype=dtype,
        trained=load_recipe(origin.folder / "recipe.yaml"),
        asked=asked,
        noted=origin.noted,
        steps=step_of(origin.checkpoint),
        scores=records,
        first=_first_turn(asked, vlm),
    )
    (out / "README.md").write_text(card.text(), encoding="utf-8")
    return Exported(out, origin.checkpoint, needs.model if needs else base, adapter)


def _write_adapters(checkpoint: Path, out: Path, dtype: torch.dtype) -> None:
    with safe_open(checkpoint / lora.WEIGHTS, framework="pt") as weights:
        cast = {name: weights.get_tensor(name).to(dtype) for name in weights.keys()}  # noqa: SIM118
    save_file(cast, out / lora.WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(checkpoint / lora.CONFIG, out / lora.CONFIG)


def _base_of(origin: Origin) -> str:
    """What training began from, through the runs that went before; adapters stand on what they name."""
    if adapted := lora.base_of(origin.checkpoint):
        base = adapted.model
    else:
        base = str(origin.noted.get("model", origin.folder))
    before = origin_of(base) if base != EMBEDDED and Path(base).is_dir() else None
    return _base_of(before) if before and before.checkpoint != origin.checkpoint else base


def _licence_of(base: str) -> str | None:
    """What the base's own card says, where that is on this machine."""
    if base == EMBEDDED:
        return "apache-2.0"  # as foveate itself
    cached = Path(base) / "README.md" if Path(base).is_dir() else try_to_load_from_cache(base, "README.md")
    if not isinstance(cached, str | Path) or not Path(cached).is_file():
        return None
    pieces = Path(cached).read_text(encoding="utf-8", errors="replace").split("---\n")
    try:
        front = yaml.safe_load(pieces[1]) if len(pieces) > 2 and not pieces[0].strip() else None
    except yaml.YAMLError:
        return None
    said = front.get("license") if isinstance(front, dict) else None
    return said if isinstance(said, str) else None


def _record(path: Path, vlm: VLM) -> Mapping[str, Any]:
    """A score file, which must be of this checkpoint."""
    file = path / SCORES if path.is_dir() else path
    try:
        record: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        _ = record["summary"]["intervals"], record["setup"]["data_sha256"]
    except FileNotFoundError:
        raise ExportError(f"{file}: there is no such file of scores; `foveate eval --out FOLDER` writes one") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{file} is no score file as `foveate eval` writes it: {error!r}") from error
    # At an endpoint nothing says which weights answer.
    if "endpoint" not in record and record.get("identity") != checkpoint_digest(vlm):
        raise ExportError(f"{file} has the scores of another checkpoint: evaluate {vlm.model.name_or_path}")
    return record


def _first_turn(asked: Recipe, vlm: VLM) -> Context:
    question = Question(id="example", image=b"", text="What is written on the sign?", answer="")
    subject = Subject(question, Image.new("RGB", (4032, 3024)), vlm.family)
    first = asked.build_protocol(vlm.family.budget).next(subject, ())
    assert isinstance(first, Ask)  # no episode ends before its first turn
    return first.context
