from pathlib import Path

import pytest

from foveate.study.page import cells_beside, filled, tables_of
from foveate.study.plans import FULL
from foveate.study.results import StudyError, unpack

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"


def test_tables_are_put_in_their_places_and_the_rest_stays():
    page = "before\n<!-- table: a -->\nold\n<!-- end -->\nbetween <!-- end -->\n<!-- table: b c -->\n<!-- end -->after"
    made = {"a": "| new |", "b c": "| other |"}
    once = filled(page, made)
    assert once == (
        "before\n<!-- table: a -->\n\n| new |\n\n<!-- end -->\nbetween <!-- end -->\n"
        "<!-- table: b c -->\n\n| other |\n\n<!-- end -->after"
    )
    assert filled(once, made) == once


def test_a_table_that_there_is_not_is_named():
    with pytest.raises(StudyError, match=r"no table 'c'; there are: a"):
        filled("<!-- table: c -->\n<!-- end -->", {"a": ""})


def test_every_table_of_the_page_is_what_the_committed_cells_say():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, tables_of(FULL, unpack(cells_beside(PAGE)))) == page


def test_the_page_has_every_cell_of_the_study():
    cells = {(cell.method, cell.seed) for cell in unpack(cells_beside(PAGE))}
    assert cells == {(method.name, seed) for method in FULL.methods for seed in FULL.seeds}
    assert len(FULL.seeds) >= 5
