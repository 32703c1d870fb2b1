"""A checkpoint of each family with Qwen2.5's own tokenizer, trained and asked as a person would, in small."""

import json
from pathlib import Path

from tests.pictures import marked
from typer.testing import CliRunner

from foveate.cli import app
from foveate.jsonl import read_rows

SMALL = (
    "rollout.group_size=2",
    "rollout.max_new_tokens=6",
    "optimisation.steps=1",
    "optimisation.questions_per_step=2",
    "optimisation.questions_per_update=2",
)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_train_then_ask(qwen_vlm, tmp_path: Path) -> None:
    """With what the model really samples: no valid box, so that only the KL term to the start is trained on."""
    qwen_vlm.save(tmp_path / "model")
    marked((300, 200)).save(tmp_path / "picture.png")
    rows = [{"image": "picture.png", "question": "What is red?", "answer": "7", "id": str(i)} for i in range(2)]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [word for setting in SMALL for word in ("--set", setting)]
    out = tmp_path / "run"
    run("train", "hart", "--model", tmp_path / "model", "--data", tmp_path / "my.jsonl", "--out", out, *settings)
    [metrics] = read_rows(out / "metrics.jsonl")
    assert metrics["sampler_difference"] < 1e-4
    assert run("ask", tmp_path / "picture.png", "What is red?", "--model", out, "--out", tmp_path / "drawn.png")
