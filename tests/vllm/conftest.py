"""One engine for all: vLLM is made once a process. Without vLLM these tests are skipped (make test-vllm has it)."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from foveate.families import VLM, load
from foveate.generators.vllm import VLLMGenerator
from foveate.generators.weights import policy_tensors

MAX_PIXELS = 20_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if "tests/vllm/" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason="needs vLLM: make test-vllm"))


@pytest.fixture(scope="session")
def only_engine() -> VLLMGenerator:
    return VLLMGenerator(load(), max_pixels=MAX_PIXELS)


@pytest.fixture
def vlm() -> VLM:
    return load()


@pytest.fixture
def engine(only_engine: VLLMGenerator, vlm: VLM) -> VLLMGenerator:
    """With the embedded model's weights."""
    only_engine.update_weights(policy_tensors(vlm.model))
    return only_engine


def changed(vlm: VLM, part: str = "", factor: float = 1.1) -> VLM:
    """In place: as an update would, every weight whose name holds `part`."""
    with torch.no_grad():
        for name, parameter in vlm.model.named_parameters():
            if part in name:
                parameter.mul_(factor)
    return vlm
