"""Written questions are read back as they were, with pictures linked to where they are files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.pictures import encoded, marked

from foveate.images import open_image
from foveate.questions.readers import load_questions
from foveate.questions.schema import Question
from foveate.questions.writing import write_questions
from foveate.regions import Box, Point

REGIONS = ((Box(8, 4, 40, 20), Box(0, 0, 64, 48)), (Box(1, 2, 3, 4),))


def question(name, image, **changes):
    return Question(id=name, image=image, text="What?", answer="7", **changes)


def words(questions):
    return [(q.id, q.text, q.answer, q.choices, q.regions, q.category, q.view_pixels, q.points) for q in questions]


@pytest.fixture
def files(tmp_path):
    """Two pictures of the same name in different folders."""
    for folder, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        Image.new("RGB", (64, 48), colour).save(tmp_path / "photos" / folder / "x.png")
    return tmp_path / "photos"


def test_what_is_written_is_read_back_in_order(tmp_path, files):
    questions = [
        question("z/1", files / "b" / "x.png", choices={"A": "7", "B": "8"}, category="c", view_pixels=3136),
        question("z_1", files / "a" / "x.png", regions=REGIONS),
        question("Z/1", encoded(marked()), points=()),
        question("日本", marked, points=(Point(1, 2.5),)),
        question("twice", str(files / "b" / "x.png")),
    ]
    questions[0] = Question(**{**{f: getattr(questions[0], f) for f in Question.__dataclass_fields__}, "answer": "A"})
    read = load_questions(write_questions(questions, tmp_path / "out"))
    assert words(read) == words(questions)
    for one, other in zip(read, questions, strict=True):
        assert np.array_equal(open_image(one.image), open_image(other.image))
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    assert {Path(q.image).is_symlink() for q in read} == {True, False}


def test_files_are_linked_to_so_that_both_folders_can_be_moved_together(tmp_path, files):
    write_questions([question("1", files / "a" / "x.png")], tmp_path / "data" / "out")
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(tmp_path / "data", moved / "data")
    shutil.move(files, moved / "photos")
    (read,) = load_questions(moved / "data" / "out")
    assert not os.path.isabs(os.readlink(read.image))
    assert open_image(read.image).size == (64, 48)


def test_relative_paths_and_folders_that_are_links(tmp_path, files, monkeypatch):
    (tmp_path / "deep" / "real").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "deep" / "real")
    monkeypatch.chdir(files)
    (read,) = load_questions(write_questions([question("1", "a/x.png")], "../out"))
    assert open_image(read.image).getpixel((0, 0)) == (255, 0, 0)


def test_where_links_cannot_be_made_files_are_copied(tmp_path, files, monkeypatch):
    def refuse(*_):
        raise OSError("no right to make links")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (read,) = load_questions(write_questions([question("1", files / "a" / "x.png")], tmp_path / "out"))
    assert not Path(read.image).is_symlink()
    assert Path(read.image).read_bytes() == (files / "a" / "x.png").read_bytes()


def test_an_interrupted_call_leaves_what_was_there(tmp_path, files):
    path = write_questions([question("1", files / "a" / "x.png")], tmp_path / "out")
    before = path.read_bytes()

    def broken():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_questions([question("2", marked), question("3", broken)], tmp_path / "out")
    assert path.read_bytes() == before
    again = write_questions([question("1", files / "a" / "x.png")], tmp_path / "out")
    assert [json.loads(line)["id"] for line in again.read_text().splitlines()] == ["1"]
