#!/usr/bin/env bash
# Forced against plain decoding, and against s1's rounds, on one card: random weights in the shapes of Qwen2.5-1.5B and
# 7B through transformers, and how near each comes to what the card's memory allows. About twenty minutes on an H200;
# what does not fit into a session is left out and said.
#
#   bench/forced_decoding_gpu.sh [RESULTS.txt]
#   bench/forced_decoding_gpu.sh --tiny          the same runs in small on a processor: does the script work?
#
#   BUDGET_SECONDS=560 BANDWIDTH=4800 bench/forced_decoding_gpu.sh
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
budget=${BUDGET_SECONDS:-1500}
shapes="1.5b 7b" settings=(--repeats 3 --stop-every 64) is_tiny=
if [ "${1:-}" = --tiny ]; then
  shapes=tiny is_tiny=1 settings=(--repeats 1 --stop-every 8 --requests 1,4)
  shift
fi
results=${1:-build/forced_decoding_gpu.txt}
mkdir -p "$(dirname "$results")"
: >"$results"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
if [ -z "$is_tiny" ]; then
  "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "This needs a CUDA card."; exit 2; }
  "$python" -c 'import torch, transformers as t; print(torch.cuda.get_device_name(), torch.__version__, t.__version__)' | tee -a "$results"
fi
for part in forced rounds; do # the figures that every shape has come first
  for shape in $shapes; do
    left=$((budget - SECONDS))
    if [ "$left" -lt 60 ]; then
      echo "$shape, $part: left out, no time" | tee -a "$results"
      continue
    fi
    timeout "$left" "$python" bench/forced_decoding.py --engine hf --shape "$shape" --only "$part" --random \
      --bandwidth "${BANDWIDTH:-4800}" "${settings[@]}" 2>&1 | tee -a "$results"
    [ "${PIPESTATUS[0]}" = 0 ] || echo "$shape, $part: ended early" | tee -a "$results"
  done
done
echo "results: $results"
