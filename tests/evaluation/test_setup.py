"""A data hash is of what was asked, and not of where the files lie."""

import dataclasses
import hashlib
import json
import shutil

import pytest
from tests.questions.benchmarks import published as pub

from foveate.evaluation.setup import fingerprint
from foveate.questions.benchmarks import load_benchmark
from foveate.questions.readers import load_questions
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.questions.schema import Question


def question(**changes):
    return Question(**{"id": "1", "image": pub.png(), "text": "Which?", "answer": "it"} | changes)


def test_digests_of_questions_without_tags_stay_what_they_are():
    """Spelled out, so that digests in published score files can be made again."""
    words = {"id": "1", "text": "Which?", "answer": "it", "choices": None, "regions": [], "category": None}
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode() + hashlib.sha256(pub.png()).digest())
    assert fingerprint(question()) == digest.digest()


def test_digests_of_scenes_stay_what_they_are():
    [scene] = Scenes(SceneConfig(size=256, view_pixels=56 * 56), seed=1, length=1)[:]
    assert dataclasses.is_dataclass(scene.image)
    expected = fingerprint(dataclasses.replace(scene, image=repr(scene.image).encode()))
    assert fingerprint(scene) == expected


def test_tags_and_further_pictures_count():
    one, two = pub.png(1), pub.png(2)
    kinds = [
        question(),
        question(tags={"cycle": "0"}),
        question(tags={"cycle": "1"}),
        question(others=(one,)),
        question(others=(one, two)),
        question(others=(two, one)),
        question(image=one),
    ]
    assert len({fingerprint(kind) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_an_embedded_picture_counts_by_its_bytes_wherever_its_file_lies(tmp_path, suffix):
    write = pub.write_tsv if suffix == "tsv" else pub.write_parquet
    file = write(tmp_path / f"t.{suffix}", [pub.tree_row(n) for n in range(2)])
    here = load_benchmark("treebench", file)
    (tmp_path / "elsewhere").mkdir()
    there = load_benchmark("treebench", shutil.copy(file, tmp_path / "elsewhere"))
    assert list(map(fingerprint, here)) == list(map(fingerprint, there))
    picture = dataclasses.replace(here[0], image=pub.png(0))
    assert fingerprint(here[0]) == fingerprint(picture) != fingerprint(dataclasses.replace(here[0], image=pub.png(9)))


def test_a_picture_in_a_json_line_is_the_same_as_in_a_file(tmp_path):
    rows = [
        {"id": "1", "question": "Which?", "answer": "it", "image": value} for value in ("a.png", pub.plain(pub.png()))
    ]
    pub.write_picture(tmp_path / "a.png")
    in_file, in_line = (
        load_questions(pub.write_jsonl(tmp_path / f"{n}.jsonl", [row]))[0] for n, row in enumerate(rows)
    )
    assert fingerprint(in_file) == fingerprint(in_line)
