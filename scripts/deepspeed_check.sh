#!/usr/bin/env bash
# Trains on two CPU processes by DeepSpeed's ZeRO-2, over gloo, and compares with one process.
#
#   scripts/deepspeed_check.sh
#
# The first run makes an environment of its own, build/deepspeed-venv (VENV=folder for another place), and later ones use
# it. DeepSpeed (Apache-2.0) compiles a part of itself when it is first used: a C++ compiler is needed.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$here/build/deepspeed-venv}

if [ ! -e "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" torch==2.13.0
    "${pip[@]}" -e "$here" pytest hypothesis deepspeed==0.19.8 ninja
    touch "$venv/.installed"
fi

cd "$here"
export PATH="$venv/bin:$PATH" DS_ACCELERATOR=cpu
"$venv/bin/python" -c "from deepspeed.comm.torch import build_shm_op; build_shm_op()" # once, before two want it at once
exec "$venv/bin/python" -m pytest -m slow tests/training/test_deepspeed.py
