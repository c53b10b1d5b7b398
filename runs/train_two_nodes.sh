#!/usr/bin/env bash
# Fine-tune a recipe on two machines of 8 cards. Start it on both, with the first machine's address and 0 or 1:
#   HEAD=10.0.0.1 NODE=0 runs/train_two_nodes.sh s1k        on the first
#   HEAD=10.0.0.1 NODE=1 runs/train_two_nodes.sh s1k        on the second
# Both need the same s1kit and the same run folder (a shared file system), with `curate` done.
set -euo pipefail
: "${HEAD:?set HEAD to the address of the first machine}" "${NODE:?set NODE to 0 or 1}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$(test -x "$here/.venv/bin/python" && echo "$here/.venv/bin/python" || echo python3)}
exec "$python" -m torch.distributed.run --nnodes "${NODES:-2}" --node-rank "$NODE" --nproc-per-node "${CARDS:-8}" \
  --master-addr "$HEAD" --master-port "${PORT:-29500}" -m s1kit train "$@"
