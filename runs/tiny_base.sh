#!/usr/bin/env bash
# Makes the tiny base model again, from nothing: s1kit/tiny/base, a Qwen2 of about 0.7 million parameters.
#
#   a short list three times over      0.3M tokens   1 CPU minute     the first lookups form
#   lines of a list in any order       0.9M tokens   2 CPU minutes    lookup by number becomes exact
#   lessons: steps, walks, chat form   4.5M tokens  12 CPU minutes    everything else, built on lookup
#   practice, with short questions     3.2M tokens   9 CPU minutes    easy questions are answered directly
#   first steps                        1.4M tokens   4 CPU minutes    walks begin from what the question states
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
exec "${PYTHON:-.venv/bin/python}" -m s1kit.tiny.pretrain "${1:-s1kit/tiny/base}"
