"""Rows on disk: whatever a crash leaves of the last one, those before it are read."""

import json
import os
from pathlib import Path

import pytest

from foveate.jsonl import append_rows, drop_rows_from, mend_rows, read_rows, replace_json, replace_rows

ROWS = [{"step": 0, "text": "déjà vu"}, {"step": 1, "text": "a\u2028b\x85c\nd"}, {"step": 2, "text": "日本"}]


def test_a_file_cut_anywhere_gives_the_rows_that_are_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, ROWS)
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        assert read_rows(path) == ROWS[: sum(end <= cut + 1 for end in ends)]  # a row is whole without its line's end


def test_a_broken_row_before_the_last_is_an_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_rows(path)


def test_rows_are_replaced_and_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    replace_rows(path, ROWS)
    drop_rows_from(path, 2)
    assert read_rows(path) == ROWS[:2]
    assert list(tmp_path.iterdir()) == [path]


def test_after_a_cut_anywhere_a_mended_file_takes_more_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    mend_rows(path)
    assert not path.exists()
    append_rows(path, ROWS)
    content = path.read_bytes()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        left = read_rows(path)
        mend_rows(path)
        append_rows(path, ROWS[:1])
        assert read_rows(path) == [*left, ROWS[0]]
        assert path.read_bytes().endswith(b"}\n")


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "figures.json"
    replace_json(path, {"a": 1, "where": tmp_path})
    assert json.loads(path.read_text()) == {"a": 1, "where": str(tmp_path)}
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace_json(path, [float("nan")])
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        replace_json(path, {"a": 2})
    assert json.loads(path.read_text())["a"] == 1


def test_json_goes_through_what_is_no_plain_file(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    link.symlink_to(target)
    replace_json(link, [1])
    assert link.is_symlink()
    assert json.loads(target.read_text()) == [1]
    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe, os.fdopen(writing, "w"):
        replace_json(Path(f"/dev/fd/{writing}"), [2])
        assert [next(pipe) for _ in range(3)] == ["[\n", "  2\n", "]\n"]
