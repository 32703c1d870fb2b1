"""Evaluation folders as an evaluation leaves them, of questions that were never asked.

The values are made up; they are written down by what writes down those of an evaluation.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from foveate.evaluation.folder import PICTURES, EvaluationFolder
from foveate.evaluation.gains import gains
from foveate.evaluation.grounding import Grounding, best_iou, iog_hit
from foveate.evaluation.looking import looking
from foveate.evaluation.pictures import thumbnail
from foveate.evaluation.probes import Outcome, Probed
from foveate.evaluation.probing import ModelLook
from foveate.evaluation.runner import Evaluation
from foveate.evaluation.scores import score_record
from foveate.evaluation.scoring import Attempt, Scored, summarise
from foveate.jsonl import replace_rows
from foveate.regions import Box, box_area

SIZE = (1600, 1200)
CATEGORIES = ("OCR in the wild", "Remote sensing", "Diagrams and tables", "Autonomous driving")
COLOURS = ("crimson", "royalblue", "gold", "seagreen", "white")
FAILED = {"f0": "the server is on fire", "f1": "the server is on fire"}


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
    probed: bool = True,
    **more: Any,
) -> list[Scored]:
    """Writes a run of `count` questions, numbered from `first`, and returns them. Two more failed.

    Questions depend on their number alone, answers on `model`, `skill` and `seed` too. `hostile` stands in every text;
    `more` goes into the scores.
    """
    scored = [
        _scored(i, random.Random(ascii((model, seed, i))), skill, hostile, samples, regions, probed)
        for i in range(first, first + count)
    ]
    result = _evaluation(scored, samples, seed)
    looks = _look(result, skill).to_json() if probed else {}
    written = EvaluationFolder(folder, {"model": model, "seed": seed})
    written.open()
    written.add([(one, ()) for one in scored], result.setup["prompts"])
    written.finish(score_record(result, model=model, more={"recipe": "hart", **looks, **more}), result.failed)
    if pictures:
        photos = photos or [photo(seed) for seed in range(12)]
        small = [thumbnail(image) for image in photos]
        crops = [thumbnail(image.crop((60, 60, 220, 180)), 128) for image in photos]
        replace_rows(
            folder / PICTURES,
            (
                {
                    "id": one.id,
                    "picture": small[i % len(small)],
                    "crops": [crops[(i + n) % len(crops)] for n in range(len(one.attempts[0].boxes))],
                }
                for i, one in enumerate(scored)
            ),
        )
    return scored


def _scored(
    number: int, draw: random.Random, skill: float, hostile: str, samples: int, regions: bool, probed: bool
) -> Scored:
    rng = random.Random(number)
    x, y = rng.uniform(60, 1300), rng.uniform(60, 1000)
    true = Box(x, y, x + rng.uniform(60, 200), y + rng.uniform(40, 120))
    words = rng.sample(["a ferry", "a red door", "the number 41", "two cyclists", "a stop sign", "platform nine"], 4)
    letters = dict(zip("ABCD", (word + hostile for word in words), strict=True)) if number % 5 else None
    expected = rng.choice("ABCD") if letters else str(rng.randint(10, 99))
    colour = rng.choice(COLOURS)
    known = regions and number % 7 != 3
    region = (true, Box(true.x1 - 20, true.y1 - 20, true.x2 + 20, true.y2 + 20)) if known else ()
    attempts = [_attempt(draw, region, skill, expected, hostile, number) for _ in range(samples)]
    return Scored(
        f"q{number:05}",
        CATEGORIES[number % 4] + hostile if number % 11 else None,
        expected,
        tuple(attempts),
        text=f"What is written on the {colour} sign number {number} behind the fence?{hostile}",
        choices=letters,
        regions=(tuple(box.corners for box in region),) if region else (),
        image_size=SIZE,
        tags={"split": "test" if number % 2 else "lite"},
        data=hashlib.sha256(str(number).encode()).hexdigest(),
        seconds=1.2 + skill,
        probed=_probed(f"q{number:05}", attempts[0], draw, known) if probed else None,
    )


def _attempt(
    draw: random.Random, region: tuple[Box, ...], skill: float, expected: str, hostile: str, number: int
) -> Attempt:
    stop = draw.choices(["answered", "unparsed", "no_region"], [94, 3, 3])[0]
    right = stop == "answered" and draw.random() < skill
    boxes = []
    if stop != "no_region":
        near = region and draw.random() < skill + 0.1
        x, y = (region[0].x1 - 30, region[0].y1 - 20) if near else (draw.uniform(0, 1200), draw.uniform(0, 900))
        boxes.append(
            Box(max(x, 0), max(y, 0), min(x + draw.uniform(120, 380), 1600), min(y + draw.uniform(90, 280), 1200))
        )
    said = expected if right else "Z"
    located = [f"I look at the sign. <box>{[round(c) for c in box.corners]}</box>" for box in boxes]
    reply = f"On sign {number} I read it letter by letter, and it says: {said}.{hostile} " * draw.randint(1, 4)
    return Attempt(
        right=right,
        answer=said if stop == "answered" else None,
        stop=stop,
        grounding=Grounding(
            iog30=iog_hit(boxes, [region]) if region else None,
            mean_iou=best_iou(boxes, [region]) if region else None,
            box_area=box_area(boxes, SIZE),
            boxes=len(boxes),
            valid_boxes=bool(boxes),
        ),
        boxes=tuple(box.corners for box in boxes),
        texts=(*located, reply),
        problems=("no_box",) if stop == "no_region" else (),
        tokens=draw.randint(20, 120),
        visual_tokens=draw.randint(900, 1300) + round(600 * skill),
    )


def _probed(id: str, attempt: Attempt, draw: random.Random, known: bool) -> Probed:
    kept = {"unchanged": 1.0, "crop_alone": 0.9, "noise": 0.4, "random_crop": 0.5}
    right: dict[str, float | None] = {
        name: float(attempt.right and draw.random() < share) if attempt.boxes else None for name, share in kept.items()
    }
    better = float(attempt.right or draw.random() < 0.5)
    right["true_crop"] = better if attempt.boxes and known else None
    outcome = Outcome.FROM_CROP if attempt.boxes else Outcome.UNANSWERED
    return Probed(id, outcome, right, guess=0.25, full_image=True, regions=known)


def _evaluation(scored: Sequence[Scored], samples: int, seed: int) -> Evaluation:
    categories = defaultdict(list)
    for one in scored:
        categories[one.category or ""].append(one)
    setup = {
        "protocol": {"name": "LocateThenAnswer", "withhold_full_image": True},
        "family": {"name": "Qwen25VL", "frame": "pixel", "budget": {"min_pixels": 3136, "max_pixels": 1003520}},
        "sampling": {"name": "Sampling", "temperature": 0.0, "max_new_tokens": 256},
        "samples": samples,
        "seed": seed,
        "prompts": [["<image 640x480>", "Where must one look to answer? Give a box."], ["<image 280x196>", "Answer."]],
        "data_sha256": hashlib.sha256("".join(one.data for one in scored).encode()).hexdigest(),
    }
    by_category = {name: summarise(categories[name]) for name in sorted(categories)}
    return Evaluation(summarise(scored), by_category, tuple(scored), (), setup, FAILED)


def _look(own: Evaluation, skill: float) -> ModelLook:
    draw = random.Random(ascii(skill))
    zoomed = [float(one.attempts[0].right) for one in own.scored]
    direct = [float(draw.random() < (0.9 if right else 0.2)) for right in zoomed]
    found = looking(one.probed for one in own.scored if one.probed)
    return ModelLook(own, tuple(zoomed), tuple(direct), found, gains(direct, zoomed))
