"""What differs between model families, behind one interface."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from foveate.context import Context, Sampled
from foveate.errors import FoveateError
from foveate.families.adapters import has_adapters, save_adapters
from foveate.families.geometry import Geometry
from foveate.families.traits import BoxStyle, UnsupportedModelError
from foveate.images import PixelBudget, View
from foveate.regions import Frame

# Unicode's noncharacters, which no text may hold, mark places while the chat template is rendered.
_SPLICE = "\ufdd0"
"""Stands for sampled tokens."""
_CUT = "\ufdd1"
"""Keeps the two sides from being tokenised together."""
_CACHED_BYTES = 1 << 29
"""Of pixels kept for the next forward. Over it all are dropped: at the end of an evaluation every view is alive."""


class ContextError(FoveateError, ValueError):
    """A context that cannot be turned into model inputs."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A context as a model takes it. Everything on the CPU.

    Attributes:
        token_ids: with one placeholder token per visual feature.
        positions_AL: position ids per axis (3 for multimodal rotary embeddings, 1 otherwise) and token.
        images: keyword arguments of the model's forward, to be concatenated along their first axis over images.
        spans: for each `Sampled` part, in order, its start and end in `token_ids`.
    """

    token_ids: tuple[int, ...]
    positions_AL: Tensor
    images: Mapping[str, Tensor]
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def next_position(self) -> int:
        """Where the first token generated after this context stands, on every axis."""
        return int(self.positions_AL.max()) + 1


class Family(ABC):
    """How to speak to a family of models: chat format, coordinates, images, positions.

    Attributes:
        layout: how it makes visual tokens of pixels.
        geometry: the same with this model's sizes.

    Args:
        config: the model's configuration.
        tokenizer: with its chat template.
        image_processor: used for normalisation and patches only; resizing is done by `images.full_view` and
            `images.crop_view`, so that the map back to the original is exact.

    Raises:
        UnsupportedModelError: the parts do not go together.
    """

    name: ClassVar[str]
    frame: ClassVar[Frame]
    layout: ClassVar[type[Geometry]]
    geometry: Geometry

    def __init__(self, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, image_processor: Any) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.box_style: BoxStyle = getattr(config, "foveate_box_style", "json")
        if len(tokenizer) > (embedded := config.get_text_config().vocab_size):
            raise UnsupportedModelError(f"the tokenizer has {len(tokenizer)} tokens, the model only {embedded}")
        if tokenizer.eos_token_id is None:
            raise UnsupportedModelError(
                "the tokenizer names no eos_token, which ends a reply: see tokenizer_config.json"
            )
        if self.box_style not in get_args(BoxStyle):
            raise UnsupportedModelError(f"foveate_box_style is {self.box_style!r}, not one of {get_args(BoxStyle)}")
        known = tokenizer.get_vocab()
        if (written := known.get(self.image_marker)) != self.image_token_id:
            raise UnsupportedModelError(
                f"the tokenizer writes {self.image_marker} as {written}, the model expects {self.image_token_id}: "
                "they are not of one checkpoint"
            )
        # The model's embedding is padded to a round number. Such an id has no text, and no reply should have it.
        forbidden = set(range(embedded)).difference(known.values())
        forbidden |= {known[token] for token in self.vision_tokens if token in known}
        forbidden |= {self.image_token_id, getattr(config, "video_token_id", self.image_token_id)}
        if self.pad_token_id != self.eos_token_id:
            forbidden.add(self.pad_token_id)
        self._forbidden = tuple(sorted(forbidden))
        # In a question's text these would end its message, or stand for an image.
        special = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._reserved = re.compile("|".join(re.escape(token) for token in (self.image_marker, *special)))
        # Sampling and training encode the same contexts. Neither a view nor a context ever changes, and an entry goes
        # when its key does: these are inputs of the vision tower, not its features, which would go stale.
        self._pixels: WeakKeyDictionary[View, Mapping[str, Tensor]] = WeakKeyDictionary()
        self._encoded: WeakKeyDictionary[Context, Encoded] = WeakKeyDictionary()
        self.geometry = self.layout.of(config)

    # --- what a family says of itself ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def budget(self) -> PixelBudget:
        """The pixel budget of one image that the checkpoint's processor was saved with."""

    @property
    @abstractmethod
    def image_token_id(self) -> int:
        """The placeholder that stands for one visual feature."""

    @property
    @abstractmethod
    def vision_tokens(self) -> tuple[str, ...]:
        """Special tokens that stand for images and videos, or around them. A vocabulary need not have all of them."""

    @abstractmethod
    def placeholders(self, view: View) -> str:
        """The text that the chat template's single image marker is replaced by for this view."""

    @property
    @abstractmethod
    def image_marker(self) -> str:
        """The text that the chat template writes for one image."""

    @abstractmethod
    def pixels(self, view: View) -> Mapping[str, Tensor]:
        """The view as keyword arguments of the model's forward."""

    @abstractmethod
    def positions(self, token_ids: Sequence[int], views: Sequence[View]) -> Tensor:
        """Position ids (axes, length) of a whole sequence."""

    # --- what follows from it -----------------------------------------------------------------------------------

    @property
    def multiple(self) -> int:
        """The side of one visual token, in pixels: shown sizes are multiples of it."""
        return self.geometry.multiple

    def features_in(self, images: Mapping[str, Tensor]) -> int:
        """How many visual features the model will make of these keyword arguments: one per placeholder expected."""
        return self.geometry.features_in(images)

    @property
    def eos_token_id(self) -> int:
        """The token that ends a reply."""
        return int(self.tokenizer.eos_token_id)

    @property
    def pad_token_id(self) -> int:
        """The token that fills batches; always masked."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    def forbidden_token_ids(self) -> tuple[int, ...]:
        """Tokens that must never be sampled: vision placeholders, padding, and ids without a token; in order."""
        return self._forbidden

    def encode(self, context: Context) -> Encoded:
        """A context, ready for the next generation, as model inputs.

        Special tokens in a text (a prompt injected through data) are tokenised as the ordinary characters they are
        written with; sampled tokens are taken as they are.

        Raises:
            ContextError: a text holds a Unicode noncharacter that marks places here, the chat template lost or
                doubled an image or a reply, or the number of placeholders differs from the number of visual features.
        """
        encoded = self._encoded.get(context)
        if encoded is None:
            encoded = self._encode(context)
            self._encoded[context] = encoded
        return encoded

    def _encode(self, context: Context) -> Encoded:
        messages, sampled = self._template_messages(context)
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        views = context.views
        pieces = str(rendered).split(self.image_marker)
        if len(pieces) != len(views) + 1:
            raise ContextError(f"the chat template wrote {len(pieces) - 1} image markers for {len(views)} images")
        text = pieces[0] + "".join(
            self.placeholders(view) + piece for view, piece in zip(views, pieces[1:], strict=True)
        )
        token_ids, spans = self._splice(text, sampled)
        images = self.collate_images(views)
        features = self.features_in(images)
        if (found := token_ids.count(self.image_token_id)) != features:
            raise ContextError(f"{found} placeholder tokens for {features} visual features: a reply holds placeholders")
        return Encoded(tuple(token_ids), self.positions(token_ids, views), images, tuple(spans))

    def feature_count(self, view: View) -> int:
        """How many visual tokens the view costs."""
        return (view.size[0] // self.multiple) * (view.size[1] // self.multiple)

    def position_ids(self, positions_ABT: Tensor) -> Tensor:
        """Positions (axes, batch, length) as the model's forward takes them: (batch, length) of a single axis."""
        return positions_ABT[0] if len(positions_ABT) == 1 else positions_ABT

    def collate_images(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The pixels of several views as one set of keyword arguments; empty when there are none."""
        parts = [self._pixels_of(view) for view in views]
        if len(parts) == 1:
            return dict(parts[0])
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def _pixels_of(self, view: View) -> Mapping[str, Tensor]:
        pixels = self._pixels.get(view)
        if pixels is None:
            pixels = self.pixels(view)
            kept = [*self._pixels.values(), *(encoded.images for encoded in self._encoded.values())]
            if sum(tensor.nbytes for tensors in kept for tensor in tensors.values()) > _CACHED_BYTES:
                self._pixels.clear()
                self._encoded.clear()
            self._pixels[view] = pixels
        return pixels

    def reply(self, text: str) -> tuple[int, ...]:
        """The tokens of a whole reply, as a model would sample them: the text's, then the one that ends it.

        Special tokens in the text are the ordinary characters they are written with, as in `encode`.
        """
        pieces = self._plain(text).split(_CUT)
        token_ids = [i for piece in pieces for i in self.tokenizer.encode(piece, add_special_tokens=False)]
        return (*token_ids, self.eos_token_id)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of sampled tokens, without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    def save(self, directory: Path) -> None:
        """Writes tokenizer, chat template and image processor beside the weights."""
        self.tokenizer.save_pretrained(directory)
        self.image_processor.save_pretrained(directory)

    def _plain(self, text: str) -> str:
        """A text whose special tokens are cut in two, so that they are not taken for such."""
        return self._reserved.sub(lambda match: match[0][0] + _CUT + match[0][1:], text)

    def _template_messages(self, context: Context) -> tuple[list[dict[str, Any]], list[tuple[int, ...]]]:
        messages: list[dict[str, Any]] = []
        sampled: list[tuple[int, ...]] = []
        for message in context.messages:
            content: list[dict[str, str]] = []
            for part in message.parts:
                if isinstance(part, View):
                    content.append({"type": "image"})
                elif isinstance(part, Sampled):
                    sampled.append(part.token_ids)
                    content.append({"type": "text", "text": _SPLICE})
                elif _SPLICE in part or _CUT in part:
                    raise ContextError(f"the text {part[:60]!r} holds a Unicode noncharacter (U+FDD0 or U+FDD1)")
                else:
                    content.append({"type": "text", "text": self._plain(part)})
            messages.append({"role": message.role, "content": content})
        return messages, sampled

    def _splice(self, text: str, sampled: Sequence[tuple[int, ...]]) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of the text with the sampled ids in place; the end-of-reply token is not written twice."""
        if (found := text.count(_SPLICE)) != len(sampled):
            raise ContextError(f"the chat template wrote {found} of the model's own replies, not {len(sampled)}")
        token_ids: list[int] = []
        spans: list[tuple[int, int]] = []
        replies = iter(sampled)
        for piece in re.split(f"({_SPLICE}|{_CUT})", text):
            if piece == _SPLICE:
                ids = next(replies)
                spans.append((len(token_ids), len(token_ids) + len(ids)))
                token_ids += ids
            elif piece != _CUT:
                eos = self.tokenizer.eos_token
                if spans and spans[-1][1] == len(token_ids) and token_ids[-1] == self.eos_token_id:
                    piece = piece.removeprefix(str(eos))
                token_ids += self.tokenizer.encode(piece, add_special_tokens=False)
        return token_ids, spans


@dataclass(slots=True)
class VLM:
    """A vision-language model and how to speak to it."""

    model: PreTrainedModel
    family: Family

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def save(self, directory: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Writes a checkpoint in `save_pretrained` layout, or its adapters, with tokenizer and image processor.

        Args:
            weights: in the place of the model's own, where it holds a part of them only.
        """
        directory.mkdir(parents=True, exist_ok=True)
        if has_adapters(self.model):
            save_adapters(self.model, directory)
        else:
            self.model.save_pretrained(directory, state_dict=None if weights is None else dict(weights))
        self.family.save(directory)
