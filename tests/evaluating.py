"""Evaluates a thousand questions at an endpoint, in a folder; as often as it is told to, each time in a new process.

    python -m tests.evaluating URL FOLDER QUESTIONS

For each line that it reads it forks a child that evaluates, writes the child's id, and its exit status when it has
ended: a child can be killed at any moment without importing everything anew for the next one.
"""

import gc
import os
import sys
from importlib import import_module
from pathlib import Path

from PIL import Image
from tests.generators.chat_server import question

from foveate.evaluation.runner import Evaluation, evaluate
from foveate.evaluations import writing_down
from foveate.generators import Endpoint, Sampling
from foveate.protocols import Direct

NEVER = 3600.0
"""Seconds: no reply is late on a busy machine."""


def evaluated(url: str, folder: Path, questions: int, *, timeout: float = NEVER) -> Evaluation:
    generator = Endpoint(url=url, timeout=timeout, first_backoff=0.001).generator("m")
    with writing_down(generator, folder, {"model": "m"}) as (asked, writing):
        result = evaluate(
            map(question, range(questions)),
            Direct(),
            asked,
            sampling=Sampling(0.0, 16),
            at_once=60,
            keep=0,
            folder=writing,
        )
        assert writing
        writing.finish(result.to_json(), result.failed)
    return result


if __name__ == "__main__":
    import_module("openai.resources.chat.completions")  # this and the next are else done at first use: by every child
    Image.init()
    gc.freeze()  # no child goes through what was there before it
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            evaluated(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
