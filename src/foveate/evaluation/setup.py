"""What a score depends on besides the weights: prompts, budgets, sampling, data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from foveate.context import Sampled
from foveate.episodes import Answerer, Turn
from foveate.generators.base import Generator
from foveate.images import ImageSource, View, open_image
from foveate.questions.pictures import EmbeddedImage
from foveate.questions.schema import Question


def wording_of(turn: Turn) -> list[str]:
    """What a turn's model was shown, with pictures as their sizes."""
    shown = []
    for message in turn.context.messages:
        for part in message.parts:
            if isinstance(part, View):
                shown.append(f"<image {part.size[0]}x{part.size[1]}>")
            else:
                shown.append("<its earlier reply>" if isinstance(part, Sampled) else part)
    return shown


def fields_of(value: object) -> dict[str, Any]:
    """A dataclass by its class's name and its fields; of anything else, the class's name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"name": type(value).__name__, **dataclasses.asdict(value)}
    return {"name": type(value).__name__}


def family_of(generator: Generator) -> dict[str, Any]:
    """What of the model's family decides how it is asked: frame, box style, patch, pixel budget."""
    family = generator.family
    return {
        "name": getattr(family, "name", type(family).__name__),
        "frame": str(family.frame),
        "box_style": family.box_style,
        "multiple": family.multiple,
        "budget": dataclasses.asdict(family.budget),
    }


def setup_of(answerer: Answerer) -> dict[str, Any]:
    """How a model is asked that answers where another one located: its own budgets are in its protocol."""
    return {"protocol": fields_of(answerer.protocol), "family": family_of(answerer.generator)}


def fingerprint(question: Question) -> bytes:
    """A digest of a question: its words, true boxes and points, and picture, but not of where its file lies."""
    words: dict[str, object] = {
        "id": question.id,
        "text": question.text,
        "answer": question.answer,
        "choices": dict(question.choices) if question.choices is not None else None,
        "regions": [[box.corners for box in region] for region in question.regions],
        "category": question.category,
    }
    if question.view_pixels is not None:  # only where it is: digests of data without it stay as they were
        words["view_pixels"] = question.view_pixels
    if question.points is not None:
        words["points"] = [point.coordinates for point in question.points]
    if question.tags:
        words["tags"] = dict(question.tags)
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for picture in (question.image, *question.others):
        digest.update(hashlib.sha256(_encoded(picture)).digest())
    return digest.digest()


def data_sha256(fingerprints: Iterable[bytes]) -> str:
    """Of questions in their order: runs on the same data have the same."""
    digest = hashlib.sha256()
    for one in fingerprints:
        digest.update(one)
    return digest.hexdigest()


def _encoded(source: ImageSource) -> bytes:
    if isinstance(source, bytes):
        return source
    if not callable(source):
        return Path(source).read_bytes()
    if isinstance(source, EmbeddedImage):
        return source.encoded()
    if hasattr(source, "__dataclass_fields__"):  # a scene: its repr says all that it is drawn from
        return repr(source).encode()
    image = open_image(source)
    return repr(image.size).encode() + image.tobytes()
