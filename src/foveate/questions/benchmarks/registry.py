"""The benchmarks that are read in the layouts in which they are published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from foveate.questions.benchmarks import layouts
from foveate.questions.benchmarks.layouts import BoxFormat, Row, Translate
from foveate.questions.benchmarks.tables import Record


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark, as it is published.

    Attributes:
        name: as `--data` takes it.
        title: what it says of itself.
        questions: how many it has; None where that depends on the part.
        hub: its data set on the Hugging Face hub.
        split: the split there.
        read: the layouts that are read, in words.
        figure: its official figure, in words; `evaluation.official` computes it.
        files: patterns of the files that hold its questions; of a folder (or the hub) the files of the first pattern
            that fits any are read. Letters are compared in lower case, and `*` crosses folders.
        translate: one of its rows with our own keys.
        downloads: whether the hub's files can be read as they are.
        folders: reads an original layout that is folders and no file, where the named folders are there.
        image_folders: where, under the data's folder, a path to a picture may start; `{dataset}` is the row's column.
        boxes: tells from all rows of a file how its boxes are written, where files differ in it.
    """

    name: str
    title: str
    questions: int | None
    hub: str
    split: str
    read: str
    figure: str
    files: tuple[str, ...]
    translate: Translate
    downloads: bool = True
    folders: tuple[tuple[str, ...], Callable[[Path], Iterator[Record]]] | None = None
    image_folders: tuple[str, ...] = ("",)
    boxes: Callable[[Iterable[Row]], BoxFormat] | None = None


_HR_BENCH = "mean over the 4 cycles of the accuracy, by single and cross; strict: right in all 4 rotations"
_MME = "accuracy weighted by question, by perception and reasoning, by task and sub-task"

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="vstar",
            title="V* Bench: attributes and relations of small objects in large photographs",
            questions=191,
            hub="lmms-lab/vstar-bench",
            split="test",
            read="Parquet, JSON lines, the original folders (with true boxes)",
            figure="accuracy, overall and by category",
            files=("*test_questions.jsonl", "*test-*.parquet", "*.parquet", "*.tsv"),
            translate=layouts.vstar,
            folders=(("direct_attributes", "relative_position"), layouts.vstar_folders),
        ),
        *(
            Benchmark(
                name=f"hr-bench-{size}",
                title=f"HR-Bench {size.upper()}: 200 questions, each in 4 rotations of its options",
                questions=800,
                hub="DreamMr/HR-Bench",
                split=f"hrbench_{size}",
                read="TSV, Parquet",
                figure=_HR_BENCH,
                files=(f"*hrbench_{size}*.parquet", f"*hr_bench_{size}*.parquet", f"*hr*bench*{size}*.tsv"),
                translate=layouts.hr_bench,
            )
            for size in ("4k", "8k")
        ),
        Benchmark(
            name="mme-realworld",
            title="MME-RealWorld: high-resolution photographs, 5 options of which one is that none fits",
            questions=23_609,
            hub="yifanzhang114/MME-RealWorld-Lmms-eval",
            split="train",
            read="Parquet, the original JSON",
            figure=_MME,
            files=("*.parquet", "*mme_realworld.json", "*mme-realworld.json"),
            translate=layouts.mme_realworld,
            image_folders=("", "images", "imgs", "data"),
        ),
        Benchmark(
            name="mme-realworld-lite",
            title="MME-RealWorld-Lite: a part of MME-RealWorld with at most 50 questions a sub-task",
            questions=1919,
            hub="yifanzhang114/MME-RealWorld-lite-lmms-eval",
            split="train",
            read="Parquet, the original JSON",
            figure=_MME,
            files=("*.parquet", "*lite.json"),
            translate=layouts.mme_realworld,
            image_folders=("", "images", "imgs", "data"),
        ),
        Benchmark(
            name="treebench",
            title="TreeBench: perception and reasoning with the boxes of every target",
            questions=405,
            hub="HaochenWang/TreeBench",
            split="train",
            read="TSV, Parquet",
            figure="accuracy by category; mean over true boxes of the best IoU",
            files=("*.parquet", "*.tsv"),
            translate=layouts.treebench,
        ),
        Benchmark(
            name="mmstar",
            title="MMStar: questions that cannot be answered without the picture",
            questions=1500,
            hub="Lin-Chen/MMStar",
            split="val",
            read="Parquet, TSV",
            figure="accuracy; mean over the categories of level 2",
            files=("*mmstar*.parquet", "*val-*.parquet", "*mmstar*.tsv"),
            translate=layouts.mmstar,
        ),
        Benchmark(
            name="blink",
            title="BLINK: 14 tasks of visual perception, with up to 4 pictures a question",
            questions=1901,
            hub="BLINK-Benchmark/BLINK",
            split="val",
            read="Parquet, a folder a configuration",
            figure="accuracy by configuration; mean over the configurations",
            files=("*val-*.parquet",),
            translate=layouts.blink,
        ),
        Benchmark(
            name="pope",
            title="POPE: is there such an object in the picture?",
            questions=9000,
            hub="lmms-lab/POPE",
            split="test",
            read="Parquet",
            figure="accuracy, precision, recall, F1 and share of yes, overall and by category",
            files=("*data/test-*.parquet", "*test-*.parquet"),
            translate=layouts.pope,
        ),
        Benchmark(
            name="visual-cot",
            title="Visual CoT: open questions, with a box of what has to be seen",
            questions=None,
            hub="deepcs233/Visual-CoT",
            split="train, test",
            read="JSON lines, a file a source, and the pictures' folder",
            figure="accuracy; IoG > 0.3",
            files=("*metadata/*.jsonl", "*.jsonl"),
            translate=layouts.visual_cot,
            downloads=False,
            image_folders=("", "{dataset}", "images", "images/{dataset}", "cot_images", "cot_images/{dataset}"),
            boxes=layouts.box_format,
        ),
    )
}
"""Every benchmark by its name."""
