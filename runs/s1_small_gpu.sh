#!/usr/bin/env bash
# Recipe `s1-small` on one card in pieces: runs/s1_small_gpu.sh [key=value ...]
# Stops after MINUTES (default 9) like after Ctrl-C and keeps what is done; run it again until it says "finished".
# RECIPE=s1-small-cpu runs the small form the same way.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$(test -x "$here/.venv/bin/python" && echo "$here/.venv/bin/python" || echo python3)}
status=0
timeout --signal=INT --kill-after=60 "$((${MINUTES:-9} * 60))" \
  "$python" -m s1kit run "${RECIPE:-s1-small}" "$@" || status=$?
case $status in
  0) echo "finished" ;;
  124 | 130) echo "not finished: run it again to go on" ;;
  *) exit "$status" ;;
esac
