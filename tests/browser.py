"""A page in headless Chromium, driven over pipes by its own protocol; nothing but the browser is needed."""

import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-ipc-flooding-protection",  # else it passes over the address when that changes often
    "--hide-scrollbars",
)

_PATIENCE = 120
"""Seconds until a browser that says nothing is given up."""


class Browser:
    """One page.

    Attributes:
        complaints: what the console reported as errors, exceptions and refused content among it.
    """

    def __init__(self, sending: int, receiving: int) -> None:
        self._sending = sending
        self._messages = self._read(receiving)
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._loaded = 0
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._sending, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page: Path, hash: str = "") -> None:
        """Loads a file anew, whatever was open."""
        self.call("Page.navigate", url="about:blank")
        loaded = self._loaded
        while self._loaded == loaded:
            self._next()
        loaded = self._loaded
        self.call("Page.navigate", url=page.resolve().as_uri() + hash)
        while self._loaded == loaded:
            self._next()

    def evaluate(self, script: str) -> Any:
        """The value of an expression on the page; a promise's, once it has one."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = next(self._messages)
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded += 1
            case "Runtime.exceptionThrown":
                self.complaints.append(str(message["params"]["exceptionDetails"]))
            case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                self.complaints.append(message["params"]["entry"]["text"])
            case "Page.javascriptDialogOpening":
                self.complaints.append("a dialog opened")
        return message

    @staticmethod
    def _read(receiving: int) -> Iterator[dict[str, Any]]:
        held = b""
        while select.select([receiving], [], [], _PATIENCE)[0] and (got := os.read(receiving, 1 << 20)):
            *whole, held = (held + got).split(b"\0")
            yield from map(json.loads, whole)
        raise ConnectionError("the browser has gone, or hangs")


@contextmanager
def browser(folder: Path, *, width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A browser with its profile in `folder`, closed at the end."""
    assert CHROMIUM
    from_us, sending = map(_high, os.pipe())
    receiving, to_us = map(_high, os.pipe())
    flags = [*_FLAGS, f"--window-size={width},{height}", f"--user-data-dir={folder}", "--remote-debugging-pipe"]
    # It reads what it is told from descriptor 3 and answers on 4.
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{from_us} 4>&{to_us}', "bash", CHROMIUM, *flags],
        pass_fds=(from_us, to_us),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_us)
    os.close(to_us)
    try:
        yield Browser(sending, receiving)
    finally:
        process.terminate()
        process.wait()
        os.close(sending)
        os.close(receiving)


def _high(descriptor: int) -> int:
    """The same under a number that is in nobody's way."""
    other = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 30)
    os.close(descriptor)
    return other
