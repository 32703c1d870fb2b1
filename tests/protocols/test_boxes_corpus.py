"""Replies in the styles of many models, and the boxes that each gives, in original pixels."""

import pytest
from tests.protocols.corpora import name_of, rows_of

from foveate.protocols import parse_boxes

ROWS = rows_of("boxes")
NAMES = [name_of(row, "reply", "frame", "input", "original") for row in ROWS]


def test_the_corpus_is_large_and_names_each_reply_once():
    assert len(ROWS) >= 300
    assert len(set(NAMES)) == len(ROWS)
    assert sum(not row["boxes"] for row in ROWS) >= 100


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_each_reply(row):
    boxes, problem = parse_boxes(row["reply"], row["frame"], tuple(row["input"]), tuple(row["original"]))
    assert [box.corners for box in boxes] == [pytest.approx(tuple(corners)) for corners in row["boxes"]]
    assert problem == row["problem"]
