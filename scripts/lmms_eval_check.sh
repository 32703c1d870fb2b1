#!/usr/bin/env bash
# Runs lmms-eval 0.7.3 (MIT) and `foveate eval` on the same local questions, and compares them answer by answer.
#
#   scripts/lmms_eval_check.sh [MODEL]     default: tiny; a run folder or checkpoint otherwise
#
# Status 0: the same answer to every question, by two protocols, and neither all right nor all wrong; the same from
# lmms-eval's cache and from two processes. It takes about two minutes on two cores. The first run makes an environment
# of its own, build/lmms-venv (1.8 GB; VENV=folder for another place), and later ones use it.
#
# lmms-eval's own requirements hold torchvision, which replaces a torch for the CPU by one for CUDA. So it is installed
# without them, beside what it needs for an image task with a local scorer.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$here/build/lmms-venv}
model=${1:-tiny}
if [ -e "$model" ]; then model=$(cd "$model" && pwd); fi

if [ ! -e "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" torch==2.13.0
    "${pip[@]}" -e "$here" pytest hypothesis
    "${pip[@]}" --no-deps lmms-eval==0.7.3
    "${pip[@]}" datasets evaluate loguru sacrebleu pytablewriter jsonlines tenacity openai python-dotenv
    touch "$venv/.installed"
fi

cd "$here"
FOVEATE_LMMS_MODEL=$model exec "$venv/bin/python" -m pytest -s -m slow tests/lmms/test_lmms_eval.py
