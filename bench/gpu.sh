#!/usr/bin/env bash
# Everything that is measured on one large card, in one command, within eight minutes; see bench/gpu.py.
#
#   bench/gpu.sh [--out FOLDER] [--seconds 460]     on a card
#   bench/gpu.sh --tiny                             the same in small on a processor: does it work?
#   bench/gpu.sh --list-wheels                      what a machine with torch and transformers must be given
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True} HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
exec "$python" bench/gpu.py "$@"
