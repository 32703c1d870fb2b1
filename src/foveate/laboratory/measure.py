"""What a base can and cannot do: pointing and reading on held-out scenes.

Only for judging bases while they are made; trained models are judged by `foveate eval`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from foveate.images import View, crop_view, full_view
from foveate.laboratory.architecture import BUDGET, IMAGE, MERGED, PAD, VIDEO, VIEW_SIDE, VISION_END, VISION_START
from foveate.laboratory.examples import SHIPPED, Seen, seen, written_box
from foveate.laboratory.forward import IDS, Line, encode_images, next_logits
from foveate.laboratory.lessons import ANSWER, LOCATE
from foveate.questions.scenes import Card, SceneConfig, layout
from foveate.questions.scenes.drawing import draw
from foveate.regions import Box, iog, iou

_WORDS = list(IDS)
_FORBIDDEN = [IDS[token] for token in (PAD, VISION_START, VISION_END, IMAGE, VIDEO)]
SEED = 7_919
"""Of the held-out scenes."""


@torch.no_grad()
def measure(
    model: Qwen2_5_VLForConditionalGeneration, scenes: int = 300, *, config: SceneConfig | None = None, seed: int = SEED
) -> dict[str, float]:
    """Pointing at temperature 1 and greedily, and greedy reading from several contexts, over `scenes` questions.

    The first card of each scene is asked about; cards are in random order.
    """
    config = config or SceneConfig()
    torch.manual_seed(seed)
    plans = [layout(config, seed, i) for i in range(scenes)]
    images = [draw(config, plan) for plan in plans]
    cards = [plan.cards for plan in plans]
    views = [full_view(image, BUDGET, MERGED) for image in images]
    shown = [seen(view, own, SHIPPED.legible_px) for view, own in zip(views, cards, strict=True)]
    lines = [Line((i, LOCATE, own[0].colour), ()) for i, own in enumerate(cards)]
    figures: dict[str, float] = {}
    for name, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        replies = generate(model, shown, lines, temperature, length=5)
        figures |= {f"{name}_{key}": value for key, value in _pointing(replies, views, cards).items()}
    figures |= _reading(model, images, views, shown, cards)
    return figures


def generate(
    model: Qwen2_5_VLForConditionalGeneration,
    images: Sequence[Seen],
    lines: Sequence[Line],
    temperature: float,
    length: int,
) -> list[list[str]]:
    """Replies of exactly `length` words, the end token among them. Temperature 0 is greedy."""
    features = encode_images(model, images)
    replies: list[list[str]] = [[] for _ in lines]
    for _ in range(length):
        grown = [Line((*line.prompt, *reply), ()) for line, reply in zip(lines, replies, strict=True)]
        logits_BV = next_logits(model, images, features, grown)
        for reply, token in zip(replies, _choose(logits_BV, temperature), strict=True):
            reply.append(_WORDS[token])
    return replies


def _choose(logits_BV: Tensor, temperature: float) -> list[int]:
    logits_BV[:, _FORBIDDEN] = -torch.inf
    if not temperature:
        return logits_BV.argmax(-1).tolist()
    return torch.multinomial((logits_BV / temperature).softmax(-1), 1)[:, 0].tolist()


def _pointing(replies: list[list[str]], views: Sequence[View], cards: Sequence[Sequence[Card]]) -> dict[str, float]:
    found = covered = any_covered = 0
    overlap = area = 0.0
    for reply, view, own in zip(replies, views, cards, strict=True):
        box = _box(reply, view)
        if box is None:
            continue
        found += 1
        covered += iog(box, own[0].writing_box) > 0.3
        any_covered += any(iog(box, card.writing_box) > 0.3 for card in own)
        overlap += iou(box, own[0].box)
        area += box.area / (view.original_size[0] * view.original_size[1])
    total = len(replies)
    return {
        "valid": found / total,
        "iog30": covered / total,
        "any_card_iog30": any_covered / total,
        "mean_iou": overlap / total,
        "box_area": area / max(1, found),
    }


def _box(reply: list[str], view: View) -> Box | None:
    """The box of a reply in original pixels; None when it is not exactly one valid box."""
    if len(reply) != 5 or reply[4] != "<|im_end|>" or not all(word.isdigit() for word in reply[:4]):
        return None
    x1, y1, x2, y2 = (int(word) for word in reply[:4])
    if not (x1 < x2 <= view.size[0] and y1 < y2 <= view.size[1]):
        return None
    return view.to_original(Box(x1, y1, x2, y2))


def _reading(
    model: Qwen2_5_VLForConditionalGeneration,
    images: Sequence[Image.Image],
    views: Sequence[View],
    shown: Sequence[Seen],
    cards: Sequence[Sequence[Card]],
) -> dict[str, float]:
    """Greedy accuracy on the first card's digit, from crops of several kinds and from the small view."""
    crops: dict[str, list[Seen]] = {}
    for name, which, factor in (("card", 0, 1.0), ("1.5x", 0, 1.5), ("2.5x", 0, 2.5), ("wrong_card", 1, 1.0)):
        crops[name] = [
            seen(crop_view(image, _around(own[which].box, factor, view), BUDGET, MERGED), own, SHIPPED.legible_px)
            for image, view, own in zip(images, views, cards, strict=True)
        ]
    count = len(shown)
    alone = [(count + i,) for i in range(count)]
    after_view = [(i, count + i) for i in range(count)]
    figures = {}
    for name, seen_crops in crops.items():
        figures[f"reads_{name}"] = _accuracy(model, [*shown, *seen_crops], alone, cards)
    for name in ("card", "wrong_card"):
        figures[f"reads_view_and_{name}"] = _accuracy(model, [*shown, *crops[name]], after_view, cards)
    figures["reads_view"] = _accuracy(model, shown, [(i,) for i in range(count)], cards)
    return figures


def _around(box: Box, factor: float, view: View) -> Box:
    """A box around a card, as the model could write it, scaled about its centre."""
    cx, cy = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    grown = Box(
        cx - factor * box.width / 2,
        cy - factor * box.height / 2,
        cx + factor * box.width / 2,
        cy + factor * box.height / 2,
    )
    inside = view.from_original(grown).clipped((VIEW_SIDE, VIEW_SIDE))
    assert inside is not None  # it holds the card
    return view.to_original(Box(*written_box(inside, view.size)))


def _accuracy(
    model: Qwen2_5_VLForConditionalGeneration,
    images: Sequence[Seen],
    contexts: Sequence[tuple[int, ...]],
    cards: Sequence[Sequence[Card]],
) -> float:
    lines = [Line((*context, ANSWER, own[0].colour), ()) for context, own in zip(contexts, cards, strict=True)]
    replies = generate(model, images, lines, 0.0, length=2)
    right = [reply == [own[0].writing, "<|im_end|>"] for reply, own in zip(replies, cards, strict=True)]
    return sum(right) / len(right)


def main() -> None:
    """Command line: `python -m foveate.laboratory.measure CHECKPOINT`."""
    parser = argparse.ArgumentParser(prog="python -m foveate.laboratory.measure", description="Measures a base.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(options.checkpoint)
    figures = measure(model, options.scenes)
    for name, value in figures.items():
        print(f"{name:24s} {value:.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
