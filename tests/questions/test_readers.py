"""Every row of a data file becomes a question, or is named with its line, what is wrong and how to mend it."""

import base64
import io
import json
import os
import pickle
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import foveate
from foveate import images
from foveate.images import ImageError, open_image
from foveate.questions import files
from foveate.questions.problems import QuestionFileError
from foveate.questions.readers import load_questions
from foveate.questions.scenes.config import SceneConfig
from foveate.questions.scenes.export import export
from foveate.regions import Box, Point

SIZE = (120, 80)


def picture_bytes(size=SIZE, colour="red", orientation=None):
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size, colour).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "images" / "a.jpg").write_bytes(picture_bytes())
    (tmp_path / "outside.jpg").write_bytes(picture_bytes())
    return data


def row(**changes):
    """A good row with some keys changed; `...` leaves a key out."""
    good = {"id": "1", "image": "images/a.jpg", "question": "What colour?", "answer": "red"}
    return {key: value for key, value in (good | changes).items() if value is not ...}


def write_jsonl(folder, *lines):
    path = folder / "questions.jsonl"
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def write_parquet(folder, rows, **options):
    path = folder / "questions.parquet"
    keys = dict.fromkeys(key for good in rows for key in good)  # from_pylist takes the columns of the first row
    pq.write_table(pa.Table.from_pylist([{key: row.get(key) for key in keys} for row in rows]), path, **options)
    return path


# Rows that cannot be used: what the message must say is wrong, and what to do.
BAD_ROWS = {
    "no id": (row(id=...), "id is missing", "give every row its own"),
    "null id": (row(id=None), "id is missing", "give every row its own"),
    "empty id": (row(id=""), "id is empty", "give every row its own"),
    "no image": (row(image=...), "image is missing", "write the picture's path"),
    "no question": (row(question=...), "question is missing", "write the question's text"),
    "blank question": (row(question=" \t"), "question is empty", "write its text"),
    "question a number": (row(question=7), "question is a number", "write the question's text"),
    "no answer": (row(answer=...), "answer is missing", "the text of the right choice"),
    "blank answer": (row(answer=""), "answer is empty", "write its text"),
    "answer a list": (row(answer=["red"]), "answer is a list", "the text of the right choice"),
    "answer no choice": (
        row(choices=["blue", "green"]),
        "'red' is not one of the choices ['A', 'B']",
        "write the letter",
    ),
    "answer two choices": (row(choices=["red", "red"]), "'red' is not one of the choices", "write the letter"),
    "no choices": (row(choices=[]), "choices are empty", "leave the key out"),
    "choices a text": (row(choices="red"), "choices is text", "write a list of texts, or texts by letter"),
    "choice a list": (row(choices={"A": ["red"]}), "choices['A'] is a list", "write a list of texts"),
    "choice an object": (row(choices=[{}, "red"]), "choices[0] is an object", "write a list of texts"),
    "category a list": (row(category=[1]), "category is a list", "leave the key out"),
    "point outside": (row(points=[[1, 2], [130, 10]]), "points[1] [130, 10] is not inside the picture", "each counted"),
    "point below zero": (row(points=[[5, -1]]), "points[0] [5, -1] is not inside the picture of 120 x 80", "upright"),
    "point NaN": (row(points=[[float("nan"), 3]]), "points[0] [nan, 3] is not inside", "[x, y]"),
    "point infinite": (row(points=[[1e999, 3]]), "points[0] [inf, 3] is not inside", "[x, y]"),
    "point of 1": (row(points=[[4, 5], [4]]), "points[1] is not two numbers", "[x, y]"),
    "point of 3": (row(points=[[4, 5, 6]]), "points[0] is not two numbers", "[x, y]"),
    "point not in a list": (row(points=[4, 5]), "points[0] is a number", "[x, y]"),
    "point of texts": (row(points=[["a", 5]]), "points[0][0]", "[x, y]"),
    "points a text": (row(points="4, 5"), "points is text", "[x, y]"),
    "points in fractions": (row(points=[[0.1, 0.2], [0.5, 0.6]]), "in fractions", "multiply x by the width, 120"),
    "view_pixels zero": (row(view_pixels=0), "view_pixels is 0, not a number of pixels", "write a whole number"),
    "view_pixels true": (row(view_pixels=True), "view_pixels is True", "write a whole number"),
    "view_pixels a text": (row(view_pixels="few"), "view_pixels input should be a valid integer", "write a whole"),
    "view_pixels a list": (row(view_pixels=[56, 56]), "view_pixels is a list", "write a whole number"),
    "view_pixels broken": (row(view_pixels=3136.5), "view_pixels input should be a valid integer", "write a whole"),
    "view_pixels infinite": (row(view_pixels=float("inf")), "view_pixels", "write a whole number"),
    "misspelt key": (row(awnser="red"), "'awnser' is not a key", "write 'answer'"),
    "unknown key": (row(width=120), "'width' is not a key", "the keys are id, image"),
    "image a number": (row(image=5), "image is a number", "write the picture's path"),
    "image an object": (row(image={}), "image holds neither bytes nor a path", "write the picture's bytes"),
    "image empty": (row(image=""), "image '' is not a path", "write the picture's path"),
    "image with NUL": (row(image="a\0.jpg"), "is not a path", "write the picture's path"),
    "image missing": (row(image="images/b.jpg"), "image 'images/b.jpg' does not exist", "put it in"),
    "image a folder": (row(image="images"), "image 'images' is a folder", "write the picture's path"),
    "image too long": (row(image="x." * 3000), "cannot be opened", "write the picture's path"),
    "image not one": (row(image="questions.jsonl"), "not a picture in one of the formats", "write the picture again"),
    "image empty file": (row(image="empty.png"), "empty.png: is empty", "write the picture again"),
    "image bomb": (row(image="bomb.png"), "limit", "write the picture again"),
    "image an address": (row(image="https://example.org/a.jpg"), "is an address", "download it"),
    "image with \\": (row(image="images\\a.jpg"), "does not exist", "write 'images/a.jpg'"),
    "image on C:": (row(image="C:\\a.jpg"), "is a Windows path", "write the picture's path"),
    "image above": (row(image="../outside.jpg"), "is not in the folder", "put it there"),
    "image above, roundabout": (row(image="images/../../outside.jpg"), "is not in the folder", "put it there"),
    "image absolute": (row(image="/etc/hostname"), "is not in the folder", "put it there"),
    "image bad base64": (
        row(image="data:image/png;base64,####"),
        "0 bytes of image data: is empty",
        "write the picture",
    ),
    "region outside": (row(regions=[[130, 10, 140, 20]]), "regions[0][0] [130, 10, 140, 20] is not inside", "corners"),
    "region partly outside": (row(regions=[[[1, 2, 3, 4], [0, 0, 125, 9]]]), "regions[0][1] [0, 0, 125, 9]", "corners"),
    "region below zero": (row(regions=[[-5, 10, 20, 20]]), "is not inside the picture of 120 x 80", "corners"),
    "region turned": (row(regions=[[10, 90, 20, 110]]), "is not inside", "is the picture turned by its EXIF"),
    "region empty": (row(regions=[[10, 10, 10, 20]]), "is empty", "not x, y, width, height"),
    "region reversed": (row(regions=[[50, 40, 20, 20]]), "is empty", "not x, y, width, height"),
    "region NaN": (row(regions=[[float("nan"), 1, 2, 3]]), "not a finite number", "corners"),
    "region infinite": (row(regions=[[0, 0, 1e999, 3]]), "not a finite number", "corners"),
    "region of 3": (row(regions=[[[1, 2, 3]]]), "not four numbers", "corners"),
    "region of 5": (row(regions=[[[1, 2, 3, 4, 5]]]), "not four numbers", "corners"),
    "region of texts": (row(regions=[[["a", 2, 3, 4]]]), "regions[0][0][0]", "corners"),
    "region without box": (row(regions=[[]]), "region 1 has no box", "corners"),
    "region a text": (row(regions="1, 2, 3, 4"), "regions is text", "corners"),
    "region a huge integer": (row(regions=[[0, 0, 10**400, 3]]), "regions", "corners"),
    "region in fractions": (row(regions=[[0.1, 0.2, 0.5, 0.6]]), "in fractions", "multiply x by the width, 120"),
    "lone surrogate": (
        b'{"id": "1", "image": "images/a.jpg", "question": "\\ud800", "answer": "x"}',
        "half of a character",
        "write the text again",
    ),
    "not UTF-8": (b'{"id": "caf\xe9"}', "is not UTF-8 (byte 12 of the line)", "save the file as UTF-8"),
    "not JSON": (b"{'id': 1}", "is not JSON", "double quotes"),
    "cut short": (b'{"id": "1", "image": "images', "is not JSON", "write one object"),
    "trailing garbage": (json.dumps(row()).encode() + b" # red", "goes on after its object", "end the line"),
    "two objects": (json.dumps(row()).encode() * 2, "goes on after its object", "a line of its own"),
    "a list": (b'["1", "images/a.jpg"]', "is a list, not an object", "write an object"),
    "a text": (b'"red"', "is text, not an object", "write an object"),
    "null": (b"null", "is null, not an object", "write an object"),
    "key twice": (b'{"id": "1", "id": "2"}', "'id' is written twice", "keep one"),
    "deep": (b"[" * 100_000, "is not a row", "write one object"),
    "long number": (b'{"id": ' + b"1" * 10_000 + b"}", "is not a row", "write one object"),
    "long line": (b'{"id": "' + b"x" * 70_000 + b'"}', "is longer than", "write one question a line"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_row_is_named_with_its_line_and_mend(folder, name, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 60_000 if name == "long line" else files.MAX_LINE_BYTES)
    (folder / "empty.png").touch()
    if name == "image bomb":
        monkeypatch.setattr(images, "MAX_PIXELS", 1000)
        Image.new("1", (1001, 1)).save(folder / "bomb.png")
        Image.new("RGB", (10, 10)).save(folder / "images" / "a.jpg")
    bad, what, mend = BAD_ROWS[name]
    path = write_jsonl(folder, row(id="first"), b"", bad, row(id="last"))

    with pytest.raises(QuestionFileError) as raised:
        load_questions(path)
    message = str(raised.value)
    assert "questions.jsonl: 1 of 3 rows cannot be used" in message
    assert what in message.partition("line 3: ")[2].partition("Mend: ")[0]
    assert mend in message.partition("Mend: ")[2]
    assert [bad.number for bad in raised.value.bad_rows] == [3]

    kept = load_questions(path, on_bad="quarantine")
    assert [question.id for question in kept] == ["first", "last"]
    assert [bad.number for bad in kept.bad_rows] == [3]


def test_all_bad_rows_are_told_at_once_the_first_twenty_listed(folder):
    path = write_jsonl(folder, *(row(id=number, image=f"{number}.png") for number in range(50)))
    with pytest.raises(QuestionFileError) as raised:
        load_questions(path)
    assert "50 of 50 rows" in str(raised.value)
    assert "line 20:" in str(raised.value)
    assert "line 21:" not in str(raised.value)
    assert "and 30 more problems" in str(raised.value)
    assert len(raised.value.bad_rows) == 50


def test_rows_with_the_same_problem_share_a_line(folder):
    path = write_jsonl(folder, *(row(id=number, question="") for number in range(50)), row(id=50, image="x.png"))
    with pytest.raises(QuestionFileError, match=r"lines 1, 2, .*, 20 and 30 more: question is empty") as raised:
        load_questions(path)
    assert "line 51: image 'x.png' does not exist" in str(raised.value)


def test_a_row_tells_all_its_problems(folder):
    with pytest.raises(QuestionFileError) as raised:
        load_questions(write_jsonl(folder, row(question="", answer=..., colour="red")))
    (bad,) = raised.value.bad_rows
    assert {problem.field for problem in bad.problems} == {"question", "answer", "'colour'"}


def test_repeated_id_names_the_earlier_row_even_if_that_is_bad(folder):
    path = write_jsonl(folder, row(), row(id=2, question=""), row(id=1), row(id="2"))
    with pytest.raises(QuestionFileError) as raised:
        load_questions(path)
    assert "line 3: id '1' is that of line 1 too. Mend: give every row an id of its own" in str(raised.value)
    assert "line 4: id '2' is that of line 2 too" in str(raised.value)


def test_quarantine_keeps_reasons_and_rows(folder, caplog):
    bad = b'{"id": "caf\xe9"}'
    questions = load_questions(write_jsonl(folder, bad, row(), row(id=3, answer=None)), on_bad="quarantine")
    assert "2 of 3 rows cannot be used" in caplog.text
    path = questions.write_quarantine()
    assert path == folder / "questions.jsonl.quarantine.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["row"], second["row"]) == (1, 3)
    assert first["raw"] == r'{"id": "caf\xe9"}'
    assert json.loads(second["raw"]) == row(id=3, answer=None)
    assert second["reasons"][0]["field"] == "answer"
    assert second["reasons"][0]["mend"]


def test_quarantine_of_every_row_is_an_error(folder):
    with pytest.raises(QuestionFileError, match="1 of 1 rows"):
        load_questions(write_jsonl(folder, row(question="")), on_bad="quarantine")


def test_unknown_policy_for_bad_rows_is_refused(folder):
    with pytest.raises(ValueError, match="on_bad is 'error' or 'quarantine'"):
        load_questions(write_jsonl(folder, row()), on_bad="ignore")


def test_good_row(folder):
    regions = [[[10, 20, 30, 40], [0, 0, 120, 80]], [[1, 2, 3, 4]]]
    path = write_jsonl(folder, row(id=7, choices={"A": "blue", "B": "red"}, regions=regions, category="colour"))
    (question,) = load_questions(path)
    assert (question.id, question.text, question.answer, question.category) == ("7", "What colour?", "B", "colour")
    assert question.choices == {"A": "blue", "B": "red"}
    assert question.regions == ((Box(10, 20, 30, 40), Box(0, 0, 120, 80)), (Box(1, 2, 3, 4),))
    assert open_image(question.image).size == SIZE


@pytest.mark.parametrize(("written", "read"), [(3136, 3136), (3136.0, 3136), ("3136", 3136), (None, None), (..., None)])
def test_a_budget_of_its_own(folder, written, read):
    (question,) = load_questions(write_jsonl(folder, row(view_pixels=written)))
    assert question.view_pixels == question.without_annotations().view_pixels == read


def test_a_table_with_budgets_in_some_rows_holds_them_as_broken_numbers(folder):
    questions = load_questions(write_parquet(folder, [row(view_pixels=3136.0), row(id="2", view_pixels=float("nan"))]))
    assert [question.view_pixels for question in questions] == [3136, None]


POINTED = {(): [], (Point(0, 80), Point(120, 2.5)): [[0, 80], [120, 2.5]], None: ...}
"""True points as they are read, and as they are written: none there, two, unknown."""


@pytest.mark.parametrize("write", ["jsonl", "parquet"])
def test_no_points_and_unknown_points_are_told_apart(folder, write):
    rows = [row(id=str(number), points=points) for number, points in enumerate(POINTED.values())]
    path = write_jsonl(folder, *rows) if write == "jsonl" else write_parquet(folder, rows)
    questions = load_questions(path)
    assert [question.points for question in questions] == list(POINTED)
    assert all(question.without_annotations().points is None for question in questions)


@pytest.mark.parametrize("answer", ["B", "red"])
def test_listed_choices_get_letters(folder, answer):
    (question,) = load_questions(write_jsonl(folder, row(choices=["blue", "red"], answer=answer)))
    assert question.choices == {"A": "blue", "B": "red"}
    assert question.answer == "B"


def test_levels_that_are_not_nested_are_warned_of_and_kept(folder, caplog):
    levels = [[0, 0, 100, 70], [10, 10, 20, 20]]
    questions = load_questions(write_jsonl(folder, row(), row(id=2, regions=[levels])))
    assert len(questions) == 2
    assert "line 2: regions[0] has levels that do not contain one another. Mend: write the levels" in caplog.text
    assert [warned.number for warned in questions.warnings] == [2]


@given(st.data())
def test_boxes_within_a_pixel_of_the_picture_are_cut_to_it(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("boxes")
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(picture_bytes())
    width, height = SIZE
    x1 = data.draw(st.floats(-1, width - 2))
    y1 = data.draw(st.floats(-1, height - 2))
    x2 = data.draw(st.floats(max(x1, 1) + 0.5, width + 1))
    y2 = data.draw(st.floats(max(y1, 1) + 0.5, height + 1))
    (question,) = load_questions(write_jsonl(folder, row(regions=[[x1, y1, x2, y2]])))
    ((box,),) = question.regions
    assert Box(0, 0, width, height).contains(box)
    assert max(abs(a - b) for a, b in zip(box.corners, (x1, y1, x2, y2), strict=True)) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_are_measured_in_upright_pixels(folder, orientation):
    (folder / "images" / "a.jpg").write_bytes(picture_bytes((120, 80), orientation=orientation))
    width, height = (80, 120) if orientation >= 5 else (120, 80)
    path = write_jsonl(folder, row(regions=[[width - 10, height - 10, width, height]]))
    (question,) = load_questions(path)
    assert open_image(question.image).size == (width, height)
    with pytest.raises(QuestionFileError, match="is not inside"):
        load_questions(write_jsonl(folder, row(regions=[[0, 0, height, width]])))


def test_links_in_the_folder_are_followed(folder, tmp_path):
    (folder / "elsewhere").symlink_to(tmp_path)
    (question,) = load_questions(write_jsonl(folder, row(image="elsewhere/outside.jpg")))
    assert open_image(question.image).size == SIZE


def test_image_folder_moves_the_start_and_the_limit_of_paths(folder, tmp_path):
    path = write_jsonl(folder, row(image="outside.jpg"), row(id=2, image=str(tmp_path / "data" / "images" / "a.jpg")))
    assert len(load_questions(path, image_folder=tmp_path)) == 2
    with pytest.raises(QuestionFileError, match=r"line 1: image 'outside\.jpg' does not exist"):
        load_questions(path, image_folder=folder / "images")


def test_paths_are_relative_to_the_file_not_to_the_process(folder, tmp_path, monkeypatch):
    write_jsonl(folder, row())
    monkeypatch.chdir(tmp_path)
    (question,) = load_questions("data/questions.jsonl")
    assert open_image(question.image).size == SIZE


def test_windows_line_ends_blank_lines_and_a_missing_last_end_are_fine(folder):
    path = folder / "questions.jsonl"
    path.write_bytes(b"\r\n \n" + json.dumps(row()).encode() + b"\r\n\n" + json.dumps(row(id=2)).encode())
    assert [question.id for question in load_questions(path)] == ["1", "2"]


def test_line_separators_inside_a_text_do_not_end_the_row(folder):
    text = "a\u2028b\u0085c"
    (question,) = load_questions(write_jsonl(folder, json.dumps(row(question=text), ensure_ascii=False).encode()))
    assert question.text == text


def test_byte_order_mark_is_read_over_and_told(folder, caplog):
    encoded = base64.b64encode(picture_bytes()).decode()
    path = write_jsonl(folder, b"\xef\xbb\xbf" + json.dumps(row(image=encoded)).encode())
    (question,) = load_questions(path)
    assert open_image(question.image).size == SIZE
    assert "line 1: begins with a byte order mark" in caplog.text


def test_long_line_does_not_shift_the_numbers_after_it(folder, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1000)
    path = write_jsonl(folder, b"x" * 1001, b"y" * 3_000_000, row(), b"z" * 1000)
    with pytest.raises(QuestionFileError) as raised:
        load_questions(path)
    assert [bad.number for bad in raised.value.bad_rows] == [1, 2, 4]


@pytest.mark.parametrize(
    ("content", "what", "mend"),
    [
        (json.dumps([row()]).encode(), "is one JSON array", "jq -c"),
        (json.dumps([row()], indent=1).encode(), "is one JSON array", "jq -c"),
        (json.dumps(row(), indent=1).encode(), "objects over several lines", "jq -c"),
        (json.dumps(row()).encode("utf-16"), "is not in UTF-8", "save it as UTF-8"),
        (json.dumps(row()).encode("utf-16-le"), "is not in UTF-8", "save it as UTF-8"),
        (b"PAR1....", "is a Parquet file", "name it .parquet"),
        (b"", "has no rows", "write one question a row"),
        (b"\n \n", "has no rows", "write one question a row"),
    ],
)
def test_files_of_another_kind_are_refused_as_a_whole(folder, content, what, mend):
    path = folder / "questions.jsonl"
    path.write_bytes(content)
    with pytest.raises(QuestionFileError, match=what) as raised:
        load_questions(path)
    assert mend in str(raised.value)


def test_finding_the_file(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_questions(tmp_path / "none.jsonl")
    with pytest.raises(QuestionFileError, match="holds neither"):
        load_questions(folder)
    write_jsonl(folder, row()).rename(folder / "other.jsonl")
    with pytest.raises(QuestionFileError, match=r"name the one to read: other\.jsonl"):
        load_questions(folder)
    write_jsonl(folder, row())
    assert len(load_questions(folder)) == 1
    assert len(load_questions(str(folder))) == 1
    write_parquet(folder, [row()])
    with pytest.raises(QuestionFileError, match="name the one to read"):
        load_questions(folder)
    (folder / "questions.csv").touch()
    with pytest.raises(QuestionFileError, match=r"read from \.jsonl, \.ndjson, \.parquet"):
        load_questions(folder / "questions.csv")


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_pictures(folder, prefix, encode):
    noisy = Image.effect_noise((50, 40), 60).convert("RGB")
    stream = io.BytesIO()
    noisy.save(stream, "PNG")
    path = write_jsonl(folder, row(id=0), row(image=prefix + encode(stream.getvalue()).decode()))
    question = pickle.loads(pickle.dumps(load_questions(path)[1]))
    assert open_image(question.image).tobytes() == noisy.tobytes()
    write_jsonl(folder, row())
    with pytest.raises(ImageError, match="line 2: no picture there now"):
        open_image(question.image)


@pytest.mark.parametrize("group_size", [1, 2, 100])
@pytest.mark.parametrize(
    "wrap", [bytes, lambda b: {"bytes": b, "path": "x.jpg"}, lambda b: base64.b64encode(b).decode()]
)
def test_parquet_pictures_by_row(folder, wrap, group_size):
    sizes = [(20 + number, 30) for number in range(5)]
    rows = [row(id=str(size[0]), image=wrap(picture_bytes(size))) for size in sizes]
    questions = load_questions(write_parquet(folder, rows, row_group_size=group_size))
    for question in reversed(pickle.loads(pickle.dumps(list(questions)))):
        assert open_image(question.image).size == (int(question.id), 30)


def test_parquet_rows_equal_jsonl_rows(folder):
    rows = [
        row(id="1", choices={"A": "red", "B": "blue"}, regions=[[[1, 2, 3, 4], [0, 0, 9, 9]]], category="colour"),
        row(id="2", choices={"A": "red", "B": "blue", "C": "green"}),
        row(id="3"),
    ]
    from_jsonl = load_questions(write_jsonl(folder, *rows))
    assert list(load_questions(write_parquet(folder, rows))) == list(from_jsonl)


def test_parquet_pictures_by_path_and_by_map(folder):
    path = folder / "questions.parquet"
    choices = pa.array([[("A", "red")]], pa.map_(pa.string(), pa.string()))
    columns = {"id": [1], "image": [{"bytes": None, "path": "images/a.jpg"}], "question": ["?"], "answer": ["A"]}
    pq.write_table(pa.table({**columns, "choices": choices}), path)
    (question,) = load_questions(path)
    assert open_image(question.image).size == SIZE
    assert question.choices == {"A": "red"}


def test_bad_parquet_rows_are_named(folder):
    rows = [row(image=picture_bytes()), row(id="2", image=b"no picture"), row(id="3", image=None), row(id="1")]
    rows[3]["image"] = picture_bytes()
    path = write_parquet(folder, rows)
    with pytest.raises(QuestionFileError, match="3 of 4 rows") as raised:
        load_questions(path)
    assert "row 2: image cannot be used (10 bytes of image data" in str(raised.value)
    assert "row 3: image is missing. Mend: write the picture's path" in str(raised.value)
    assert "row 4: id '1' is that of row 1 too" in str(raised.value)
    (question,) = (questions := load_questions(path, on_bad="quarantine"))
    assert question.id == "1"
    first = json.loads(questions.write_quarantine().read_text().splitlines()[0])
    assert json.loads(first["raw"])["image"] == "<10 bytes>"


def test_parquet_as_a_whole(folder, monkeypatch):
    with pytest.raises(QuestionFileError, match=r"no such keys: 'width'.*remove or rename"):
        load_questions(write_parquet(folder, [row(width=3)]))
    path = write_parquet(folder, [row(image=os.urandom(5000)) for _ in range(5)])
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(QuestionFileError, match="cannot be read as Parquet"):
        load_questions(path)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'foveate\[parquet\]'"):
        load_questions(path)


def test_pictures_are_not_decoded_when_rows_are_read(folder):
    whole = picture_bytes((400, 300))
    (folder / "images" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (question,) = load_questions(write_jsonl(folder, row()))
    with pytest.raises(ImageError, match=r"a\.jpg"):
        open_image(question.image)


def test_a_picture_of_many_questions_is_looked_at_once(folder, monkeypatch):
    looked_at = []
    header_size = images.header_size
    monkeypatch.setattr("foveate.questions.readers.header_size", lambda s: looked_at.append(s) or header_size(s))
    load_questions(write_jsonl(folder, *(row(id=number) for number in range(9))))
    assert looked_at == [folder / "images" / "a.jpg"]


def test_exported_scenes_are_read_back(tmp_path):
    export(SceneConfig(), 2, seed=3, directory=tmp_path)
    questions = load_questions(tmp_path)
    assert len(questions) == 2
    assert all(question.regions for question in questions)


def test_questions_are_a_sequence(folder):
    questions = load_questions(write_jsonl(folder, *(row(id=number) for number in range(5))))
    assert [question.id for question in questions[1:3]] == ["1", "2"]
    assert questions[-1].id == "4"
    assert questions[0] in questions
    assert "5 questions" in repr(questions)
    assert foveate.load_questions is load_questions


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"question": TEXTS, "answer": TEXTS},
            optional={"category": TEXTS, "choices": st.lists(TEXTS, min_size=1, max_size=6, unique=True)},
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_both_formats(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(picture_bytes())
    rows = [row(id=str(number), **keys) for number, keys in enumerate(drawn)]
    for good in rows:
        if "choices" in good:
            good["answer"] = good["choices"][-1]
    from_jsonl = list(load_questions(write_jsonl(folder, *rows)))
    assert [question.text for question in from_jsonl] == [good["question"] for good in rows]
    for question, good in zip(from_jsonl, rows, strict=True):
        said = question.choices[question.answer] if question.choices else question.answer
        assert said == good["answer"] or good["answer"] in string.ascii_uppercase
    assert list(load_questions(write_parquet(folder, rows))) == from_jsonl


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_in_words(tmp_path_factory, content):
    path = Path(tmp_path_factory.mktemp("bytes")) / "questions.jsonl"
    path.write_bytes(content)
    with pytest.raises(QuestionFileError):
        load_questions(path)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_parquet(tmp_path_factory, content):
    path = Path(tmp_path_factory.mktemp("bytes")) / "questions.parquet"
    path.write_bytes(content)
    with pytest.raises(QuestionFileError):
        load_questions(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["id", "image", "question", "answer", "choices", "regions", "category", "other"]), JSON)
def test_any_value_in_any_key_is_used_or_refused_in_words(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("values")
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(picture_bytes())
    path = write_jsonl(folder, row(id="first"), row(**{key: value}))
    questions = load_questions(path, on_bad="quarantine")
    assert len(questions) + len(questions.bad_rows) == 2
    for bad in questions.bad_rows:
        assert bad.number == 2
        assert all(problem.what and problem.mend for problem in bad.problems)
