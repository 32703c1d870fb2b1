"""The learning rate of each step, and how the optimizer steps."""

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from tests.models import random_vlm

from foveate.recipes import AdamW
from foveate.training.learner import Learner
from foveate.training.sharding import load_optimizer

VLM = random_vlm()


def rates(steps: int, **settings: object) -> list[float]:
    learner = Learner(VLM, AdamW.model_validate({"learning_rate": 1.0, **settings}), steps, Accelerator())
    found = []
    for step in range(steps):
        learner.begin(step)
        found.append(learner.optimizer.param_groups[0]["lr"])
    return found


def test_warm_up_then_constant_or_down_to_nearly_nothing() -> None:
    assert rates(6, warmup_steps=2) == [0.5, 1, 1, 1, 1, 1]
    assert rates(6, warmup_steps=2, schedule="linear") == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25])
    assert rates(4, schedule="linear") == [1, 0.75, 0.5, 0.25]


@given(steps=st.integers(1, 12), warmup=st.integers(0, 20), schedule=st.sampled_from(["constant", "linear"]))
def test_it_is_never_negative_nor_above_the_setting(steps: int, warmup: int, schedule: str) -> None:
    """Also when the warm-up is longer than the stage."""
    assert all(0 < rate <= 1 for rate in rates(steps, warmup_steps=warmup, schedule=schedule))


def test_on_a_cpu_it_steps_as_torch_does_by_default() -> None:
    learner = Learner(VLM, AdamW(), 1, Accelerator(cpu=True))
    assert [group["fused"] for group in learner.optimizer.param_groups] == [None]


def test_how_it_steps_is_not_taken_from_a_checkpoint() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    written, read = torch.optim.AdamW([weight], lr=0.5, fused=True), torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.ones(3)
    written.step()
    load_optimizer(read, written.state_dict())
    assert (read.param_groups[0]["fused"], read.param_groups[0]["lr"]) == (None, 0.5)
    torch.testing.assert_close(read.state[weight]["exp_avg"], written.state[weight]["exp_avg"])
