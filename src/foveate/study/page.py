"""A page of documentation whose tables are computed: `python -m foveate.study.page docs/evidence.md`.

What stands between `<!-- table: NAME -->` and `<!-- end -->` is replaced by that table of the full study's report, made
from the cells that are committed beside the page, as are the plots that the page shows. The rest is a person's.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from foveate.study.design import Study
from foveate.study.plans import FULL
from foveate.study.report import tables, write_report
from foveate.study.results import Cell, StudyError, pack, unpack
from foveate.study.run import cells_of

_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables_of(study: Study, cells: Sequence[Cell]) -> dict[str, str]:
    """The tables of a study's report by name."""
    return tables(cells, study.claims, study.groups, study.sweeps)


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with every table in its place.

    Raises:
        StudyError: it asks for a table that there is not.
    """

    def table(place: re.Match[str]) -> str:
        if place[2] not in made:
            raise StudyError(f"there is no table {place[2]!r}; there are: {', '.join(made)}")
        return f"{place[1]}\n{made[place[2]]}\n\n{place[3]}"

    return _PLACE.sub(table, page)


def cells_beside(page: Path) -> Path:
    """The committed cells of a page: `docs/evidence/cells.jsonl.gz` for `docs/evidence.md`."""
    return page.with_suffix("") / "cells.jsonl.gz"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m foveate.study.page", description="Fills in a page's tables.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--from", dest="study", type=Path, help="folder of a study whose cells are packed first")
    options = parser.parse_args()
    committed = cells_beside(options.page)
    if options.study:
        pack(committed, cells_of(FULL, options.study))
    cells, page = unpack(committed), options.page.read_text(encoding="utf-8")
    options.page.write_text(filled(page, tables_of(FULL, cells)), encoding="utf-8")
    with TemporaryDirectory() as folder:
        write_report(cells, FULL.claims, FULL.groups, folder, "foveate study", FULL.sweeps)
        (committed.parent / "plots").mkdir(exist_ok=True)
        for name in re.findall(rf"\({committed.parent.name}/(plots/\S+?\.svg)\)", page):
            shutil.copy(Path(folder, name), committed.parent / name)


if __name__ == "__main__":
    main()
