#!/usr/bin/env bash
# Fine-tuning on one large card (H200, or an H100 for the smaller ones), in one command, under ten minutes: random weights
# in real shapes, against TRL's SFTTrainer where `pip install trl` has been done. The most telling runs come first; a run that
# fails or would pass the ten minutes is left out and said. Ends with what the measured efficiency means for s1-32B.
#
#   bench/train_gpu.sh [RESULTS.jsonl]
#   bench/train_gpu.sh --tiny              the same runs in small on a processor: does the script work?
#
# Weights, gradients and optimiser states are bfloat16 in both trainers, as TRL loads them, so that 7B fits one card.
# TRL has no selective checkpointing and no rows of several samples: it recomputes everything, a sample at a time.
set -uo pipefail
cd "$(dirname "$0")/.."
tiny=() budget=570
if [ "${1:-}" = --tiny ]; then tiny=(--shrink 64) budget=3600; shift; fi
results=${1:-build/train_gpu.jsonl}
mkdir -p "$(dirname "$results")"
: >"$results"
python=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True} HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
weights=$(mktemp -d) # up to 34 GB: each shape is drawn once and used by several runs
trap 'rm -rf "$weights"' EXIT
has() { "$python" -c "import $1" 2>/dev/null; }
alone=--alone
if has trl; then alone=; else echo "TRL is not installed: s1kit alone"; fi
if [ ${#tiny[@]} = 0 ]; then
  "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "This needs a CUDA card."; exit 2; }
fi

run() { # run NAME SHAPE SECONDS ARGUMENTS...; SHAPE names the folder of the weights
  local name=$1 shape=$2 limit=$3 left=$((budget - SECONDS))
  shift 3
  [ ${#tiny[@]} = 0 ] || limit=600
  echo "== $name"
  if [ "$left" -lt 45 ]; then echo "left out: the ten minutes are over"; return; fi
  timeout "$((limit < left ? limit : left))" "$python" bench/train_throughput.py --warmup 2 --json "$results" \
    --weights "$weights/$shape" "${tiny[@]}" "$@" >"$weights/log" 2>&1
  local status=$?
  grep -E "tokens/s|time:|losses|ratio|attention" "$weights/log"
  # 1 is the losses' disagreement, which is printed.
  if ! grep -q "tokens/s" "$weights/log"; then
    if [ $status = 124 ]; then echo "ran past $limit s"; else tail -n 3 "$weights/log"; fi
  fi
}
layout() { echo "{\"master_dtype\": \"bfloat16\", \"activation_checkpointing\": \"$1\", \"compile\": $2, \"fp8\": ${3:-false}}"; }
trl() { echo "{\"per_device\": 1, \"accumulate\": $1}"; }

# What each should take on an H200 at 45 % of the peak, both trainers, with start and weights: in brackets, seconds.
run "7B, up to 8K (95)" 7b 130 --model qwen2.5-7b --length 8192 --batch-size 8 --steps 4 --micro-batch-tokens 16384 \
  --layout "$(layout selective false)" --trl "$(trl 8)" --profile $alone
run "7B, up to 8K, nothing recomputed, compiled (85)" 7b 120 --model qwen2.5-7b --length 8192 --batch-size 8 --steps 4 \
  --micro-batch-tokens 8192 --layout "$(layout none true)" --profile --alone
run "12 layers of 32B, up to 16K, compiled (90)" 32b 120 --model qwen2.5-32b --layers 12 --length 16384 --batch-size 4 \
  --steps 5 --micro-batch-tokens 16384 --layout "$(layout selective true)" --profile --alone
rm -rf "$weights/32b"
run "7B, up to 32K (95)" 7b 130 --model qwen2.5-7b --length 32768 --batch-size 2 --steps 4 --micro-batch-tokens 32768 \
  --layout "$(layout full false)" --trl "$(trl 2)" $alone
if [ ${#tiny[@]} = 0 ] && has torchao; then
  run "7B, up to 8K, float8, compiled (80)" 7b 100 --model qwen2.5-7b --length 8192 --batch-size 8 --steps 4 \
    --micro-batch-tokens 16384 --layout "$(layout selective true true)" --alone
fi
rm -rf "$weights/7b"
run "1.5B, up to 8K (45)" 1.5b 70 --model qwen2.5-1.5b --length 8192 --batch-size 8 --steps 5 --micro-batch-tokens 16384 \
  --layout "$(layout selective false)" --trl "$(trl 8)" $alone
run "1.5B, up to 32K (55)" 1.5b 80 --model qwen2.5-1.5b --length 32768 --batch-size 4 --steps 4 \
  --micro-batch-tokens 32768 --layout "$(layout full false)" --trl "$(trl 4)" $alone

"$python" - "$results" <<'PY'
import json, sys
from s1kit.recipe import load_recipe
from s1kit.train.estimate import estimate_train
rows = [json.loads(line) for line in open(sys.argv[1])]
best = max((r for r in rows if r["model"] == "qwen2.5-7b" and r["trainer"] == "s1kit"), key=lambda r: r["mfu"], default=None)
if best and best["mfu"]:
    print(f"== the best MFU at 7B: {best['mfu']:.3f}, up to {best['length']} tokens, {best['layout']} (goal 0.55)")
stack = [r for r in rows if r["model"] == "qwen2.5-32b" and r["trainer"] == "s1kit"]
if stack:
    hfu = stack[-1]["hfu"] or 0.5  # a processor has no peak: the arithmetic is tried with a figure that is none
    print(f"== s1-32B on 16 H100 at the efficiency of the stack of 32B layers, {hfu:.2f} (goal: below 10 minutes and $6)")
    print("\n".join(estimate_train(load_recipe("s1k", [f"train.layout.cluster.efficiency={min(hfu, 1):.3f}"]))))
PY
echo "== done in $SECONDS s"
