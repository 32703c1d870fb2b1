"""What is logged of rollouts: also what has fallen to zero."""

from __future__ import annotations

from tests.scripted import ScriptedGenerator, Traits, question

from foveate.episodes import Episode, run_episodes
from foveate.protocols import ZoomTool
from foveate.training.metrics import episode_metrics

CALL = '<tool_call>{"name": "crop", "arguments": {"bbox_2d": [112, 56, 168, 112]}}</tool_call>'


def episodes(*replies: list[str]) -> list[Episode]:
    groups = [
        run_episodes([question()], ZoomTool(), ScriptedGenerator(list(said), Traits()))[0].episodes for said in replies
    ]
    return [episode for group in groups for episode in group]


def test_a_tool_that_is_no_longer_called_shows_as_zero() -> None:
    called, not_called = [CALL, "\\boxed{B}"], ["\\boxed{B}"]
    assert episode_metrics(episodes(called, not_called))["boxes_per_episode"] == 0.5
    metrics = episode_metrics(episodes(not_called, not_called))
    assert metrics["boxes_per_episode"] == 0
    assert "valid_boxes" not in metrics, "no call was made that could have been valid"
