"""Stands in for vLLM on the loopback: its paths, its shapes, and a copy of the policy behind them."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

from foveate.families import load
from foveate.families.base import Encoded
from foveate.generators.base import Sampling
from foveate.generators.local import LocalGenerator
from foveate.images import View
from foveate.regions import Box


class RolloutServer(ThreadingHTTPServer):
    """One policy; `bent` may change an answer before it goes out.

    Attributes:
        asked: every body, by path.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vlm = load()
        self.asked: list[tuple[str, Any]] = []
        self.bent: Callable[[str, Any], Any] = lambda path, answer: answer
        self._one_at_a_time = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: Any) -> Any:
        with self._one_at_a_time:
            self.asked.append((path, body))
            if path == "/collective_rpc" and body["method"] == "rollout_weights":
                new = load_file(body["args"][0])
                with torch.no_grad():
                    for name, parameter in self.vlm.model.named_parameters():
                        parameter.copy_(new[name])
            if path == "/inference/v1/generate":
                return self._sampled(body)
            return {"success": True} if path == "/reset_prefix_cache" else {}

    def _sampled(self, body: Any) -> Any:
        family, parameters = self.vlm.family, body["sampling_params"]
        views = [_seen(part["url"]) for part in body["content_parts"] or ()]
        ids: list[int] = []
        remaining = iter(views)
        for token in body["token_ids"]:
            placeholder = token == family.image_token_id
            ids += [token] * (family.feature_count(next(remaining)) if placeholder else 1)
        encoded = _encoded(family, ids, views)
        generator = LocalGenerator(self.vlm)
        sampling = Sampling(parameters["temperature"], parameters["max_tokens"])
        ((reply,),) = generator._run([encoded], [(parameters["seed"],)], sampling)
        said = [
            {"token_id": token, "logprob": logprob}
            for token, logprob in zip(reply.token_ids, reply.logprobs, strict=True)
        ]
        choice = {"index": 0, "token_ids": list(reply.token_ids), "logprobs": {"content": said}}
        return {"prompt_token_ids": ids, "choices": [choice]}


def _encoded(family: Any, ids: list[int], views: list[View]) -> Encoded:
    return Encoded(tuple(ids), family.positions(ids, views), family.collate_images(views))


def _seen(url: str) -> View:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.mode == "RGB"
    return View(image, Box(0, 0, *image.size), image.size)


class _Handler(BaseHTTPRequestHandler):
    server: RolloutServer

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _reply(self, body: Any) -> None:
        try:
            answer = self.server.bent(self.path, self.server.answer(self.path, body))
            status = 200
        except Refusal as refusal:
            status, answer = refusal.status, refusal.text
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


class Refusal(Exception):  # noqa: N818
    """An answer with another status."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status, self.text = status, text


@contextmanager
def serving() -> Iterator[RolloutServer]:
    server = RolloutServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
