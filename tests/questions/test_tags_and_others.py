"""Own data files may give a question tags and further pictures, and writing them reads back the same."""

import json

import pytest
from tests.questions.benchmarks import published as pub

from foveate.images import open_image
from foveate.questions.problems import QuestionFileError
from foveate.questions.readers import load_questions
from foveate.questions.schema import Question
from foveate.questions.writing import write_questions


@pytest.fixture
def folder(tmp_path):
    for name in "abc":
        pub.write_picture(tmp_path / f"{name}.png", ord(name))
    return tmp_path


def row(**changes):
    return {"id": "1", "image": "a.png", "question": "Which?", "answer": "it"} | changes


def write(folder, suffix, *rows):
    file = folder / f"questions.{suffix}"
    return pub.write_jsonl(file, rows) if suffix == "jsonl" else pub.write_parquet(file, list(rows))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_tags_and_further_pictures_are_read(folder, suffix):
    rows = [row(tags={"cycle": "1", "base": "x"}, other_images=["c.png", "b.png"]), row(id="2")]
    first, second = load_questions(write(folder, suffix, *rows))
    assert first.tags == {"cycle": "1", "base": "x"}
    assert first.others == (folder / "c.png", folder / "b.png")
    assert second.tags == {}
    assert second.others == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tags": ["x"]}, "tags is a list"),
        ({"tags": {"cycle": 1}}, "tags['cycle'] is a number"),
        ({"other_images": "b.png"}, "other_images is text"),
        ({"other_images": ["b.png", "d.png"]}, "other_images[1] '"),
        ({"other_images": ["../b.png"]}, "other_images[0] '../b.png' is not in the folder"),
        ({"other_images": [pub.plain(pub.png())]}, "other_images[0] holds the picture itself"),
        ({"other_images": [3]}, "other_images[0] is a number"),
    ],
)
def test_rows_that_cannot_be_used_are_named(folder, changes, said):
    with pytest.raises(QuestionFileError) as raised:
        load_questions(write(folder, "jsonl", row(**changes)))
    assert f"line 1: {said}" in str(raised.value)
    assert "Mend: " in str(raised.value)


def test_written_questions_come_back(folder):
    given = Question(
        id="q",
        image=folder / "a.png",
        text="Which?",
        answer="it",
        tags={"task": "Perception"},
        others=(folder / "b.png", pub.png(7), lambda: open_image(folder / "c.png")),
    )
    [read] = load_questions(write_questions([given], folder / "out"))
    assert read.tags == given.tags
    assert [open_image(one).tobytes() for one in read.others] == [open_image(one).tobytes() for one in given.others]


def test_rows_without_tags_and_further_pictures_have_no_such_keys(folder):
    path = write_questions([Question(id="q", image=folder / "a.png", text="Which?", answer="it")], folder / "out")
    assert json.loads(path.read_text()).keys() == {"id", "image", "question", "answer"}
