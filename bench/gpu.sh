#!/usr/bin/env bash
# Everything that is measured on one large card, in one command, within eight minutes; see bench/gpu.py.
#
#   bench/gpu.sh [--out FOLDER] [--seconds 460]     on a card
#   bench/gpu.sh --tiny                             the same in small on a processor: does it work?
#   bench/gpu.sh --plan                             what is measured in which order, and how long it should take
#   bench/gpu.sh --list-wheels                      what a machine with torch and transformers must be given
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$(test -x "$root/.venv/bin/python" && echo "$root/.venv/bin/python" || echo python3)}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" "$root/bench/gpu.py" "$@"
