"""A thousand questions of an endpoint that fails: each gets its own answer, once. Kills: `test_survives`."""

from __future__ import annotations

import pytest
from tests.generators.chat_server import STALL, ChatServer, Plan, question, right, serving

from foveate.episodes import run_episodes
from foveate.generators import Endpoint, EndpointGenerator, RecordedGenerator, Sampling
from foveate.jsonl import read_rows
from foveate.protocols import Direct

QUESTIONS = 1000


def patient(url: str) -> EndpointGenerator:
    return Endpoint(url=url, concurrency=16, timeout=1.0, first_backoff=0.001).generator("m")


@pytest.mark.parametrize(("percent", "seed"), [(5, 10), (30, 3)])
def test_a_thousand_questions_each_get_their_own_answer_once(tmp_path, percent, seed):
    server, record = ChatServer(Plan(percent / 100, seed=seed, stalls=0.005)), tmp_path / "replies.jsonl"
    with serving(server), RecordedGenerator(patient(server.url), record) as recorded:
        groups = run_episodes(
            map(question, range(QUESTIONS)), Direct(), recorded, sampling=Sampling(0.0, 16), at_once=250
        )
    met = [fault for _, fault in server.log if fault]
    assert len(met) > QUESTIONS * percent / 100 * 0.8
    assert STALL in met
    assert [group.episodes[0].answer for group in groups] == [right(number) for number in range(QUESTIONS)]
    rows = read_rows(record)
    assert len(rows) == len({row["key"] for row in rows}) == QUESTIONS
    assert {row["text"] for row in rows} == {right(number) for number in range(QUESTIONS)}
