"""An endpoint: each question its own answer whatever happens on the way, and what cannot be mended said at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

import pytest
from PIL import Image
from tests.generators.chat_server import (
    CUT,
    DRIP,
    RESET,
    STALL,
    ChatServer,
    completion,
    picture,
    question,
    read,
    refusal,
    right,
    serving,
)

from foveate.context import Context, Sampled
from foveate.episodes import StopReason, run_episodes
from foveate.families import UnsupportedModelError
from foveate.generators import (
    Endpoint,
    EndpointError,
    EndpointGenerator,
    Prices,
    RecordedGenerator,
    Request,
    Sampling,
)
from foveate.generators.chat import chat_messages
from foveate.images import PixelBudget, View
from foveate.jsonl import read_rows
from foveate.protocols import Direct
from foveate.protocols.base import Completion, FinishReason, Usage
from foveate.regions import Box

GREEDY = Sampling(0.0, 16)


def view(number: int = 3) -> View:
    return View(picture(number), Box(0, 0, 56, 56), (56, 56))


def asked(number: int) -> Context:
    return Context.user(view(number), f"Add item {7 * number}.")


def generator(url: str, **options: object) -> EndpointGenerator:
    made = {"concurrency": 4, "timeout": 60.0, "first_backoff": 0.0, **options}
    return Endpoint(url=url, **made).generator("m")  # type: ignore[arg-type]


def one(server: ChatServer, **options: object) -> Completion:
    """The completion of one greedy request."""
    [[found]] = generator(server.url, **options).generate([Request(asked(3), (0,))], GREEDY)
    return found


@pytest.mark.parametrize("fault", [RESET, CUT, STALL, DRIP])
def test_a_connection_that_breaks_or_says_nothing_is_tried_again(fault):
    replies = [fault, completion("there")]
    server = ChatServer(answer=lambda body, attempt: replies[attempt - 1])
    with serving(server):
        assert one(server, timeout=0.3).text == "there"
    assert len(server.log) == 2


# --- what fails for good ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 422, 418])
def test_a_request_that_is_refused_fails_alone_and_is_not_tried_again(tmp_path, status):
    def answer(body: dict, attempt: int):
        found = read(body)
        return refusal(status, "image too\n large") if found == right(2) else completion(found)

    server = ChatServer(answer=answer)
    record = tmp_path / "replies.jsonl"
    with serving(server), RecordedGenerator(generator(server.url), record) as recorded:
        groups = run_episodes(map(question, range(5)), Direct(), recorded, sampling=GREEDY)
    assert [group.episodes[0].answer for group in groups] == [right(n) if n != 2 else None for n in range(5)]
    failed = groups[2].episodes[0]
    assert failed.stop is StopReason.FAILED
    expected = Completion((), (), f"HTTP {status}: image too large", FinishReason.FAILED)
    assert failed.turns[0].completion == expected
    assert len(server.log) == 5
    assert len(read_rows(record)) == 4


def test_a_request_that_fails_all_its_tries_fails_alone():
    server = ChatServer(
        answer=lambda body, attempt: refusal(500, "no") if read(body) == right(1) else completion(read(body))
    )
    with serving(server):
        made = generator(server.url, retries=2)
        replies = made.generate([Request(asked(number), (0,)) for number in range(3)], GREEDY)
    assert [reply.text for [reply] in replies] == [right(0), "HTTP 500: no (3 tries)", right(2)]
    assert [reply.finish_reason is FinishReason.FAILED for [reply] in replies] == [False, True, False]
    assert (made.spent.requests, made.spent.replies, made.spent.failed) == (5, 2, 1)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (refusal(401, "Incorrect API key provided: sk-secret"), r"HTTP 401: Incorrect .*\*\*\*\. Check the API key"),
        (refusal(402, "no credit"), "no credit left"),
        (refusal(403, "forbidden"), "HTTP 403: forbidden"),
        (refusal(404, "The model `m` does not exist"), "does not exist.*ends in /v1"),
        (refusal(405, "Method not allowed"), "ends in /v1"),
        (refusal(429, "You exceeded your current quota", code="insufficient_quota"), "quota"),
        ((429, {"Retry-After": "86400"}, b""), "asks to wait 86,400 seconds"),
    ],
)
def test_what_no_request_would_survive_ends_the_run_at_once(monkeypatch, reply, says):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = ChatServer(answer=lambda body, attempt: reply)
    with serving(server):
        made = generator(server.url)
        with pytest.raises(EndpointError, match=says) as raised:
            made.generate([Request(asked(number), (0,)) for number in range(40)], GREEDY)
    assert set(server.keys) == {"Bearer sk-secret"}
    assert len(server.log) <= 8  # those under way; none tried again
    assert server.url in str(raised.value)
    assert "'m'" in str(raised.value)
    assert "sk-secret" not in str(raised.value)


def test_a_403_about_one_request_of_many_fails_alone():
    server = ChatServer(
        answer=lambda body, attempt: refusal(403, "flagged") if read(body) == right(1) else completion(read(body))
    )
    with serving(server):
        replies = generator(server.url, concurrency=1).generate([Request(asked(n), (0,)) for n in range(3)], GREEDY)
    assert [reply.text for [reply] in replies] == [right(0), "HTTP 403: flagged", right(2)]


def test_where_nothing_listens_it_says_so_at_once():
    with serving(ChatServer()) as server:
        url = server.url
    with pytest.raises(EndpointError, match="Nothing answers there"):
        generator(url).generate([Request(asked(0), (0,))], GREEDY)


def test_an_endpoint_that_dies_ends_the_run_and_keeps_what_came(tmp_path):
    server = ChatServer(
        answer=lambda body, attempt: completion(read(body)) if len(server.log) <= 10 else refusal(503, "shutting down")
    )
    record = tmp_path / "replies.jsonl"
    with serving(server):
        made = generator(server.url, concurrency=1, retries=1, failures_in_a_row=5)
        with (
            RecordedGenerator(made, record) as recorded,
            pytest.raises(EndpointError, match=r"5 requests .*503"),
        ):
            recorded.generate([Request(asked(number), (0,)) for number in range(50)], GREEDY)
    assert len(read_rows(record)) == 10
    assert len(server.log) == 10 + 5 * 2


def test_requests_that_fail_alone_do_not_end_a_run_that_works():
    server = ChatServer(
        answer=lambda body, attempt: completion("yes") if len(server.log) == 1 else refusal(400, "too long")
    )
    with serving(server):
        made = generator(server.url, concurrency=1, failures_in_a_row=5)
        replies = made.generate([Request(asked(number), (0,)) for number in range(20)], GREEDY)
        assert [reply.finish_reason for [reply] in replies] == [FinishReason.END] + [FinishReason.FAILED] * 19
        new = generator(server.url, concurrency=1, failures_in_a_row=5)
        with pytest.raises(EndpointError, match=r"5 requests .*too long"):  # it never worked: no pictures, say
            new.generate([Request(asked(number), (0,)) for number in range(20)], GREEDY)


def test_ctrl_c_stops_at_once(monkeypatch):
    def interrupt(number: int) -> None:
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)

    server = ChatServer(answer=lambda body, attempt: STALL, before=interrupt)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with serving(server), pytest.raises(KeyboardInterrupt):
            # No reply ever comes, and no timeout: only the signal ends it.
            generator(server.url, timeout=3600.0).generate([Request(asked(n), (0,)) for n in range(99)], GREEDY)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(server.log) == 4


def test_who_stops_listening_stops_the_asking():
    closed = threading.Event()

    def wait(number: int) -> None:
        if number > 1:
            closed.wait()

    server, others = ChatServer(before=wait), set(threading.enumerate())
    with serving(server):
        arrivals = generator(server.url, concurrency=2).arriving([Request(asked(n), (0,)) for n in range(50)], GREEDY)
        assert next(arrivals).completion.text in {right(0), right(1)}
        arrivals.close()
        closed.set()
        for thread in set(threading.enumerate()) - others:
            if "(work)" in thread.name:
                thread.join()
    assert len(server.log) <= 3


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_messages_hold_texts_replies_and_the_very_pixels():
    noise = Image.effect_noise((84, 56), 90).convert("RGB")
    shown = View(noise, Box(0, 0, 84, 56), (84, 56))
    context = Context.user(shown, "where?", system="Be brief.").replied(Sampled((), "there"), view(4), "and?")
    system, first, said, second = chat_messages(context)
    assert system == {"role": "system", "content": "Be brief."}
    assert said == {"role": "assistant", "content": "there"}
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    assert second["content"][1] == {"type": "text", "text": "and?"}
    assert _pixels(first["content"][0]).tobytes() == noise.tobytes()
    [lossy] = [message for message in chat_messages(context, jpeg_quality=80) if message["role"] == "user"][:1]
    assert _pixels(lossy["content"][0]).format == "JPEG"
    assert _pixels(lossy["content"][0]).size == (84, 56)


def _pixels(part: dict) -> Image.Image:
    import base64
    import io

    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition("base64,")[2])))


def test_seeds_go_out_in_31_bits_and_only_where_something_is_drawn():
    server = ChatServer()
    seeds = (5, (1 << 62) + 9)
    with serving(server):
        made = generator(server.url, concurrency=1)
        made.generate([Request(asked(1), seeds)], Sampling(0.7, 9))
        made.generate([Request(asked(1), seeds)], Sampling(0.0, 9))
    drawn, greedy = server.bodies[:2], server.bodies[2:]
    assert [body["seed"] for body in drawn] == [5, 9]
    assert [(body["temperature"], body["max_tokens"], body["model"]) for body in drawn] == [(0.7, 9, "m")] * 2
    assert [("seed" in body, body["temperature"]) for body in greedy] == [(False, 0.0)] * 2


def test_parameters_that_the_server_does_not_take_are_left_out_from_then_on(caplog):
    def answer(body: dict, attempt: int):
        if "max_tokens" in body:
            return refusal(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
                param="max_tokens",
            )
        if "seed" in body:
            return (
                422,
                {"Content-Type": "application/json"},
                b'{"detail": "Unexpected fields in the request: {\'seed\'}"}',
            )
        if "temperature" in body:
            return refusal(400, "Unsupported value: 'temperature' does not support 0.5 with this model.")
        return completion("fine")

    server = ChatServer(answer=answer)
    with serving(server), caplog.at_level(logging.WARNING):
        made = generator(server.url, concurrency=1, retries=0)
        assert [[c.text for c in cs] for cs in made.generate([Request(asked(1), (1, 2))], Sampling(0.5, 9))] == [
            ["fine", "fine"]
        ]
    assert made.refused == ("max_tokens", "seed", "temperature")
    assert len(server.log) == 5
    assert server.bodies[-1]["max_completion_tokens"] == 9
    assert [record.getMessage().count("does not take") for record in caplog.records] == [1, 1, 1]


def test_a_context_that_is_too_long_is_not_taken_for_a_parameter_that_is_refused():
    said = "max_tokens is too large: 16. This model's maximum context length is 20 tokens."
    server = ChatServer(answer=lambda body, attempt: refusal(400, said))
    with serving(server):
        made = generator(server.url)
        [[reply]] = made.generate([Request(asked(1), (0,))], GREEDY)
    assert reply.finish_reason is FinishReason.FAILED
    assert (made.refused, len(server.log)) == ((), 1)


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    server = ChatServer(answer=lambda body, attempt: refusal(400, "key sk-very-secret is odd"))
    record = tmp_path / "replies.jsonl"
    with serving(server), caplog.at_level(logging.DEBUG):
        made = Endpoint(url=server.url, api_key_env="MY_KEY").generator("m")
        with RecordedGenerator(made, record) as recorded:
            [[reply]] = recorded.generate([Request(asked(1), (0,))], GREEDY)
    assert server.keys == ["Bearer sk-very-secret"]
    assert reply.text == "HTTP 400: key *** is odd"
    assert "sk-very" not in caplog.text + record.read_text() + made.identity + repr(made)


def test_the_family_and_the_key_are_guessed(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = ChatServer()
    with serving(server):
        endpoint = Endpoint(url=server.url + "/chat/completions", max_pixels=2048)
        made = endpoint.generator("Qwen/Qwen3-VL-8B-Instruct")
        made.generate([Request(asked(1), (0,))], GREEDY)
    assert made.family.name == "qwen3-vl"
    assert made.family.budget == PixelBudget(2048, 2048)
    assert server.keys == ["Bearer none"]
    hidden = Endpoint(url="https://me:word@host:9/v1/?key=sk-1").generator("m")
    assert hidden.url == "https://host:9/v1/"
    with pytest.raises(EndpointError, match="NO_SUCH_KEY"):
        Endpoint(url="http://localhost/v1", api_key_env="NO_SUCH_KEY").generator("m")
    with pytest.raises(UnsupportedModelError, match=r"qwen2\.5-vl"):
        Endpoint(url="http://localhost/v1", family="qwen").generator("m")


def test_without_the_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r'pip install "foveate\[endpoint\]"'):
        Endpoint(url="http://localhost/v1").generator("m")


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text", "reason"),
    [
        (completion(" 7 "), "7", FinishReason.END),
        (completion("7", "length"), "7", FinishReason.LENGTH),
        (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", FinishReason.END),  # type: ignore[arg-type]
        (completion(None, refusal="I cannot."), "I cannot.", FinishReason.END),
        (completion("7", reasoning_content="hm"), "7", FinishReason.END),
        (completion(None, "length", reasoning_content="hm"), "", FinishReason.LENGTH),
        (completion("half \ud800 pair"), "half ? pair", FinishReason.END),
    ],
    ids=["text", "length", "parts", "refusal", "reasoning", "only_reasoning", "surrogate"],
)
def test_what_a_reply_says(tmp_path, reply, text, reason):
    server = ChatServer(answer=lambda body, attempt: reply)
    with serving(server), RecordedGenerator(generator(server.url), tmp_path / "r.jsonl") as recorded:
        [[found]] = recorded.generate([Request(asked(3), (0,))], GREEDY)
    assert found == Completion((), (), text, reason, Usage(10, 3))


def test_a_reply_that_a_filter_withheld_fails_alone():
    server = ChatServer(answer=lambda body, attempt: completion(None, "content_filter"))
    with serving(server):
        assert one(server).text == "the reply was withheld: content_filter"
    assert len(server.log) == 1


def test_tokens_add_up_to_a_cost():
    server = ChatServer()
    with serving(server):
        made = generator(server.url)
        made.generate([Request(asked(number), (0, 1)) for number in range(5)], Sampling(1.0, 9))
    assert (made.spent.requests, made.spent.prompt_tokens, made.spent.completion_tokens) == (10, 100, 30)
    cost = Prices(prompt=2.0, completion=10.0).of(made.spent.prompt_tokens, made.spent.completion_tokens)
    assert cost == pytest.approx((100 * 2 + 30 * 10) / 1e6)
