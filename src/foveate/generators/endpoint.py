"""Generation by any server that speaks OpenAI's chat completions: vLLM, SGLang, transformers, OpenAI, gateways.

Left out: streaming (a reply is read when it is whole), logprobs and token ids (so it cannot train a policy).
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from foveate.context import Context
from foveate.families.presets import EndpointFamily
from foveate.generators.base import Arrival, Arrivals, Generator, Request, Sampling, in_order
from foveate.generators.chat import chat_messages, read_reply
from foveate.generators.faults import EndpointError, Remedy, RequestError, fault_of_status
from foveate.generators.pacing import Breaker, Pace, backoff
from foveate.generators.settings import Endpoint
from foveate.generators.spending import Account, Spent
from foveate.protocols.base import Completion, FinishReason

logger = logging.getLogger(__name__)

NO_KEY = "none"
"""Sent where a server of one's own wants no key: the client insists on one."""
LONGEST_WAIT = 600.0
"""Seconds. A server that asks for more (a daily limit is reached) is not waited for."""
_LIMITS = ("max_tokens", "max_completion_tokens")
"""Names of the limit on new tokens: everybody's, and that of OpenAI's reasoning models, which refuse the other."""
_MENDS = {
    401: "Check the API key.",
    402: "The account has no credit left.",
    403: "Check the API key, and what it may use.",
    404: "Check the URL, which mostly ends in /v1, and the model's name: URL/models lists those that are served.",
    405: "Check the URL, which mostly ends in /v1.",
    429: "The account's quota is used up.",
}
_GO_ON = "Replies that were recorded, if any, are kept."


class EndpointGenerator(Generator):
    """Asks an endpoint, one request per context and seed, several at a time.

    What may pass (a rate limit, a server's error, a broken connection, a reply that cannot be read) is asked again,
    with growing pauses or after the one that the server asks for. A request that cannot be answered becomes a
    completion that `FAILED`, with the reason as its text; only what concerns every request is raised. The seed goes
    out when decoding is not greedy. Optional parameters that the server refuses by name are left out from then on
    (`refused`).

    Args:
        endpoint: where it is, and how it is asked.
        model: as the server calls it.

    Attributes:
        model: as above.
        url: the endpoint's, without user, password and query: fit to be shown.

    Raises:
        ImportError: the client is not installed.
        EndpointError: the variable that was named for the key is not set.
        UnsupportedModelError: there is no such family.
    """

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        try:
            import openai
        except ImportError as error:
            raise ImportError('asking an endpoint needs its client: pip install "foveate[endpoint]"') from error
        self.model = model
        self.url = endpoint.shown_url
        self._how = endpoint
        self._family = endpoint.family_of(model)
        self._api_key = endpoint.api_key() or NO_KEY  # never written to a message or a file
        self._client = openai.OpenAI(
            base_url=endpoint.url, api_key=self._api_key, timeout=endpoint.timeout, max_retries=0
        )
        self._pace = Pace(endpoint.requests_per_minute)
        self._breaker = Breaker(endpoint.failures_in_a_row or max(20, 3 * endpoint.concurrency))
        self._account = Account()
        self._refused: set[str] = set()
        self._adapting = Lock()

    @property
    def family(self) -> EndpointFamily:
        """How the model is spoken to."""
        return self._family

    @property
    def identity(self) -> str:
        """The model, and what decides how it is shown pictures and asked; not the URL, which may change."""
        shown = "png" if self._how.jpeg_quality is None else f"jpeg {self._how.jpeg_quality}"
        return f"{self.model} {shown} {sorted(self._how.extra.items())}"

    @property
    def spent(self) -> Spent:
        """Requests and tokens so far."""
        return self._account.spent

    @property
    def refused(self) -> tuple[str, ...]:
        """Parameters that the server does not take. Without `temperature` decoding is as it likes: scores say so."""
        return tuple(sorted(self._refused))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Generator.generate`.

        Raises:
            EndpointError: the endpoint cannot answer at all.
        """
        return in_order(requests, self.arriving(requests, sampling))

    def arriving(self, requests: Sequence[Request], sampling: Sampling) -> Arrivals:
        """See `Generator.arriving`: each reply when it comes.

        Raises:
            EndpointError: the endpoint cannot answer at all.
        """
        jobs = deque(_jobs(requests, self._how.jpeg_quality))
        expected = len(jobs)
        arrivals: SimpleQueue[Arrival | BaseException] = SimpleQueue()
        stop = Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    try:
                        i, j, asked, seed = jobs.popleft()
                    except IndexError:
                        return
                    completion = self._answer(asked, seed, sampling, stop)
                    if completion is None:
                        return
                    arrivals.put(Arrival(i, j, completion))
            except BaseException as error:
                arrivals.put(error)

        # Daemons: whoever presses Ctrl-C does not wait for replies that are still on their way.
        threads = [Thread(target=work, daemon=True) for _ in range(min(self._how.concurrency, expected))]
        try:
            for thread in threads:
                thread.start()
            for _ in range(expected):
                arrival = arrivals.get()
                if isinstance(arrival, BaseException):
                    raise arrival
                yield arrival
        finally:
            stop.set()

    def _answer(self, asked: _Asked, seed: int, sampling: Sampling, stop: Event) -> Completion | None:
        """One sample, asked until it is answered or given up; None when `stop` was set meanwhile."""
        failed = 0
        while True:
            if not self._pace.take_turn(stop):
                return None
            sent = self._parameters(sampling, seed)
            try:
                completion = self._ask(asked.messages, sent)
            except RequestError as fault:
                if stop.is_set():
                    return None
                if self._adapted(fault, sent):
                    continue
                if fault.remedy is Remedy.STOP:
                    raise self._error(fault.reason, _MENDS.get(fault.status or 0, "")) from None
                failed += 1
                if fault.remedy is Remedy.ALONE or failed > self._how.retries:
                    return self._given_up(fault, failed)
                if fault.wait is not None:
                    if fault.wait > LONGEST_WAIT:
                        raise self._error(f"it asks to wait {fault.wait:,.0f} seconds ({fault.reason})") from None
                    self._pace.hold(fault.wait)
                if stop.wait(backoff(failed, self._how.first_backoff)):
                    return None
            else:
                self._breaker.succeeded()
                self._account.answered(completion.usage)
                return completion

    def _ask(self, messages: list[dict[str, Any]], sent: Mapping[str, Any]) -> Completion:
        """One try.

        Raises:
            RequestError: it failed.
        """
        import httpx2
        import openai

        self._account.asked()
        deadline = time.monotonic() + self._how.timeout
        body = bytearray()
        create = self._client.chat.completions.with_streaming_response.create
        try:
            # The client's own timeout is between two bytes: a server may keep a request alive for ever.
            with create(model=self.model, messages=messages, extra_body=self._how.extra, **sent) as response:  # type: ignore[arg-type]
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > deadline:
                        raise RequestError.again(f"no whole reply within {self._how.timeout:g} seconds")
                kind = response.headers.get("content-type", "")
        except openai.APIStatusError as error:
            answered = self._breaker.answered
            raise fault_of_status(
                error.status_code, error.response.headers, error.response.text, answered=answered
            ) from None
        except (openai.APITimeoutError, httpx2.TimeoutException):
            raise RequestError.again(f"no reply within {self._how.timeout:g} seconds") from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise self._connection_fault(error) from None
        return read_reply(bytes(body), kind)

    def _connection_fault(self, error: Exception) -> RequestError:
        root = list(_causes(error))[-1]
        reason = f"the connection failed: {str(root) or type(root).__name__}"
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return RequestError(Remedy.STOP, f"{reason}. Name its authority in SSL_CERT_FILE, or mend the URL")
            # Once it has answered, a server that is not there is one that is being started again.
            if isinstance(cause, (ConnectionRefusedError, socket.gaierror)) and not self._breaker.answered:
                return RequestError(Remedy.STOP, f"{reason}. Nothing answers there: start the server, or mend the URL")
        return RequestError.again(reason)

    def _parameters(self, sampling: Sampling, seed: int) -> dict[str, Any]:
        """How tokens are drawn, in the words that the server takes."""
        optional: dict[str, float] = {"temperature": sampling.temperature}
        if sampling.temperature > 0:
            optional["seed"] = seed & 0x7FFFFFFF  # some servers hold it in 32 bits
        limit = _LIMITS[_LIMITS[0] in self._refused]
        sent = {name: value for name, value in optional.items() if name not in self._refused}
        return {**sent, limit: sampling.max_new_tokens}

    def _adapted(self, fault: RequestError, sent: Mapping[str, Any]) -> bool:
        """Whether the fault was a parameter that is not sent from now on."""
        name = next((name for name in sent if fault.rejects(name)), None)
        if name is None or name == _LIMITS[-1]:  # without any limit a reply might have no end
            return False
        with self._adapting:
            if name not in self._refused:
                self._refused.add(name)
                logger.warning("%s does not take %r for %s: not sent any more", self.url, name, self.model)
        return True

    def _given_up(self, fault: RequestError, tries: int) -> Completion:
        self._account.failed()
        alone = fault.remedy is Remedy.ALONE
        if self._breaker.failed(alone=alone):
            raise self._error(f"{self._breaker.limit} requests in a row got no reply, the last one for: {fault.reason}")
        reason = fault.reason if alone else f"{fault.reason} ({tries} tries)"
        return Completion((), (), self._cleaned(reason), FinishReason.FAILED)

    def _error(self, reason: str, mend: str = "") -> EndpointError:
        said = (f"{self.url}, model {self.model!r}: {reason}", mend, _GO_ON)
        return EndpointError(self._cleaned(" ".join(f"{part.rstrip('. ')}." for part in said if part)))

    def _cleaned(self, text: str) -> str:
        """Without the key: servers quote it back."""
        return text if self._api_key == NO_KEY else text.replace(self._api_key, "***")


class _Asked:
    """A context and its messages, which the first thread that needs them makes, once for all samples."""

    def __init__(self, context: Context, jpeg_quality: int | None) -> None:
        self._context = context
        self._jpeg_quality = jpeg_quality
        self._messages: list[dict[str, Any]] | None = None
        self._making = Lock()

    @property
    def messages(self) -> list[dict[str, Any]]:
        with self._making:
            if self._messages is None:
                self._messages = chat_messages(self._context, self._jpeg_quality)
            return self._messages


def _jobs(requests: Sequence[Request], jpeg_quality: int | None) -> Iterator[tuple[int, int, _Asked, int]]:
    for i, request in enumerate(requests):
        asked = _Asked(request.context, jpeg_quality)
        for j, seed in enumerate(request.seeds):
            yield i, j, asked, seed


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
