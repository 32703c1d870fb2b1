"""The class that lmms-eval makes. Importing it needs lmms-eval 0.7."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from foveate.generators import LocalGenerator
from foveate.lmms.asking import Asker
from foveate.lmms.options import Options
from foveate.lmms.requests import TaskRequest
from foveate.runs import load_policy


class Foveate(lmms):  # type: ignore[misc]  # lmms-eval ships no types
    """Runs the image tasks of lmms-eval as episodes: crops from the task's own picture, of which only the answer's
    reply is returned.

    Args:
        arguments: those of `Options`, from `--model_args`, `--batch_size` and `--device`.

    Raises:
        OptionsError: an argument that cannot be used.
    """

    is_simple = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        options = Options.of(arguments)
        recipe = options.resolved()
        vlm = load_policy(options.pretrained, dtype=getattr(torch, options.dtype))
        self.device = torch.device(options.device or _usual_device())
        torch.nn.Module.to(vlm.model, self.device)  # transformers' own is mistyped
        self._asker = Asker(
            LocalGenerator(vlm),
            vlm.family.decode,
            recipe.build_protocol(vlm.family.budget),
            max_new_tokens=recipe.rollout.max_new_tokens,
            batch_size=options.batch_size,
            seed=options.seed,
            traces=_traces_of_rank(options.traces),
        )

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """The answer turn's reply to each request, with the tokens that all turns of its episode sampled."""
        with tqdm(total=len(requests), desc="foveate", disable=self.rank != 0) as bar:
            replies = self._asker.ask([self._request(one) for one in requests], on_progress=bar.update)
        return [GenerationResult(text, TokenCounts(output_tokens=tokens)) for text, tokens in replies]

    def _request(self, instance: Instance) -> TaskRequest:
        _, doc_to_messages, gen_kwargs, doc_id, task, split = instance.args
        docs = self.task_dict[task][split]
        return TaskRequest(task, split, doc_id, lambda: doc_to_messages(docs[doc_id]), gen_kwargs)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refused: an episode writes its answer."""
        raise NotImplementedError("foveate writes its answers: choose a task, or a variant, of type generate_until")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refused: a task's rounds would have to share one context with the protocol's own turns."""
        raise NotImplementedError("foveate cannot be asked in rounds: choose a task of type generate_until")


def _usual_device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def _traces_of_rank(traces: Path | None) -> Path | None:
    """Every process writes to its own folder where there are several: their lines would mix."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return traces / f"rank-{os.environ.get('RANK', '0')}" if traces and several else traces
