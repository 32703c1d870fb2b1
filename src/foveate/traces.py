"""Episodes as rows of JSON, for people and viewers to look at later."""

from __future__ import annotations

from typing import Any

from foveate.episodes import Episode


def episode_record(episode: Episode) -> dict[str, Any]:
    """One episode as plain data. Boxes and points are in original pixels; pictures are named by the question's id."""
    return {
        "question": episode.question.id,
        "text": episode.question.text,
        "expected": episode.question.answer,
        "answer": episode.answer,
        "stop": episode.stop.value,
        "image_size": episode.image_size,
        "turns": [
            {
                "text": turn.completion.text,
                "tokens": turn.completion.tokens,
                "finish": turn.completion.finish_reason.value,
                "problem": turn.problem.value if turn.problem else None,
                "boxes": [list(box.corners) for box in turn.boxes],
                "points": [list(point.coordinates) for point in turn.points],
                "views": [
                    {"source": list(view.source.corners), "shown": list(view.size)} for view in turn.context.views
                ],
            }
            for turn in episode.turns
        ],
    }
