"""Small files in the layouts in which benchmarks are published: written by tests, read by the readers."""

import base64
import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIZE = (48, 32)


def png(seed=0, size=SIZE):
    """Noise: its base64 is long enough to be told from a path."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def plain(content):
    return base64.b64encode(content).decode()


def urlsafe(content):
    return base64.urlsafe_b64encode(content).decode()


def prefixed(content):
    return "data:image/png;base64," + plain(content)


def in_bytes(content):
    return {"bytes": content, "path": None}


ENCODINGS = {"plain": plain, "urlsafe": urlsafe, "prefixed": prefixed}


def write_tsv(path, rows):
    """As pandas writes it: quotation marks where needed, nothing for NaN."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, dialect="excel-tab", lineterminator="\n")
        writer.writerow(keys)
        writer.writerows(["" if row.get(key) is None else row[key] for key in keys] for row in rows)
    return path


def write_parquet(path, rows, **options):
    keys = dict.fromkeys(key for row in rows for key in row)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([{key: row.get(key) for key in keys} for row in rows]), path, **options)
    return path


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_picture(path, seed=0, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(seed, size))
    return path


def vstar_row(n=0, **changes):
    text = (
        "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\n"
        "Answer with the option's letter from the given choices directly."
    )
    row = {"image": in_bytes(png(n)), "text": text, "label": "B", "category": "direct_attributes", "question_id": n}
    return row | changes


def vstar_file(**changes):
    return {
        "target_object": ["glove"],
        "bbox": [[10, 5, 20, 10]],
        "question": "What is the material of the glove?",
        "options": ["The glove is of rubber.", "The glove is of cotton.", "The glove is of kevlar."],
    } | changes


def hr_row(n=0, cycle=0, encode=plain, **changes):
    """One rotation of question n."""
    texts = ["red", "green", "blue", "none"]
    rotated = texts[-cycle:] + texts[:-cycle] if cycle else texts
    row = {
        "index": 4 * n + cycle,
        "image": encode(png(n)),
        "question": f"What colour is the {n}th car?",
        **dict(zip("ABCD", rotated, strict=True)),
        "answer": "ABCD"[rotated.index("green")],
        "category": "single" if n % 2 else "cross",
        "cycle_category": cycle,
    }
    return row | changes


MME_OPTIONS = ["(A) 1", "(B) 2", "(C) 3", "(D) 4", "(E) The image does not feature the object."]


def mme_row(n=0, encode=plain, **changes):
    row = {
        "index": f"q/{n}",
        "bytes": encode(png(n)),
        "question": "How many cars are there?",
        "multi-choice options": MME_OPTIONS,
        "answer": "E",
        "category": "Perception/Remote Sensing",
        "l2-category": "count",
    }
    return row | changes


def mme_original(n=0, **changes):
    row = {
        "Question_id": f"perception/remote_sensing/count/{n:04}",
        "Image": f"{n}.png",
        "Text": "How many cars are there?",
        "Question Type": "Multiple Choice",
        "Answer choices": MME_OPTIONS,
        "Ground truth": "E",
        "Category": "count",
        "Subtask": "Remote Sensing",
        "Task": "Perception",
    }
    return row | changes


def tree_row(n=0, encode=plain, **changes):
    row = {
        "index": n,
        "image": encode(png(n)),
        "question": "Which is nearest?",
        "A": "car",
        "B": "bus",
        "C": "tram",
        "D": "bicycle",
        "E": None,
        "F": None,
        "answer": "C",
        "category": "Perception/Attributes",
        "target_instances": "[[1, 2, 11, 12], [20.5, 3.0, 40.0, 30.0]]",
    }
    return row | changes


def star_row(n=0, encode=in_bytes, **changes):
    row = {
        "index": n,
        "question": "Where is the suitcase?\nOptions: A: On the book., B: Under the cat, C: In B: the box., D: Away.",
        "image": encode(png(n)),
        "answer": "B",
        "category": "coarse perception",
        "l2_category": "image scene and topic",
    }
    return row | changes


def blink_row(n=0, pictures=2, config="Relative_Depth", **changes):
    row = {
        "idx": f"val_{config}_{n}",
        "question": "Which point is closer?",
        "sub_task": config,
        "choices": ["A is closer", "B is closer"],
        "answer": "(B)",
        "prompt": "Which point is closer?\nSelect from the following choices.\n(A) A is closer\n(B) B is closer",
        **{f"image_{k}": in_bytes(png(10 * n + k)) if k <= pictures else None for k in range(1, 5)},
    }
    return row | changes


def pope_row(n=0, category="adversarial", **changes):
    row = {
        "id": str(n),
        "question_id": str(n + 1),
        "question": "Is there a snowboard in the image?",
        "answer": "yes",
        "image_source": "COCO_val2014_000000310196",
        "image": in_bytes(png(n)),
        "category": category,
    }
    return row | changes


def cot_row(**changes):
    row = {
        "question": "What does the sign say?",
        "answer": "stop",
        "image": "a.png",
        "width": SIZE[0],
        "height": SIZE[1],
        "bboxs": [[10, 5, 30, 25]],
        "dataset": "textvqa",
        "split": "train",
    }
    return row | changes
