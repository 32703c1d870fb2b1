"""`check_file` opens every picture, names each bad row with its mend, and counts."""

import json

import pytest
from PIL import Image

from foveate.questions.check import check_file
from foveate.questions.problems import QuestionFileError


@pytest.fixture
def write(tmp_path):
    """Writes rows, with pictures `0.png` (10 x 20) to `4.png` (50 x 20) beside them; returns the file."""
    for number in range(5):
        Image.effect_noise((10 * (number + 1), 20), 50).save(tmp_path / f"{number}.png")

    def rows(*changes):
        lines = [
            json.dumps({"id": number, "image": f"{number % 5}.png", "question": "?", "answer": "x"} | change)
            for number, change in enumerate(changes)
        ]
        path = tmp_path / "questions.jsonl"
        path.write_text("\n".join(lines))
        return path

    return rows


def test_good_file(write):
    region = {"category": "a", "regions": [[1, 2, 3, 4]]}
    path = write({}, {"category": "b", "view_pixels": 784}, region, {"choices": ["x", "y"]}, {})
    report = check_file(path)
    assert report.ok
    assert report.as_json() == {
        "file": str(path),
        "rows": 5,
        "good": 5,
        "bad": 0,
        "with_regions": 1,
        "with_points": 0,
        "with_choices": 1,
        "with_view_pixels": 1,
        "categories": {"a": 1, "b": 1},
        "image_sizes": {"min": [10, 20], "median": [30, 20], "max": [50, 20]},
        "bad_rows": [],
        "warnings": [],
    }
    assert "5 rows, 5 good, 0 bad" in str(report)
    assert "1 with a pixel budget of their own" in str(report)
    assert "10 x 20 (smallest), 30 x 20 (median), 50 x 20 (largest)" in str(report)


def test_every_bad_row_is_listed_with_its_line_and_mend(write):
    report = check_file(write(*({"image": f"none{number}.png"} for number in range(60)), {}, {"question": ""}))
    assert not report.ok
    assert (report.rows, report.good, len(report.bad_rows)) == (62, 1, 61)
    for number in range(60):
        assert f"line {number + 1}: image 'none{number}.png' does not exist. Mend: put it in" in str(report)
    assert "line 62: question is empty. Mend: write its text" in str(report)
    assert [row["row"] for row in report.as_json()["bad_rows"]] == [*range(1, 61), 62]
    assert all(reason["mend"] for row in report.as_json()["bad_rows"] for reason in row["reasons"])
    json.dumps(report.as_json())


@pytest.mark.parametrize("decode", [True, False])
def test_a_truncated_picture_is_found_by_decoding(write, tmp_path, decode):
    picture = tmp_path / "4.png"
    path = write({}, {}, {}, {}, {})
    picture.write_bytes(picture.read_bytes()[:100])
    report = check_file(path, decode=decode)
    assert report.ok is not decode
    if decode:
        assert "line 5: image cannot be used" in str(report)
        assert "Mend: write the picture again" in str(report)


def test_warnings_do_not_make_a_file_bad(write):
    report = check_file(write({"regions": [[[1, 1, 9, 9], [2, 2, 3, 3]]]}))
    assert report.ok
    assert "line 1: regions[0] has levels that do not contain one another" in str(report)
    assert report.as_json()["warnings"][0]["row"] == 1


def test_empty_file(write):
    report = check_file(write())
    assert not report.ok
    assert "has no rows. Mend: write one question a row" in str(report)


def test_another_format_is_an_error(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text("[]")
    with pytest.raises(QuestionFileError, match="one JSON array"):
        check_file(path)
