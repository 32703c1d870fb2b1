import re

import pytest
from tests.study.cells import make

from foveate.study.claims import Claim, Comparison
from foveate.study.report import Group, Sweep, tables, write_report
from foveate.study.results import StudyError, pack, unpack

CELLS = [
    *make("hart", place=0.65),
    *make("hart-k0", place=0.4),
    *make("full", accuracy=0.8, place=0.2, seeds=[0, 1]),
    *make("hart", base="prior", place=0.5),
]
GROUPS = [Group("View leakage", ("hart@view", "hart-k0", "full", "mgpo"), note="The answer turn shows the full view.")]
SWEEPS = [Sweep("Over k", "own/iog30", "k", {"hart": {0.0: "hart-k0", 0.6: "hart@view", 0.9: "hart-k9"}})]
CLAIMS = [
    Claim(
        "b",
        "AP-GRPO | better boxes.",
        (
            Comparison("k = 0.6 against 0", "own/iog30", "hart@view", "hart-k0", 1),
            Comparison("the same on answers", "own/accuracy", "hart@view", "hart-k0", 0),
        ),
    ),
    Claim("c", "HART > MGPO.", (Comparison("HART against MGPO", "own/iog30", "hart@view", "mgpo", 1),)),
]


def written(tmp_path):
    return write_report(CELLS, CLAIMS, GROUPS, tmp_path, "foveate study", SWEEPS)


def rows(table):
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.splitlines()
        if line.startswith("|")
    ]


def test_all_that_is_written_is_found(tmp_path):
    text = written(tmp_path).read_text(encoding="utf-8")
    assert "`foveate study` at commit 1234abc: 17 cells, seeds 0, 1, 2, 3, 4, 120 held-out questions" in text
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(images) == len(set(images)) == 5
    assert all((tmp_path / image).is_file() for image in images)
    assert all(table in text for table in tables(CELLS, CLAIMS, GROUPS, SWEEPS).values())
    assert "nan" not in text.lower()


def test_the_same_cells_make_the_same_report(tmp_path):
    written(tmp_path / "one")
    written(tmp_path / "other")
    files = [
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in ("one", "other")
    ]
    assert files[0] == files[1]


def test_a_committed_study_gives_the_tables_of_its_page(tmp_path):
    pack(tmp_path / "study.gz", CELLS)
    committed = unpack(tmp_path / "study.gz")
    pack(tmp_path / "again.gz", committed)
    assert tables(unpack(tmp_path / "again.gz"), CLAIMS, GROUPS) == tables(committed, CLAIMS, GROUPS)


def test_what_is_missing_is_said():
    made = tables(CELLS, CLAIMS, GROUPS, SWEEPS)
    assert made["cells"].endswith("Missing: `full@view` seeds 2, 3, 4; `mgpo` altogether; `hart-k9` altogether.")
    assert rows(made["View leakage"])[-1][:2] == ["mgpo", "not run"]
    assert rows(made["Over k"])[-1][-1] == "not run"
    assert rows(made["comparisons"])[-1][-1] == "not run: there are no cells of mgpo"


def test_budgets_stand_beside_each_other():
    table = rows(tables(CELLS, [], [])["cells"])
    assert table[0] == [
        "method",
        "base",
        "seeds",
        "steps a seed",
        "rollouts a seed",
        "updates a seed",
        "seconds a seed",
    ]
    assert ["full", "view", "0, 1", "60", "7,680", "60", "50 to 51"] in table


def test_every_table_is_a_table():
    for table in tables(CELLS, CLAIMS, GROUPS, SWEEPS).values():
        assert len({len(row) for row in rows(table)}) == 1


def test_figures_have_their_intervals():
    head, _, hart, *_ = rows(tables(CELLS, [], GROUPS)["View leakage"])
    assert head[:5] == ["method", "right answers", "IoG > 0.3", "mean IoU", "box area"]
    assert hart[0] == "hart"
    assert all(re.fullmatch(r"-?\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\]", cell) for cell in [*hart[1:4], *hart[5:]])
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", hart[4])


def test_what_was_not_measured_is_a_dash():
    other = [Group("Closed loop", ("hart-k0",), way="loop")]
    assert set(rows(tables(CELLS, [], other)["Closed loop"])[-1][1:]) == {"-"}


def test_claims_and_comparisons():
    made = tables(CELLS, CLAIMS, GROUPS)
    assert r"AP-GRPO \| better boxes." in made["claims"]
    assert [row[2:] for row in rows(made["claims"])[2:]] == [
        ["**holds in part**", "1 hold, 1 undecided", "1 of 1"],
        ["**not run**", "1 not run", "-"],
    ]
    first = rows(made["comparisons"])[2]
    assert first[:4] == ["(b)", "k = 0.6 against 0", "`own/iog30`, hart@view less hart-k0", "> 0"]
    assert re.fullmatch(r"\+0\.\d\d \[\+0\.\d\d, \+0\.\d\d\]", first[4])
    assert (first[5], first[-1]) == ("5", "holds")


def test_what_is_opposite_is_said_beside_what_holds():
    other = Comparison("the wrong way round", "own/iog30", "hart-k0", "hart@view", 1)
    mixed = [Claim("b", "Both.", (CLAIMS[0].comparisons[0], other))]
    assert rows(tables(CELLS, mixed, [])["claims"])[-1][2:] == ["**holds in part**", "1 hold, 1 opposite", "1 of 2"]


def test_the_time_of_all_trainings_is_said(tmp_path):
    cells = [cell.model_copy(update={"training": {"seconds": 3600.0}}) for cell in make("hart")]
    assert "Training took 5.0 CPU hours in all" in write_report(cells, [], [], tmp_path, "").read_text(encoding="utf-8")


def test_nothing_to_report_on(tmp_path):
    with pytest.raises(StudyError, match="run the study first"):
        write_report([], CLAIMS, GROUPS, tmp_path, "foveate study")
