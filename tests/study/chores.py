"""What the processes of tests do: nothing that takes long to import."""

import os
import signal
import time
from pathlib import Path

from foveate.errors import FoveateError


def write(path: str) -> None:
    Path(path).write_text(f"{os.environ['OMP_NUM_THREADS']} {os.getpid()}", encoding="utf-8")


def refuse() -> None:
    raise FoveateError("the file is spoilt: delete it")


def stumble() -> None:
    raise KeyError("nothing")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait(begun: str, tidied: str) -> None:
    try:
        write(begun)
        time.sleep(600)
    finally:
        write(tidied)
