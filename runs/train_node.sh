#!/usr/bin/env bash
# Fine-tune a recipe on all cards of this machine: runs/train_node.sh s1k [key=value ...]
# The same command goes on where a killed training was, also on another number of cards.
# Without a card: CARDS=2 OMP_NUM_THREADS=1 runs/train_node.sh tiny     two processes on the processor
set -euo pipefail
cards=${CARDS:-$( (nvidia-smi --list-gpus 2>/dev/null || true) | wc -l)}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
# Fewer, larger segments: rows differ in length, and a fragmented cache is the usual out-of-memory.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$(test -x "$here/.venv/bin/python" && echo "$here/.venv/bin/python" || echo python3)}
exec "$python" -m torch.distributed.run --standalone --nproc-per-node "$((cards > 0 ? cards : 1))" -m s1kit train "$@"
