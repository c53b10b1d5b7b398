#!/usr/bin/env bash
# Fine-tune a recipe on all cards of this machine: runs/train_node.sh s1k [key=value ...]
# The same command goes on where a killed training was, also on another number of cards.
set -euo pipefail
cards=${CARDS:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l)}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
# Fewer, larger segments: rows differ in length, and a fragmented cache is the usual out-of-memory.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
exec torchrun --standalone --nproc-per-node "$((cards > 0 ? cards : 1))" -m s1kit train "$@"
