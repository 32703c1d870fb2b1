"""Rollouts by vLLM in the trainer's own process, on the trainer's own device."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.context import Context
from foveate.families.base import VLM
from foveate.generators.base import Arrival, Request, Sampling
from foveate.generators.rollout import FORBIDDEN, TESTED, RolloutError, RolloutGenerator, Weights
from foveate.generators.weights import WEIGHTS, policy_tensors, save_weights

_PIXEL_ROUNDINGS = 16
"""Allowed between vLLM's and the trainer's pixels, in units of the precision's epsilon; they lie within 3 of 0."""
_WORKER = "foveate.generators.vllm_worker"


def engine_settings(vlm: VLM, max_pixels: int, max_images: int) -> dict[str, Any]:
    """Arguments of vLLM's engine that colocated and served rollouts share.

    Args:
        vlm: of which only the family is looked at.
        max_pixels: of the largest picture that will be shown, in pixels of the model's input.
        max_images: of one context.
    """
    family = vlm.family
    return {
        # Views come in sizes that the model takes: within these limits vLLM's processor resizes nothing.
        "mm_processor_kwargs": {"size": {"shortest_edge": family.multiple**2, "longest_edge": max_pixels}},
        "limit_mm_per_prompt": {"image": max_images, "video": 0},
        "additional_config": {FORBIDDEN: list(family.forbidden_token_ids())},
        "logits_processors": [f"{_WORKER}:ForbiddenTokens"],
        "worker_extension_cls": f"{_WORKER}.RolloutWorker",
        "logprobs_mode": "raw_logprobs",
        "generation_config": "vllm",  # the checkpoint's own would change the sampling
        "enable_prefix_caching": True,
    }


class VLLMGenerator(RolloutGenerator):
    """Samples with `vllm.LLM` in this process.

    The engine starts from a copy of the policy in a temporary folder, and gets its weights by `update_weights`.
    Pictures are given as they are shown; the first time that one comes, what vLLM makes of it is compared with what the
    trainer computes on.

    Args:
        vlm: the policy; not kept.
        max_pixels: of the largest picture that will be shown, in pixels of the model's input.
        max_images: of one context.
        max_length: positions of a sequence; as the configuration says where None.
        gpu_memory: the engine's share of the GPU's memory, its weights and caches; no meaning on a CPU.
        dtype: of its weights and computations.
        sleeps: whether `sleep` gives the memory back; vLLM can on a GPU only.

    Raises:
        RolloutError: vLLM is not installed.
    """

    def __init__(
        self,
        vlm: VLM,
        *,
        max_pixels: int,
        max_images: int = 16,
        max_length: int | None = None,
        gpu_memory: float = 0.3,
        dtype: torch.dtype = torch.float32,
        sleeps: bool = True,
    ) -> None:
        super().__init__(vlm.family)
        # In this process: weights are handed over as they are. And in a part of the machine, which the trainer shares.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        vllm = import_vllm()
        self._sleeps = sleeps and not on_cpu()
        self._asleep = False
        self._temperature = 1.0
        self._named = 0
        self._asked: dict[str, tuple[int, int]] = {}
        self._compared: set[str] = set()
        self._vllm = vllm
        self._folder = tempfile.TemporaryDirectory(prefix="foveate-vllm-")
        folder = Path(self._folder.name)
        save_for_engine(vlm, folder)
        self._llm = vllm.LLM(
            model=str(folder),
            dtype=str(dtype).removeprefix("torch."),
            max_model_len=max_length,
            gpu_memory_utilization=gpu_memory,
            enable_sleep_mode=self._sleeps,
            enforce_eager=on_cpu(),
            disable_log_stats=True,
            **engine_settings(vlm, max_pixels, max_images),
        )
        (folder / WEIGHTS).unlink()
        self._engine = self._llm.llm_engine
        self._llm.collective_rpc("rollout_vision_base")

    def update_weights(self, weights: Weights) -> None:
        """See `RolloutGenerator.update_weights`."""
        if self._asleep:
            self._llm.wake_up(tags=["weights"])
        self._llm.collective_rpc("rollout_weights", args=(((name, tensor.detach()) for name, tensor in weights),))
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        self.reset_caches()
        self.loaded = True

    def reset_caches(self) -> None:
        """Forgets attention prefixes and vision features. Pixels stay: they depend on no weight.

        Raises:
            RolloutError: requests are still running.
        """
        if not self._llm.reset_prefix_cache():
            raise RolloutError("vLLM did not drop its prefix cache: requests are still running")
        # The worker's features are gone with the weights; this tells the scheduler so.
        self._engine.reset_encoder_cache()

    def sleep(self) -> None:
        """See `RolloutGenerator.sleep`: the weights are discarded, since new ones will come."""
        if self._sleeps and not self._asleep:
            self._llm.sleep(level=2)
            self._asleep, self.loaded = True, False

    def _begin(self, sampling: Sampling) -> None:
        temperature = sampling.temperature or 1.0
        if temperature != self._temperature:
            self._llm.collective_rpc("rollout_temperature", args=(str(temperature),))
            self.reset_caches()
            self._temperature = temperature

    def _submit(self, number: int, request: Request, sampling: Sampling) -> None:
        context = request.context
        try:
            (prompt,) = self._engine.renderer.render_cmpl([self._prompt(context)])
            self._check_prompt(context, prompt["prompt_token_ids"])
            self._check_pixels(context, prompt)
            for sample, seed in enumerate(request.seeds):
                name = str(self._named)
                self._named += 1
                self._engine.add_request(name, prompt, self._parameters(seed, sampling))
                self._asked[name] = number, sample
        except (ValueError, self._vllm.exceptions.VLLMValidationError) as error:
            raise RolloutError(
                f"vLLM refused a context of {len(self.family.encode(context).token_ids)} tokens and "
                f"{len(context.views)} pictures: {error} See setup.engine.max_length and setup.engine.max_images."
            ) from error

    def _prompt(self, context: Context) -> dict[str, Any]:
        prompt: dict[str, Any] = {"prompt_token_ids": self._collapsed(context)}
        if context.views:
            prompt["multi_modal_data"] = {"image": [view.image for view in context.views]}
        return prompt

    def _parameters(self, seed: int, sampling: Sampling) -> Any:
        return self._vllm.SamplingParams(
            **request_parameters(self.family.eos_token_id, seed, sampling),
            output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )

    def _check_pixels(self, context: Context, prompt: Any) -> None:
        """That vLLM's processor makes of a picture what the trainer's makes, the first time that one comes."""
        if not context.views:
            return
        hashes, items = prompt["mm_hashes"]["image"], prompt["mm_kwargs"]["image"]
        for view, name, item in zip(context.views, hashes, items, strict=True):
            if name in self._compared or item is None:
                continue
            for key, own in self.family.collate_images([view]).items():
                if key in item and not same_pixels(item[key].data, own, self.family.image_processor):
                    raise RolloutError(
                        f"vLLM makes other {key} of a picture of {view.size[0]}x{view.size[1]} pixels than the "
                        "trainer: the checkpoint's image processor is not the one that vLLM loads, or transformers is "
                        "not a version that foveate was tested with (5.23)"
                    )
            self._compared.add(name)

    def _arrived(self) -> list[Arrival]:
        there: list[Arrival] = []
        while not there:
            for output in self._engine.step():
                reply = output.outputs[0]
                logprobs = [entry[token].logprob for token, entry in zip(reply.token_ids, reply.logprobs, strict=True)]
                number, sample = self._asked.pop(output.request_id)
                there.append(Arrival(number, sample, self._completion(reply.token_ids, logprobs)))
        return there

    def _abandon(self) -> None:
        self._engine.abort_request(list(self._asked))
        self._asked.clear()


def save_for_engine(vlm: VLM, folder: Path) -> None:
    """Writes a checkpoint that vLLM starts from: adapters merged in, configuration, tokenizer, image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(policy_tensors(vlm.model), folder / WEIGHTS)
    vlm.model.config.save_pretrained(folder)
    vlm.family.save(folder)


def same_pixels(theirs: Tensor, own: Tensor, processor: Any) -> bool:
    """Whether what vLLM feeds to a vision tower is what the trainer does, whatever their layout beyond the channels.

    Args:
        theirs: normalised as `own`, in perhaps another precision; or whole numbers up to 255, which vLLM's model
            normalises itself.
        own: (patches or pictures, channels and what follows); or anything else, to be equal.
        processor: with the means and deviations of the channels.
    """
    if theirs.numel() != own.numel():
        return False
    theirs = theirs.reshape(own.shape)
    if not own.is_floating_point():
        return bool((theirs == own).all())
    if theirs.is_floating_point():
        return float((theirs - own).abs().max()) <= _PIXEL_ROUNDINGS * torch.finfo(theirs.dtype).eps
    mean, std = (torch.tensor(values)[None, :, None] for values in (processor.image_mean, processor.image_std))
    channels = own.reshape(len(own), mean.shape[1], -1)
    return bool(((channels * std + mean) / processor.rescale_factor).round().reshape(own.shape).eq(theirs).all())


def request_parameters(eos_token_id: int, seed: int, sampling: Sampling) -> dict[str, Any]:
    """vLLM's sampling parameters of one sample. The temperature is in the engine's logits already."""
    return {
        "temperature": 1.0 if sampling.temperature else 0.0,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed,
        "logprobs": 0,  # of the sampled token alone
        "ignore_eos": True,  # of whatever else the checkpoint's files say
        "stop_token_ids": [eos_token_id],
        "detokenize": False,
    }


def on_cpu() -> bool:
    """Whether vLLM will run on the CPU: without compiling, and without sleep."""
    return not torch.cuda.is_available()


def import_vllm() -> Any:
    """The package, told to leave room for others where it is to run on a CPU.

    Raises:
        RolloutError: it is not installed.
    """
    if on_cpu():
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
    try:
        import vllm
    except ImportError as error:
        raise RolloutError(
            f"rollouts by vLLM need vLLM {TESTED}: pip install 'vllm=={TESTED}.*', then pip install 'foveate[train]' "
            f"again, on a machine with a GPU; for a CPU see docs/vllm.md ({error})"
        ) from error
    return vllm
