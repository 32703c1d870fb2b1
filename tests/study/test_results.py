import gzip
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.study.cells import make

from foveate.study.results import Cell, StudyError, named, pack, read_cell, read_cells, unpack, write_cell

RECORD = {
    "method": "hart",
    "base": "view",
    "seed": 3,
    "questions": ["a", "b"],
    "measures": {"own/accuracy": [1, None], "own/iog": [0.25, 0.5]},
    "training": {"steps": 60, "rollouts": 7680, "updates": 60, "seconds": 51.0},
    "commit": "1234abc",
}


def test_a_cell_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(RECORD), encoding="utf-8")
    cell = read_cell(path)
    assert (cell.name, cell.seed, cell.measures["own/accuracy"]) == ("hart@view", 3, (1.0, None))
    write_cell(tmp_path / "again" / "cell.json", cell)
    assert read_cell(tmp_path / "again" / "cell.json") == cell
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"measures": {"own/iog": [0.1]}}, "1 values for 2 questions"),
        ({"questions": ["a", "a"]}, "an id twice"),
        ({"measures": {"own/iog": [0.1, float("nan")]}}, "finite"),
        ({"seed": "first"}, "seed"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_file_is_named_with_its_mend(tmp_path, change, why):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(RECORD | change), encoding="utf-8")
    with pytest.raises(StudyError, match=rf"cell\.json: .*{why}.*Delete the file") as caught:
        read_cell(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_and_one_that_is_not_there(tmp_path):
    (tmp_path / "cell.json").write_text('{"method": "ha', encoding="utf-8")
    with pytest.raises(StudyError, match="not a cell's JSON"):
        read_cell(tmp_path / "cell.json")
    with pytest.raises(StudyError, match=r"other\.json"):
        read_cell(tmp_path / "other.json")


def test_a_folder_is_read_in_order_and_may_hold_a_cell_once(tmp_path):
    for number, cell in enumerate([*make("mgpo", seeds=[1, 0]), *make("hart", seeds=[10, 2])]):
        write_cell(tmp_path / f"{number}.json", cell)
    assert [(cell.method, cell.seed) for cell in read_cells(tmp_path)] == [
        ("hart", 2),
        ("hart", 10),
        ("mgpo", 0),
        ("mgpo", 1),
    ]
    write_cell(tmp_path / "twice.json", make("hart", seeds=[2])[0])
    with pytest.raises(StudyError, match="hart@view, seed 2 is there twice"):
        read_cells(tmp_path)


def test_a_packed_study_is_the_files_and_always_the_same_bytes(tmp_path):
    cells = [*make("hart", seeds=[0, 1]), *make("mgpo", seeds=[0])]
    for number, cell in enumerate(cells):
        write_cell(tmp_path / f"{number}.json", cell)
    files = read_cells(tmp_path)
    pack(tmp_path / "one.gz", cells)
    pack(tmp_path / "other.gz", reversed(files))
    assert unpack(tmp_path / "one.gz") == files
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()
    for before, after in zip(cells, files, strict=True):
        assert after.measures["own/iog"] == pytest.approx(before.measures["own/iog"], abs=5e-5)


@given(st.lists(st.none() | st.floats(-10, 10), min_size=1, max_size=5), st.text(min_size=1))
@example([1.0], "a\u2028b")
def test_any_cell_survives_packing_twice(tmp_path, values, name):
    ids = tuple(f"{name}{index}" for index in range(len(values)))
    pack(tmp_path / "a.gz", [Cell(method=name, base="", seed=0, questions=ids, measures={"x/y": values})])
    (once,) = unpack(tmp_path / "a.gz")
    pack(tmp_path / "a.gz", [once])
    assert unpack(tmp_path / "a.gz") == [once]
    assert (once.method, once.questions) == (name, ids)


BROKEN = {"no gzip": b"no gzip", "no cell": gzip.compress(b"{}\n"), "cut off": gzip.compress(b'{"method"\n')[:-4]}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_pack(tmp_path, broken):
    (tmp_path / "study.gz").write_bytes(broken)
    with pytest.raises(StudyError, match=r"study\.gz, cell 1: .*Pack the study's cells again"):
        unpack(tmp_path / "study.gz")


def test_a_method_of_two_bases_needs_its_base():
    cells = [*make("hart", seeds=[0]), *make("hart", seeds=[0], base="prior"), *make("mgpo", seeds=[0])]
    assert [cell.base for cell in named(cells, "hart@prior")] == ["prior"]
    assert [cell.method for cell in named(cells, "mgpo")] == ["mgpo"]
    assert named(cells, "sft") == []
    with pytest.raises(StudyError, match="hart@prior or hart@view"):
        named(cells, "hart")
