import json
import sys

import pytest

from foveate.bench import reading


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_locating_turn_and_three_crops_take_one_decode(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "SIZE", (1920, 1080))
    monkeypatch.setattr("foveate.episodes.HELD_PIXELS", 4 * 1920 * 1080)
    shown = []
    said = reading._Script._said

    def watching(self, request):
        shown.append(sum(view.cropped for view in request.context.views))
        return said(self, request)

    monkeypatch.setattr(reading._Script, "_said", watching)
    reading.main(quick=True, json_path=tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["decodes"] for row in rows] == [row["questions"] for row in rows]
    assert rows[-1]["questions"] == 60
    assert sorted(shown) == [0] * 60 + [3] * 60
    assert all(row["resident_mib"] <= row["peak_mib"] + 1 for row in rows)
    assert "1920 x 1080" in capsys.readouterr().out
