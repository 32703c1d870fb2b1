"""Scenes as an ordinary data set: JSONL and PNG."""

from __future__ import annotations

import json
from pathlib import Path

from foveate.images import open_image
from foveate.questions.scenes.config import SceneConfig
from foveate.questions.scenes.scene import scene
from foveate.questions.schema import row_of


def export(config: SceneConfig, n: int, seed: int, directory: str | Path) -> Path:
    """Writes scenes 0 to n - 1 of set `seed`; an earlier export in the same directory is overwritten.

    Returns:
        The written `questions.jsonl`; `load_questions` reads it back. Pictures lie in `images/` beside it.
    """
    folder = Path(directory)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / "questions.jsonl"
    with path.open("w", encoding="utf-8") as lines:
        for index in range(n):
            question = scene(config, seed, index)
            picture = f"images/{question.id}.png"
            open_image(question.image).save(folder / picture, compress_level=1)
            lines.write(json.dumps(row_of(question, picture), ensure_ascii=False) + "\n")
    return path
