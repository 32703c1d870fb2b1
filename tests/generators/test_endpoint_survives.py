"""A thousand questions, of an endpoint that fails and by a run that is killed: each gets its own answer, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.generators.chat_server import ChatServer, Plan, question, right, serving

from foveate.episodes import run_episodes
from foveate.families.presets import endpoint_family
from foveate.generators import EndpointGenerator, RecordedGenerator, Sampling
from foveate.jsonl import read_rows
from foveate.protocols import Direct

QUESTIONS = 1000


def patient(url: str) -> EndpointGenerator:
    return EndpointGenerator(url, "m", endpoint_family("generic"), concurrency=16, timeout=3.0, first_backoff=0.001)


@pytest.mark.parametrize("percent", [5, 15, 30])
def test_a_thousand_questions_each_get_their_own_answer_once(tmp_path, percent):
    server, record = ChatServer(Plan(percent / 100, seed=percent, stalls=0.02)), tmp_path / "replies.jsonl"
    with serving(server), RecordedGenerator(patient(server.url), record) as recorded:
        groups = run_episodes(
            map(question, range(QUESTIONS)), Direct(), recorded, sampling=Sampling(0.0, 16), at_once=250
        )
    met = [fault for _, fault in server.log if fault]
    assert len(met) > QUESTIONS * percent / 100 * 0.8
    assert [group.episodes[0].answer for group in groups] == [right(number) for number in range(QUESTIONS)]
    rows = read_rows(record)
    assert len(rows) == len({row["key"] for row in rows}) == QUESTIONS
    assert {row["text"] for row in rows} == {right(number) for number in range(QUESTIONS)}


def test_killed_ten_times_it_asks_nothing_again_that_was_answered(tmp_path):
    record, kills = tmp_path / "replies.jsonl", 10
    child: list[int] = []
    left = {97 * (kill + 1) + 13 * (kill % 3) for kill in range(kills)}  # numbers of requests, some within a fault

    def kill(number: int) -> None:
        if number in left:
            os.kill(child[-1], signal.SIGKILL)

    server = ChatServer(Plan(0.15, seed=9), before=kill)
    script = [sys.executable, str(Path(__file__).parent / "asking.py")]
    paths = [str(Path(__file__).parents[2]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (
        serving(server),
        subprocess.Popen(
            [*script, server.url, str(record), str(QUESTIONS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as asking,
    ):
        assert asking.stdin
        assert asking.stdout
        killed = 0
        while True:
            known = {row["text"] for row in read_rows(record)}
            before = len(server.log)
            asking.stdin.write("again\n")
            asking.stdin.flush()
            child.append(int(asking.stdout.readline()))
            status = int(asking.stdout.readline())
            assert known.isdisjoint(text for text, _ in server.log[before:])
            if status == 0:
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
            killed += 1
        asking.stdin.close()
    assert killed == kills
    rows = read_rows(record)
    assert len(rows) == len({row["key"] for row in rows}) == QUESTIONS
    assert {row["text"] for row in rows} == {right(number) for number in range(QUESTIONS)}
