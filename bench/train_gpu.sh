#!/usr/bin/env bash
# Fine-tuning on one large card (H100, H200), in one command, under ten minutes: random weights in real shapes, against
# TRL's SFTTrainer where `pip install trl` has been done. Ends with what the measured efficiency means for s1-32B.
#
#   bench/train_gpu.sh [RESULTS.jsonl]
#
# Weights, gradients and optimiser states are bfloat16 in both trainers, as TRL loads them, so that 7B fits one card.
set -uo pipefail
cd "$(dirname "$0")/.."
results=${1:-build/train_gpu.jsonl}
mkdir -p "$(dirname "$results")"
: >"$results"
python=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
alone=$("$python" -c 'import trl' 2>/dev/null || echo --alone)
"$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "This needs a CUDA card."; exit 2; }

run() { # run NAME SECONDS ARGUMENTS...
  local name=$1 limit=$2
  shift 2
  echo "== $name"
  timeout "$limit" "$python" bench/train_throughput.py --steps 8 --warmup 3 --json "$results" "$@" 2>&1 |
    grep -E "tokens/s|losses|ratio|Error|error" || echo "failed or ran past $limit s"
}
layout() { echo "{\"master_dtype\": \"bfloat16\", \"activation_checkpointing\": \"$1\", \"compile\": $2}"; }
trl='{"per_device": 1, "accumulate": 8}'

run "1.5B, up to 8K"        70 --model qwen2.5-1.5b --length 8192 --batch-size 8 --micro-batch-tokens 16384 \
  --layout "$(layout selective false)" --trl "$trl" $alone
run "1.5B, up to 32K"       90 --model qwen2.5-1.5b --length 32768 --batch-size 8 --micro-batch-tokens 32768 \
  --layout "$(layout full false)" --trl "$trl" $alone
run "7B, up to 8K"         110 --model qwen2.5-7b --length 8192 --batch-size 8 --micro-batch-tokens 16384 \
  --layout "$(layout full false)" --trl "$trl" $alone
run "7B, up to 8K, selective, compiled" 100 --model qwen2.5-7b --length 8192 --batch-size 8 --micro-batch-tokens 8192 \
  --layout "$(layout selective true)" --alone
run "7B, up to 32K"        130 --model qwen2.5-7b --length 32768 --batch-size 8 --micro-batch-tokens 32768 \
  --layout "$(layout full false)" --trl "$trl" $alone
run "12 layers of 32B, up to 16K" 90 --model qwen2.5-32b --layers 12 --length 16384 --batch-size 8 \
  --micro-batch-tokens 16384 --layout "$(layout selective false)" --alone

"$python" - "$results" <<'PY'
import json, sys
from s1kit.recipe import load_recipe
from s1kit.train.estimate import estimate_train
rows = [json.loads(line) for line in open(sys.argv[1])]
stack = [r for r in rows if r["model"] == "qwen2.5-32b" and r["hfu"]]
if stack:
    hfu = stack[-1]["hfu"]
    print(f"== s1-32B on 16 H100 at the efficiency of the stack of 32B layers, {hfu:.2f}")
    print("\n".join(estimate_train(load_recipe("s1k", [f"train.layout.cluster.efficiency={min(hfu, 1):.3f}"]))))
PY
