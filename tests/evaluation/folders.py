"""Evaluation folders as an evaluation leaves them, of questions that were never asked."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from foveate.evaluation.joint import JointTable
from foveate.evaluation.pictures import thumbnail
from foveate.evaluation.statistics import bootstrap_interval
from foveate.regions import Box, iog, iou

SIZE = (1600, 1200)
CATEGORIES = ("OCR in the wild", "Remote sensing", "Diagrams and tables", "Autonomous driving")
COLOURS = ("crimson", "royalblue", "gold", "seagreen", "white")
FIGURES = ("accuracy", "iog30", "mean_iou", "box_area", "boxes", "valid_boxes")


def photo(seed: int, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Something with the grain of a photo, and a few signs on it."""
    rng = np.random.default_rng(seed)
    pixels_HWC = np.full((size[1], size[0], 3), rng.integers(70, 170, 3), dtype=np.float32)
    for side in (3, 6, 12, 24, 48, 96):
        for channel in range(3):
            coarse = Image.fromarray(rng.normal(0, 1, (side, side)).astype(np.float32))
            pixels_HWC[..., channel] += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) * 70 / side**0.55
    image = Image.fromarray(np.clip(pixels_HWC, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for number in range(5):
        x, y = int(rng.integers(0, size[0] - 60)), int(rng.integers(0, size[1] - 40))
        pen.rectangle((x, y, x + 52, y + 30), fill=COLOURS[number], outline="black")
        pen.text((x + 12, y + 8), str(rng.integers(100, 999)), fill="black")
    return image


def make_run(
    folder: Path,
    count: int,
    *,
    model: str = "base",
    skill: float = 0.5,
    seed: int = 0,
    first: int = 0,
    hostile: str = "",
    pictures: bool = True,
    photos: Sequence[Image.Image] = (),
    samples: int = 1,
    regions: bool = True,
    **scores: Any,
) -> list[dict[str, Any]]:
    """Writes a run of `count` questions, numbered from `first`, and returns its rows.

    Questions depend on their number alone, answers on `model`, `skill` and `seed` too. `hostile` stands in every text.
    """
    folder.mkdir(parents=True)
    rows = [
        _row(i, random.Random(ascii((model, seed, i))), skill, hostile, samples, regions)
        for i in range(first, first + count)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "scores.json").write_text(json.dumps({**_scores(rows, model, skill, seed), **scores}))
    if pictures:
        photos = photos or [photo(seed) for seed in range(12)]
        small = [thumbnail(image) for image in photos]
        crops = [thumbnail(image.crop((60, 60, 220, 180)), 128) for image in photos]
        with (folder / "pictures.jsonl").open("w") as lines:
            for i, row in enumerate(rows):
                taken = [crops[(i + n) % len(crops)] for n in range(len(row["attempts"][0]["boxes"]))]
                lines.write(json.dumps({"id": row["id"], "picture": small[i % len(small)], "crops": taken}) + "\n")
    return rows


def _row(number: int, draw: random.Random, skill: float, hostile: str, samples: int, regions: bool) -> dict[str, Any]:
    rng = random.Random(number)
    x, y = rng.uniform(60, 1300), rng.uniform(60, 1000)
    true = Box(x, y, x + rng.uniform(60, 200), y + rng.uniform(40, 120))
    words = rng.sample(["a ferry", "a red door", "the number 41", "two cyclists", "a stop sign", "platform nine"], 4)
    letters = dict(zip("ABCD", (word + hostile for word in words), strict=True)) if number % 5 else None
    expected = rng.choice("ABCD") if letters else str(rng.randint(10, 99))
    known = regions and number % 7 != 3
    attempts = [_attempt(draw, true if known else None, skill, expected, hostile, number) for _ in range(samples)]
    return {
        "id": f"q{number:05}",
        "text": f"What is written on the {rng.choice(COLOURS)} sign number {number} behind the fence?{hostile}",
        "choices": letters,
        "category": CATEGORIES[number % 4] + hostile if number % 11 else None,
        "tags": {"split": "test" if number % 2 else "lite"},
        "expected": expected,
        "regions": [[true.corners, [c - d for c, d in zip(true.corners, (20, 20, -20, -20), strict=True)]]]
        if known
        else [],
        "image_size": SIZE,
        "attempts": attempts,
        "probes": {
            "unchanged": float(attempts[0]["right"]),
            "crop_alone": float(attempts[0]["right"] and draw.random() < 0.9),
            "noise": float(attempts[0]["right"] and draw.random() < 0.4),
            "true_crop": float(attempts[0]["right"] or draw.random() < 0.5) if known else None,
            "random_crop": float(attempts[0]["right"] and draw.random() < 0.5),
        },
    }


def _attempt(
    draw: random.Random, true: Box | None, skill: float, expected: str, hostile: str, number: int
) -> dict[str, Any]:
    stop = draw.choices(["answered", "unparsed", "no_region", "failed"], [92, 3, 3, 2])[0]
    right = stop == "answered" and draw.random() < skill
    boxes = []
    if stop in ("answered", "unparsed"):
        near = true is not None and draw.random() < skill + 0.1
        x, y = (true.x1 - 30, true.y1 - 20) if near and true else (draw.uniform(0, 1200), draw.uniform(0, 900))
        boxes.append(
            Box(max(x, 0), max(y, 0), min(x + draw.uniform(120, 380), 1600), min(y + draw.uniform(90, 280), 1200))
        )
    known = true is not None and stop != "failed"
    said = expected if right else "Z"
    return {
        "right": right,
        "answer": said if stop == "answered" else None,
        "stop": stop,
        "boxes": [box.corners for box in boxes],
        "texts": [f"I look at the sign. <box>{[round(c) for c in box.corners]}</box>" for box in boxes]
        + [f"On sign {number} I read it letter by letter, and it says: {said}.{hostile} " * draw.randint(1, 4)],
        "problems": ["no_box"] if stop == "no_region" else [],
        "tokens": draw.randint(20, 120),
        "visual_tokens": draw.randint(900, 1300) + round(600 * skill),
        "grounding": {
            "iog30": float(any(iog(box, true) > 0.3 for box in boxes)) if known and true else None,
            "mean_iou": max((iou(box, true) for box in boxes), default=0.0) if known and true else None,
            "box_area": boxes[0].area / (SIZE[0] * SIZE[1]) if boxes else None,
            "boxes": len(boxes) if stop != "failed" else None,
            "valid_boxes": bool(boxes) if stop != "failed" else None,
        },
    }


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    columns: dict[str, list[float]] = {name: [] for name in FIGURES}
    for row in rows:
        for attempt in row["attempts"]:
            columns["accuracy"] += [float(attempt["right"])] if attempt["stop"] != "failed" else []
            for name in FIGURES[1:]:
                columns[name] += [float(attempt["grounding"][name])] if attempt["grounding"][name] is not None else []
    return {
        **{name: float(np.mean(values)) if values else None for name, values in columns.items()},
        "questions": len(rows),
        "intervals": {name: bootstrap_interval(values, resamples=200) for name, values in columns.items() if values},
    }


def _scores(rows: Sequence[dict[str, Any]], model: str, skill: float, seed: int) -> dict[str, Any]:
    attempts = [attempt for row in rows for attempt in row["attempts"]]
    looks = [(row, attempt) for row in rows for attempt in row["attempts"] if attempt["grounding"]["iog30"] is not None]
    thresholds = [round(0.05 * i, 2) for i in range(20)]

    def curve(measure: Any) -> list[tuple[float, float]]:
        best = [max((measure(Box(*b), Box(*row["regions"][0][0])) for b in a["boxes"]), default=0) for row, a in looks]
        return [(t, float(np.mean([value > t for value in best]))) for t in thresholds]

    figures = {}
    for name in rows[0]["probes"]:
        pairs = [(row["probes"][name], row["probes"]["unchanged"]) for row in rows if row["probes"][name] is not None]
        if pairs:
            under, before = (float(np.mean(values)) for values in zip(*pairs, strict=True))
            interval = bootstrap_interval([value for value, _ in pairs], resamples=200)
            figures[name] = {
                "accuracy": under,
                "interval": interval,
                "change": under - before,
                "questions": len(pairs),
            }
    stops = [attempt["stop"] for attempt in attempts]
    names = sorted({row["category"] or "" for row in rows})
    return {
        "model": model,
        "foveate": {"version": "0.1", "commit": "c0c0788"},
        "summary": _summary(rows),
        "by_category": {name: _summary([row for row in rows if (row["category"] or "") == name]) for name in names},
        "answers_and_places": JointTable.of((a["right"], a["grounding"]["iog30"]) for a in attempts).to_json(),
        "probes": figures,
        "look_dependence": {
            "value": 0.1 + skill / 3,
            "interval": [0.05 + skill / 3, 0.15 + skill / 3],
            "verdict": {
                "title": "Its answers depend on the crop" if skill > 0.5 else "Its answers hardly depend on the crop",
                "because": "With noise in the crop's place the accuracy falls by more than chance explains.",
            },
        },
        "gain_harm": {
            "both": 0.4 * len(rows),
            "gain": 0.2 * len(rows),
            "harm": 0.05 * len(rows),
            "neither": 0.35 * len(rows),
        },
        **({"curves": {"iog": curve(iog), "iou": curve(iou)}} if looks else {}),
        "stops": {stop: stops.count(stop) for stop in sorted(set(stops))},
        "unparsed": stops.count("unparsed"),
        "failed": 2,
        "tokens_per_question": sum(a["tokens"] for a in attempts) / len(rows),
        "visual_tokens_per_question": sum(a["visual_tokens"] for a in attempts) / len(rows),
        "seconds_per_question": 1.2 + skill,
        "setup": {
            "protocol": {"name": "LocateThenAnswer", "withhold_full_image": True},
            "family": {"name": "Qwen25VL", "frame": "pixel", "budget": {"min_pixels": 3136, "max_pixels": 1003520}},
            "sampling": {"name": "Sampling", "temperature": 0.0, "max_new_tokens": 256},
            "samples": len(rows[0]["attempts"]),
            "seed": seed,
            "prompts": [
                ["<image 640x480>", "Where must one look to answer? Give a box."],
                ["<image 280x196>", "Answer."],
            ],
            "data_sha256": "ab" * 32,
        },
        "recipe": "hart",
    }
