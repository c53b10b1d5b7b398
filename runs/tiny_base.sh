#!/usr/bin/env bash
# Makes the tiny base model again, from nothing: s1kit/tiny/base, a Qwen2 of about 0.7 million parameters.
#
#   copying a short list in order    0.4M tokens   1 CPU minute     the first lookups form
#   copying lines in any order       1.0M tokens   3 CPU minutes    lookup by number becomes exact
#   steps and answers in chat form   4.8M tokens  14 CPU minutes    everything else, built on lookup
#
# One thread, seeded: the same machine gives the same file. What it read and can do lands in base/pretraining.json and
# base/README.md. It never reads a trace; see docs/tiny_model.md.
#
# The fine-tuned model that `s1kit ask` and `s1kit serve` use by default is the demo's own result:
#   s1kit run tiny
#   then copy the checkpoint under runs/tiny/train/ to s1kit/tiny/model/
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
exec "${PYTHON:-.venv/bin/python}" -m s1kit.tiny.base "${1:-s1kit/tiny/base}"
