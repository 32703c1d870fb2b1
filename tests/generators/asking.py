"""Asks a thousand questions of an endpoint, with a record; as often as it is told to, each time in a new process.

    python asking.py URL RECORD QUESTIONS

For each line that it reads it forks a child that asks, writes the child's id, and its exit status when it has ended:
a child can be killed at any moment without importing everything anew for the next one.
"""

import os
import sys
from pathlib import Path

from tests.generators.chat_server import question

from foveate.episodes import run_episodes
from foveate.families.presets import endpoint_family
from foveate.generators import EndpointGenerator, RecordedGenerator, Sampling
from foveate.protocols import Direct

NEVER = 3600.0
"""Seconds: no reply is late on a busy machine."""


def ask(url: str, record: Path, questions: int) -> None:
    generator = EndpointGenerator(
        url, "m", endpoint_family("generic"), concurrency=8, timeout=NEVER, first_backoff=0.001
    )
    with RecordedGenerator(generator, record) as recorded:
        run_episodes(map(question, range(questions)), Direct(), recorded, sampling=Sampling(0.0, 16), at_once=200)


if __name__ == "__main__":
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            ask(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
