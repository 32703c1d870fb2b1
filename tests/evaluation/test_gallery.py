import base64
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.evaluation.folders import make_run

from foveate.evaluation.gallery import build_gallery, safe_json
from foveate.evaluation.records import read_runs
from foveate.jsonl import replace_rows


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "a", 120, model="a", skill=0.3)
    make_run(tmp_path / "b", 120, model="b", skill=0.7, first=30)
    return read_runs([tmp_path / "a", tmp_path / "b"])


def pictures_of(gallery):
    return [one for chunk in gallery.pictures for one in json.loads(chunk)]


def side_of(url):
    return max(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).size)


def size_of(gallery):
    return len(gallery.data) + sum(map(len, gallery.pictures))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_in_a_script_tag_is_the_value_and_ends_no_tag(value):
    written = safe_json(value)
    assert json.loads(written) == value
    assert not set(written) & set("<>&\u2028\u2029\x00\n")
    assert written.isascii()


def test_every_question_is_there_once_with_each_runs_answer(runs):
    gallery = build_gallery(runs)
    cards = json.loads(gallery.data)["questions"]
    assert [card["id"] for card in cards] == [f"q{i:05}" for i in range(150)]
    assert gallery.questions == 150
    for i, run in enumerate(runs):
        asked = {question.id: question for question in run.questions}
        for card in cards:
            answer = card["runs"][i]
            assert (answer is None) == (card["id"] not in asked)
            if answer:
                attempt = asked[card["id"]].attempts[0]
                assert answer["answer"] == attempt.answer
                assert answer["texts"] == list(attempt.texts)
                assert len(answer["boxes"]) == len(attempt.boxes)


def test_one_id_for_two_questions_makes_two_cards(tmp_path):
    rows = make_run(tmp_path / "a", 4, model="a")
    make_run(tmp_path / "b", 4, model="b")
    other = [replace(rows[0], text=rows[0].text + " Really?"), *rows[1:]]
    replace_rows(tmp_path / "b" / "questions.jsonl", (row.to_json() for row in other))
    gallery = build_gallery(read_runs([tmp_path / "a", tmp_path / "b"]))
    assert [card["id"] for card in json.loads(gallery.data)["questions"]] == [
        "q00000",
        "q00001",
        "q00002",
        "q00003",
        "q00000",
    ]


def test_boxes_are_in_percent_of_the_picture(runs):
    run = runs[0]
    cards = {card["id"]: card for card in json.loads(build_gallery([run]).data)["questions"]}
    for question in run.questions:
        width, height = question.image_size
        for drawn, box in zip(cards[question.id]["runs"][0]["boxes"], question.attempts[0].boxes, strict=True):
            left, top, right, bottom = box
            assert drawn == pytest.approx(
                [100 * left / width, 100 * top / height, 100 * (right - left) / width, 100 * (bottom - top) / height],
                abs=0.02,
            )


def test_pictures_are_shared_and_crops_are_each_runs_own(runs):
    pictures = pictures_of(build_gallery(runs))
    assert len(pictures) == 150
    kept = [run.pictures() for run in runs]
    for i, (picture, crops) in enumerate(pictures):
        rows = [rows.get(f"q{i:05}") for rows in kept]
        assert picture == next(row.picture for row in rows if row)
        assert crops == [list(row.crops) if row else [] for row in rows]


def test_a_budget_is_kept_by_smaller_pictures_then_by_fewer(runs):
    whole = build_gallery(runs)
    assert whole.notes == ()
    sides = []
    for share in (0.9, 0.6, 0.4):
        budget = round(size_of(whole) * share)
        gallery = build_gallery(runs, budget)
        assert size_of(gallery) <= budget
        assert gallery.notes
        pictures = pictures_of(gallery)
        sides.append(side_of(pictures[0][0]))
        shown = [picture is not None for picture, _ in pictures]
        assert shown == sorted(shown, reverse=True)  # those of later questions are left out
        cropped = [any(crops) for _, crops in pictures]
        assert not any(crops and not picture for picture, crops in zip(shown, cropped, strict=True))
    assert sides[0] < 192
    assert sides == sorted(sides, reverse=True)
    assert "Crops are shown for the first" in " ".join(gallery.notes)


def test_long_replies_are_cut_and_it_is_told(tmp_path):
    rows = make_run(tmp_path / "a", 40, pictures=False)
    wordy = [replace(row, attempts=(replace(row.attempts[0], texts=("word " * 3000,)),)) for row in rows]
    replace_rows(tmp_path / "a" / "questions.jsonl", (row.to_json() for row in wordy))
    runs = read_runs([tmp_path / "a"])
    gallery = build_gallery(runs, 600_000)
    assert len(gallery.data) <= 240_000
    assert "Replies are cut after 4,000 characters." in gallery.notes
    assert len(json.loads(gallery.data)["questions"]) == 40
    least = build_gallery(runs, 30_000)
    assert "questions are shown" in " ".join(least.notes)
    assert 0 < len(json.loads(least.data)["questions"]) < 40


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a.png",
        "javascript:alert(1)",
        "data:text/html;base64,AAAA",
        'data:image/png;base64,A"onerror=',
    ],
)
def test_only_pictures_are_taken_for_pictures(tmp_path, url):
    make_run(tmp_path / "a", 3)
    line = {"id": "q00001", "picture": url, "crops": [url]}
    with (tmp_path / "a" / "pictures.jsonl").open("a") as lines:
        lines.write(json.dumps(line) + "\n")
    pictures = pictures_of(build_gallery(read_runs([tmp_path / "a"])))
    assert [bool(picture) for picture, _ in pictures] == [True, False, True]
    assert pictures[1] == [None, [[]]]


def test_what_cannot_be_opened_is_left_out_when_pictures_are_made_smaller(tmp_path):
    make_run(tmp_path / "a", 30)
    broken = "data:image/webp;base64," + "QUJD" * 5000
    with (tmp_path / "a" / "pictures.jsonl").open("a") as lines:
        lines.write(json.dumps({"id": "q00001", "picture": broken, "crops": []}) + "\n")
    runs = read_runs([tmp_path / "a"])
    pictures = pictures_of(build_gallery(runs, round(0.7 * size_of(build_gallery(runs)))))
    assert [i for i, (picture, _) in enumerate(pictures) if picture is None] == [1]
