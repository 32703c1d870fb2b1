"""The questions that a user names: a file, a benchmark, or procedural scenes. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from foveate.questions.benchmarks import load_named
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.questions.schema import Question

SCENES = "scenes"
"""As data: procedural scenes instead of a file."""
HELD_OUT_SEED = 1_000_000
"""Scenes that are evaluated on come from this seed and above, those trained on from the run's: never the same set."""


def load_data(data: str, *, seed: int = 0, length: int = 100_000) -> Sequence[Question]:
    """Questions of a file or folder, of a benchmark (`NAME` or `NAME:PATH`), or procedural scenes for `"scenes"`."""
    return Scenes(SceneConfig(), seed=seed, length=length) if data == SCENES else load_named(data)
