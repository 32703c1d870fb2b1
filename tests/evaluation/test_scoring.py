"""What is written of a question is read back as it was."""

import json
from dataclasses import asdict

from tests.evaluation.folders import make_run

from foveate.evaluation.probes import Crops, Outcome, Probed
from foveate.evaluation.scoring import SCORED


def test_a_row_is_read_as_it_was_written(tmp_path):
    crops = Crops("ab", (((1.0, 2.5, 3.0, 4.0), (56, 28)),))
    rows = make_run(tmp_path / "a", 30, samples=2, hostile="\u2028", probed=False)
    rows += make_run(tmp_path / "b", 30, first=30)
    for row in rows:
        read = SCORED.validate_python(json.loads(json.dumps(row.to_json())))
        assert repr(read) == repr(row)  # so the types too, and what equality passes over
    probed = Probed("q", Outcome.FROM_CROP, {"unchanged": 1.0, "noise": None}, 0.25, True, False, crops)
    row = SCORED.validate_python(rows[0].to_json() | {"probed": asdict(probed)})
    assert repr(row.probed) == repr(probed)
