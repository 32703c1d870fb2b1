"""Replies in the styles of many models, and the boxes that each gives, in original pixels."""

import json
from pathlib import Path

import pytest

from foveate.protocols import parse_boxes

ROWS = [json.loads(line) for line in (Path(__file__).parent / "corpus" / "boxes.jsonl").open("rb")]


def test_the_corpus_is_large_and_names_each_reply_once():
    assert len(ROWS) >= 300
    assert len({(row["reply"], row["frame"], tuple(row["original"])) for row in ROWS}) == len(ROWS)
    assert sum(not row["boxes"] for row in ROWS) >= 100


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{row['style']}" for i, row in enumerate(ROWS)])
def test_each_reply(row):
    boxes, problem = parse_boxes(row["reply"], row["frame"], tuple(row["input"]), tuple(row["original"]))
    assert [box.corners for box in boxes] == [pytest.approx(tuple(corners)) for corners in row["boxes"]]
    assert problem == row["problem"]
