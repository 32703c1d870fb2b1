"""A server on loopback that speaks chat completions, answers from the picture and the text, and fails by a plan."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from PIL import Image

from foveate.questions.schema import Question

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


def picture(number: int) -> Image.Image:
    """A tiny picture that shows a number by its colour."""
    return Image.new("RGB", (56, 56), (number >> 8, number & 255, 77))


def question(number: int) -> Question:
    """Whoever answers must read the picture and the text: the answer is made of both."""
    return Question(
        id=f"q{number}", image=lambda: picture(number), text=f"Add item {7 * number}.", answer=right(number)
    )


def right(number: int) -> str:
    """The answer to a question."""
    return f"seen{number}told{7 * number}"


def read(body: dict[str, Any]) -> str:
    """What the server answers: from the last picture and the text beside it."""
    parts = body["messages"][-1]["content"]
    [url] = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    [text] = [part["text"] for part in parts if part["type"] == "text"]
    red, green, _ = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).getpixel((9, 9))
    told = re.search(r"item (\d+)", text)
    return f"seen{red * 256 + green}told{told and told[1]}"


def completion(text: str | None, finish: str = "stop", **message: object) -> Reply:
    """A reply as servers give it."""
    written = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(written).encode()


def refusal(status: int, message: str, **more: object) -> Reply:
    """An error as OpenAI gives it."""
    written = {"error": {"message": message, "type": "error", **more}}
    return status, {"Content-Type": "application/json"}, json.dumps(written).encode()


def _limited(**headers: str) -> Reply:
    status, there, body = refusal(429, "Rate limit reached")
    return status, {**there, **{name.replace("_", "-"): value for name, value in headers.items()}}, body


RESET, CUT, STALL, DRIP = "reset", "cut", "stall", "drip"
"""Faults below HTTP: the connection is reset, ends within the body, says nothing, or sends blanks for ever."""
FAULTS: dict[str, Callable[[], Reply | str]] = {
    "limit": lambda: _limited(retry_after="0"),
    "limit_ms": lambda: _limited(retry_after_ms="3"),
    "limit_date": lambda: _limited(retry_after=formatdate(0, usegmt=True)),
    "limit_bare": _limited,
    "broken": lambda: (500, {"Content-Type": "text/plain"}, b"Internal Server Error"),
    "busy": lambda: (503, {"Content-Type": "text/html"}, b"<html>upstream</html>"),
    "late": lambda: refusal(408, "Request timeout"),
    "conflict": lambda: refusal(409, "Conflict"),
    "truncated": lambda: (200, {"Content-Type": "application/json"}, completion("half")[2][:60]),
    "html": lambda: (200, {"Content-Type": "text/html"}, b"<html>Please log in</html>"),
    "empty": lambda: (200, {"Content-Type": "application/json"}, b""),
    "choiceless": lambda: (200, {"Content-Type": "application/json"}, b'{"choices": []}'),
    "malformed": lambda: (200, {"Content-Type": "application/json"}, b'{"choices": [{"message": 3}]}'),
    "list": lambda: (200, {"Content-Type": "application/json"}, b"[1]"),
    "inner": lambda: (200, {"Content-Type": "application/json"}, b'{"error": {"code": 502, "message": "upstream"}}'),
    "reset": lambda: RESET,
    "cut": lambda: CUT,
}
"""What may pass, but for the two that take a timeout each."""


@dataclass(frozen=True)
class Plan:
    """Which tries fail, and how: decided by the seed and the request alone, not by the order in which they come.

    Attributes:
        rate: share of the tries that fail.
        most: of a request's tries that may fail.
        stalls: share of the failures that are silence, which costs the client a timeout.
    """

    rate: float
    seed: int = 0
    most: int = 5
    stalls: float = 0.0

    def fault(self, reply: str, attempt: int) -> str | None:
        drawn = random.Random(f"{self.seed} {reply} {attempt}")
        if attempt > self.most or drawn.random() >= self.rate:
            return None
        return STALL if drawn.random() < self.stalls else drawn.choice(sorted(FAULTS))


@dataclass
class ChatServer:
    """Every request with what became of it.

    Attributes:
        answer: instead of `read` and the plan, where given: the reply or fault for a body and the number of its try.
        before: called with the number of the request, from 1, before it is answered.
        log: of each request, what it asked and what fault it met.
    """

    plan: Plan = field(default_factory=lambda: Plan(0.0))
    answer: Callable[[dict[str, Any], int], Reply | str] | None = None
    before: Callable[[int], None] = lambda number: None
    url: str = ""
    log: list[tuple[str, str | None]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    def reply(self, body: dict[str, Any], key: str | None) -> Reply | str:
        asked = read(body) if self.answer is None else json.dumps(body["messages"])
        with self.lock:
            self.attempts[asked] += 1
            attempt = self.attempts[asked]
            fault = None if self.answer else self.plan.fault(asked, attempt)
            self.log.append((asked, fault))
            self.bodies.append(body)
            self.keys.append(key)
            number = len(self.log)
        self.before(number)
        if self.answer:
            return self.answer(body, attempt)
        if fault is None:
            return completion(asked)
        return STALL if fault == STALL else FAULTS[fault]()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: apart, each reply would wait for an acknowledgement
    server: _Listener

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.chat.reply(body, self.headers.get("Authorization"))
        if reply == STALL:
            self.connection.recv(1)  # until the client gives up
            self.close_connection = True
        elif reply == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif reply == CUT:
            self._send(200, {"Content-Type": "application/json", "Content-Length": "500"}, b'{"choices": [{"mess')
            self.close_connection = True
        elif reply == DRIP:
            self._send(200, {"Content-Type": "application/json", "Content-Length": "1000000"}, b"")
            self.connection.settimeout(0.02)
            while True:
                self.wfile.write(b" ")
                self.wfile.flush()
                try:
                    if not self.connection.recv(1):
                        break
                except TimeoutError:
                    continue
        else:
            status, headers, content = reply
            self._send(status, {**headers, "Content-Length": str(len(content))}, content)

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    chat: ChatServer

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed or gave up


@contextmanager
def serving(chat: ChatServer) -> Iterator[ChatServer]:
    """The server, listening on loopback."""
    listener = _Listener(("127.0.0.1", 0), _Handler)
    listener.chat = chat
    chat.url = f"http://127.0.0.1:{listener.server_address[1]}/v1"
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
