"""Processes that were launched together: what one that is alone leaves as it is."""

from __future__ import annotations

from pathlib import Path

import torch

from foveate.training.processes import end


def test_the_group_of_an_engine_in_a_process_alone_is_left_to_the_engine(tmp_path: Path) -> None:
    """vLLM in the trainer's process ends its own when Python ends, and fails where it is gone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/met", rank=0, world_size=1)
    try:
        end()
        assert torch.distributed.is_initialized()
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
