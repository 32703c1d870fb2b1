"""DeepSpeed's ZeRO-2 on two processes against one process. `scripts/deepspeed_check.sh` makes an environment for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.training import distributed_worker as worker
from tests.training.test_distributed import FEW, SLOWLY, distance, launch, said, same_figures

from foveate.jsonl import read_rows
from foveate.training import CheckpointError, TrainingError
from foveate.training.checkpoints import checkpoints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("deepspeed"), reason="no deepspeed: see scripts/deepspeed_check.sh"),
]


def test_zero_2_does_what_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = {"settings": [*FEW, *SLOWLY, "optimisation.tokens_per_batch=300"]}
    worker.run(str(tmp_path / "one"), **planned)
    with monkeypatch.context() as launched:
        launched.setenv("ACCELERATE_USE_DEEPSPEED", "true")
        launched.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
        assert launch([planned | {"out": str(tmp_path / "two")}], tmp_path) == [0, 0], said(tmp_path)
    same_figures(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one/rollouts.jsonl").read_text() == (tmp_path / "two/rollouts.jsonl").read_text()
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-6
    assert len(read_rows(tmp_path / "two/metrics.jsonl")) == 2
    with pytest.raises(CheckpointError, match="kept by DeepSpeed"):
        worker.run(str(tmp_path / "two"), **planned, resume=True)


def test_what_it_cannot_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = {"settings": [*FEW], "out": str(tmp_path / "three")}
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    assert 0 not in launch([planned], tmp_path)
    assert "take its stage 1 or 2" in said(tmp_path)
    assert not checkpoints(tmp_path / "three/checkpoints")
    assert TrainingError.__name__ in said(tmp_path)
