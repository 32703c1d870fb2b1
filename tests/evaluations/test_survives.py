"""A thousand questions, at an endpoint that fails and by a program that is killed: each answered and counted once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.evaluating import evaluated
from tests.generators.chat_server import STALL, ChatServer, Plan, right, serving

from foveate.jsonl import read_rows

QUESTIONS = 1000


def every_question_once(folder: Path) -> None:
    rows = read_rows(folder / "questions.jsonl")
    assert sorted(row["id"] for row in rows) == sorted(f"q{number}" for number in range(QUESTIONS))
    assert all(row["attempts"][0]["answer"] == right(int(row["id"][1:])) for row in rows)
    assert all(row["attempts"][0]["right"] for row in rows)
    scores = json.loads((folder / "scores.json").read_text())
    assert (scores["summary"]["questions"], scores["summary"]["accuracy"], scores["failed"]) == (QUESTIONS, 1.0, 0)


@pytest.mark.parametrize(("percent", "seed"), [(5, 10), (30, 3)])
def test_at_an_endpoint_that_fails(tmp_path, percent, seed):
    server = ChatServer(Plan(percent / 100, seed=seed, stalls=0.005))
    with serving(server):
        result = evaluated(server.url, tmp_path, QUESTIONS, timeout=1.0)
    met = [fault for _, fault in server.log if fault]
    assert len(met) > QUESTIONS * percent / 100 * 0.8
    assert len(set(met)) >= 6
    assert STALL in met
    assert [scored.id for scored in result.scored] == [f"q{number}" for number in range(QUESTIONS)]
    every_question_once(tmp_path)


def test_by_a_program_that_is_killed_ten_times(tmp_path):
    moments = set(random.Random(4).sample(range(20, QUESTIONS), 10))
    child: list[int] = []

    def kill(number: int) -> None:
        if number in moments:
            os.kill(child[-1], signal.SIGKILL)

    server = ChatServer(Plan(0.15, seed=9), before=kill)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with (
        serving(server),
        subprocess.Popen(
            [sys.executable, "-m", "tests.evaluating", server.url, str(tmp_path), str(QUESTIONS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as evaluating,
    ):
        assert evaluating.stdin
        assert evaluating.stdout
        killed, status = 0, -1
        while status:
            answered = {row["text"] for row in read_rows(tmp_path / "replies.jsonl")}
            before = len(server.log)
            evaluating.stdin.write("again\n")
            evaluating.stdin.flush()
            child.append(int(evaluating.stdout.readline()))
            status = int(evaluating.stdout.readline())
            assert answered.isdisjoint(text for text, _ in server.log[before:]), "an answered question was asked again"
            killed += status != 0
            assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        evaluating.stdin.close()
    assert killed == len(moments)
    every_question_once(tmp_path)
