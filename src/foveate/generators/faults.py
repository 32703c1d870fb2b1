"""What can go wrong with one request to an endpoint, and what is to be done about it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

from foveate.errors import FoveateError

_LONGEST_REASON = 300
"""Characters of a server's explanation that are kept: some send a page of HTML, or the request itself."""
_REJECTED = re.compile(
    r"unsupported|not\W+support|unknown|unrecogni[sz]ed|unexpected|not\W+permitted|not\W+allowed|extra_forbidden"
    r"|invalid\W+(parameter|argument|field)",
    re.IGNORECASE,
)
_EXHAUSTED = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.IGNORECASE)


class EndpointError(FoveateError):
    """An endpoint that cannot answer at all: what is wrong is mended by a person, not by asking again."""


class Remedy(Enum):
    """What is to be done about a fault."""

    AGAIN = auto()
    """Ask again, later: it may pass."""
    ALONE = auto()
    """Give this request up: it would fail again, others need not."""
    STOP = auto()
    """Stop asking: every request would fail."""


class RequestError(Exception):
    """Why a request got no reply.

    Attributes:
        reason: for a person.
        wait: seconds that the server asks to wait; None where it does not say.
        status: of the HTTP response, where there was one.
        body: of it, as text.
    """

    def __init__(
        self, remedy: Remedy, reason: str, *, wait: float | None = None, status: int | None = None, body: str = ""
    ) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.reason = reason
        self.wait = wait
        self.status = status
        self.body = body

    @classmethod
    def again(cls, reason: str) -> RequestError:
        """One that may pass."""
        return cls(Remedy.AGAIN, reason)

    @classmethod
    def alone(cls, reason: str) -> RequestError:
        """One of this request only."""
        return cls(Remedy.ALONE, reason)

    def rejects(self, parameter: str) -> bool:
        """Whether the server says that it does not take a parameter of this name."""
        if self.status not in (400, 422):
            return False
        named = re.search(rf"\b{parameter}\b", self.body)
        return bool(named and _REJECTED.search(self.body))


def fault_of_status(status: int, headers: Mapping[str, str], body: str, *, answered: bool) -> RequestError:
    """The fault that an HTTP error tells of.

    Args:
        headers: looked up in small letters.
        answered: whether the endpoint has answered before. Then a 403 is about one request (gateways refuse pictures
            and texts so), otherwise about all.
    """
    reason = f"HTTP {status}: {_explanation(body)}"
    remedy = Remedy.ALONE
    if status in (408, 409, 429) or status >= 500:
        remedy = Remedy.STOP if status == 429 and _EXHAUSTED.search(body) else Remedy.AGAIN
    elif status in (401, 402, 404, 405) or (status == 403 and not answered) or status < 400:
        remedy = Remedy.STOP
    return RequestError(remedy, reason, wait=retry_after(headers), status=status, body=body)


def fault_in_body(body: Mapping[str, Any]) -> RequestError | None:
    """The fault that gateways tell of in the body of a response of status 200."""
    error = body.get("error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, Mapping) else None
    if isinstance(code, int) and 400 <= code < 600:
        return fault_of_status(code, {}, json.dumps(body), answered=True)
    return RequestError.again(f"the server sent an error: {_explanation(json.dumps(body))}")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a server asks to wait (`retry-after-ms`, or `retry-after` in seconds or as a date); never negative.

    None where it says nothing that can be read.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name) or "nan") / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        until = parsedate_to_datetime(headers.get("retry-after") or "")
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000"
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _explanation(body: str) -> str:
    """What the server says, on one line: the message within JSON, or the beginning of whatever it sent."""
    said: object = body
    try:
        said = json.loads(body)
        for name in ("error", "message", "detail"):
            if isinstance(said, Mapping) and said.get(name):
                said = said[name]
    except ValueError:
        pass
    text = said if isinstance(said, str) else json.dumps(said)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + " ..."
