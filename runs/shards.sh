#!/usr/bin/env bash
# A stage as an array of Slurm jobs, one engine each, and a job that ends it:
#   runs/shards.sh evaluate 16 s1k [key=value ...]        stages: distill (a local teacher), curate, evaluate
#   PRINT=1 runs/shards.sh evaluate 16 s1k                print what would be submitted, and submit nothing
# SBATCH_FLAGS="--gpus=4 --partition=a100" go to every job. The run folder must be on a disk that all machines share.
# Run it again after a failure or a time limit: shards that are there are not done again.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
stage=$1 num=$2
shift 2
case $stage in distill | curate | evaluate) ;; *) echo "no array for the stage $stage: distill, curate or evaluate" >&2; exit 2 ;; esac
case $num in '' | *[!0-9]* | 0) echo "$num is no number of jobs: give 1 or more" >&2; exit 2 ;; esac
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$(test -x "$here/.venv/bin/python" && echo "$here/.venv/bin/python" || echo python3)}
# What the first student answers is not asked of the second, so each student is an array that waits for the one before.
rounds=1
if [ "$stage" = curate ]; then
  rounds=$("$python" -c 'import sys; from s1kit.recipe import load_recipe as load; print(len(load(sys.argv[1], sys.argv[2:]).curate.students))' "$@")
fi
read -r -a flags <<<"${SBATCH_FLAGS:-}"
before=()
submit() {
  local command=(sbatch --parsable "${flags[@]}" "${before[@]}" "$@")
  if [ -n "${PRINT:-}" ]; then
    printf '%q ' "${command[@]}"
    echo
    id="JOB_OF_THE_LINE_ABOVE"
  else
    id=$("${command[@]}")
    id=${id%%;*}
    echo "submitted $id: ${command[*]}"
  fi
  before=("--dependency=afterany:$id")
}
for ((round = 0; round < rounds; round++)); do
  submit "--array=0-$((num - 1))" "$here/runs/shards.sbatch" "$stage" "$@"
done
submit "$here/runs/shards.sbatch" "$stage" "$@"
