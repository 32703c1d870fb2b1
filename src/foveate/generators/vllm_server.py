"""Rollouts by vLLM's own server, on other GPUs or machines (`foveate serve-rollouts`)."""

from __future__ import annotations

import base64
import io
import json
import queue
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request as HTTPRequest
from urllib.request import urlopen

from foveate.context import Context
from foveate.families.base import Family
from foveate.generators.base import Arrival, Request, Sampling
from foveate.generators.rollout import TESTED, RolloutError, RolloutGenerator, Weights
from foveate.generators.vllm import request_parameters
from foveate.generators.weights import WEIGHTS, save_weights
from foveate.images import View

IN_FLIGHT = 256
"""Requests that the server is working on; it batches them itself."""
PATIENCE = 1800.0
"""Seconds for one answer: a 7B model's weights take a minute to read."""


class VLLMServerGenerator(RolloutGenerator):
    """Asks a server for samples: token ids and PNG pictures go in, token ids and log-probs come out.

    Weights go through a file that both machines see.

    Args:
        family: of the model that the server runs.
        url: of the server, such as http://gpu-2:8000.
        shared_folder: for the weights, under the same path on both machines.

    Raises:
        RolloutError: no such server answers.
    """

    def __init__(self, family: Family, url: str, shared_folder: Path) -> None:
        super().__init__(family)
        self._url = url.rstrip("/")
        self._folder = shared_folder
        self._temperature: float | None = None  # whoever asked it before may have left another
        self._threads = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="rollouts")
        self._asked: set[Future[None]] = set()
        self._done: queue.SimpleQueue[Arrival | BaseException] = queue.SimpleQueue()
        self._call("/health", None)
        self._rpc("rollout_vision_base")

    def update_weights(self, weights: Weights) -> None:
        """See `RolloutGenerator.update_weights`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder.resolve() / WEIGHTS
        save_weights(weights, file)
        self._rpc("rollout_weights", str(file))
        self.reset_caches()
        self.loaded = True

    def reset_caches(self) -> None:
        """Has the server forget attention prefixes and vision features."""
        if not self._call("/reset_prefix_cache", {})["success"]:
            raise RolloutError(
                f"{self._url} did not drop its prefix cache: somebody else is asking it; give it one trainer"
            )
        self._call("/reset_encoder_cache", {})

    def _begin(self, sampling: Sampling) -> None:
        temperature = sampling.temperature or 1.0
        if temperature != self._temperature:
            self._rpc("rollout_temperature", str(temperature))
            self._temperature = temperature

    def _submit(self, number: int, request: Request, sampling: Sampling) -> None:
        body = {
            "token_ids": self._collapsed(request.context),
            "content_parts": [{"type": "image_url", "url": _data_url(view)} for view in request.context.views] or None,
            "return_token_ids": True,
        }
        for sample, seed in enumerate(request.seeds):
            parameters = request_parameters(self.family.eos_token_id, seed, sampling)
            asked = {**body, "sampling_params": parameters}
            self._asked.add(self._threads.submit(self._ask, number, sample, request.context, asked))

    def _ask(self, number: int, sample: int, context: Context, body: dict[str, Any]) -> None:
        try:
            reply = self._call("/inference/v1/generate", body)
            self._check_prompt(context, reply["prompt_token_ids"])
            (choice,) = reply["choices"]
            said = choice["logprobs"]["content"]
            if [entry["token_id"] for entry in said] != choice["token_ids"]:
                raise RolloutError(f"{self._url} gave log-probs of other tokens than it sampled")
            completion = self._completion(choice["token_ids"], [entry["logprob"] for entry in said])
            self._done.put(Arrival(number, sample, completion))
        except (KeyError, TypeError) as error:
            self._done.put(
                RolloutError(f"{self._url}/inference/v1/generate answered without {error}: is it vLLM {TESTED}?")
            )
        except BaseException as error:
            self._done.put(error)

    def _arrived(self) -> list[Arrival]:
        there: list[Arrival] = []
        while not there or not self._done.empty():
            found = self._done.get()
            if isinstance(found, BaseException):
                raise found
            there.append(found)
        self._asked = {asked for asked in self._asked if not asked.done()}
        return there

    def _abandon(self) -> None:
        for asked in self._asked:
            asked.cancel()
        for asked in self._asked:
            if not asked.cancelled():
                asked.exception()  # waits
        self._asked.clear()
        self._done = queue.SimpleQueue()

    def _rpc(self, method: str, *args: str) -> None:
        self._call("/collective_rpc", {"method": method, "args": args})

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        """GET where there is no body, else POST; what it answers, {} where that is nothing."""
        url = self._url + path
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(HTTPRequest(url, data, {"Content-Type": "application/json"}), timeout=PATIENCE) as answer:
                text = answer.read()
        except HTTPError as error:
            said = error.read().decode(errors="replace")[:500]
            raise RolloutError(f"{url} answered {error.code}: {said or error.reason}.{_mend(error.code)}") from error
        except (URLError, OSError) as error:
            raise RolloutError(
                f"no rollout server answers at {url} ({getattr(error, 'reason', error)}): start one with `foveate "
                "serve-rollouts`, and set setup.engine.url to where it listens"
            ) from error
        try:
            return json.loads(text) if text else {}
        except ValueError as error:
            raise RolloutError(
                f"{url} answered {text[:80]!r}, not JSON: is it a server of `foveate serve-rollouts`?"
            ) from error


def _data_url(view: View) -> str:
    buffer = io.BytesIO()
    view.image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _mend(code: int) -> str:
    if code in (403, 404):
        return " It is not a server of `foveate serve-rollouts`, which opens vLLM's paths for training."
    if code >= 500:
        return (
            " See what the server printed. Weights come under the same path on both machines "
            "(setup.engine.shared_folder)."
        )
    return " See setup.engine.max_length and setup.engine.max_images."
