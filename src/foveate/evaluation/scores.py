"""The score file: a figure with everything that it depends on, so that it can be compared and made again."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import foveate
from foveate.evaluation.runner import Evaluation
from foveate.jsonl import replace_json, replace_rows


def score_record(evaluation: Evaluation, *, model: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a score file holds.

    Harnesses differ by over ten points on the same model, so it has what makes them differ: the words of the prompts,
    pixel budgets, protocol, sampling, seed, the data's hash, and how many replies could not be read.

    Args:
        evaluation: any.
        model: name or folder of the checkpoint, as the user gave it.
        more: further facts about the run.
    """
    return {
        "model": model,
        "foveate": {"version": foveate.__version__, "commit": source_commit()},
        **evaluation.to_json(),
        **(more or {}),
    }


def write_scores(path: str | Path, evaluation: Evaluation, record: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes the score file, and beside it one line per question.

    Args:
        path: of the JSON file; the questions go to the same name with `.questions.jsonl`.
        evaluation: any.
        record: of it, as `score_record` makes it.

    Returns:
        The paths of both files.
    """
    scores = Path(path)
    questions = scores.with_suffix(".questions.jsonl")
    replace_json(scores, record)
    replace_rows(questions, (scored.to_json() for scored in evaluation.scored))
    return scores, questions


def source_commit() -> str | None:
    """The commit that this package is run from, with `+` when its files were changed; None outside a checkout."""
    package = Path(foveate.__file__).parent
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:  # installed into somebody else's checkout
        return None
    commit = _git(package, "rev-parse", "HEAD")
    return commit and commit + ("+" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
