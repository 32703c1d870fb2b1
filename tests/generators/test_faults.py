"""How long to wait, and what a server says is wrong."""

from datetime import UTC, datetime
from threading import Event

import pytest

from foveate.generators.faults import Remedy, fault_of_status, retry_after
from foveate.generators.pacing import LONGEST_BACKOFF, Pace, backoff

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("status", [*range(400, 452), *range(500, 512), 529])
def test_what_is_done_about_a_status(status):
    stops = {401, 402, 404, 405}
    again = {408, 409, 429} | {code for code in range(500, 600)}
    expected = Remedy.STOP if status in stops else Remedy.AGAIN if status in again else Remedy.ALONE
    assert fault_of_status(status, {}, "", answered=True).remedy is expected


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"error": {"message": "too\\nbig"}}', "too big"),
        ('{"error": "too big"}', "too big"),
        ('{"detail": [{"loc": ["seed"]}]}', '[{"loc": ["seed"]}]'),
        ("<html>\x1b[31m no", "<html> [31m no"),
        ("x" * 9999, "x" * 300 + " ..."),
    ],
)
def test_what_a_server_says_is_one_short_line(body, says):
    assert fault_of_status(400, {}, body, answered=True).reason == f"HTTP 400: {says}"


@pytest.mark.parametrize("failed", [1, 2, 3, 7, 5000])
def test_pauses_double_within_their_bounds(failed):
    longest = min(LONGEST_BACKOFF, 0.5 * 2.0 ** min(failed - 1, 20))
    drawn = {backoff(failed, 0.5) for _ in range(50)}
    assert all(longest / 2 <= pause <= longest for pause in drawn)
    assert len(drawn) > 10


class Waits(Event):
    """Notes how long it was asked to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout=None) -> bool:
        self.seconds.append(timeout)
        return self.is_set()


def test_requests_are_spaced_evenly_and_held_back_together():
    pace, event = Pace(per_minute=60), Waits()
    assert all(pace.take_turn(event) for _ in range(4))
    assert event.seconds == pytest.approx([0, 1, 2, 3], abs=0.5)
    pace.hold(100)
    pace.hold(50)
    pace.take_turn(event)
    assert event.seconds[-1] == pytest.approx(100, abs=0.5)
    event.set()
    assert not pace.take_turn(event)


def test_without_a_limit_nothing_waits():
    pace, event = Pace(), Waits()
    assert all(pace.take_turn(event) for _ in range(9))
    assert set(event.seconds) == {0.0}
