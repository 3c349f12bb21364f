#!/usr/bin/env bash
#SBATCH --job-name=drifting-vla
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
# One training process per node, each with all of its GPUs; JAX finds the other nodes in SLURM's environment.
#   sbatch [--nodes=4 --partition=... --time=...] launch/slurm.sh --config=configs/dit_b2.py --workdir=/shared/runs/mine [...]
#   bash launch/slurm.sh --config=... --workdir=...            submits with the options above
#   bash launch/slurm.sh --dry-run --config=... --workdir=...  prints what would be submitted and run (or DRY_RUN=1)
# Start it from the project's root, with a .venv made there by launch/environment.sh; WORKDIR and the data set must lie on a
# file system that all nodes share. 300 s before the time is up SLURM sends USR1: training saves, the job queues up again,
# and goes on. When SLURM itself takes the nodes away (--requeue) its SIGTERM does the same.
set -euo pipefail

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

arguments=() config='' workdir=''
for argument in "$@"; do
  case $argument in
    --dry-run) DRY_RUN=1; continue ;;
    --config=*) config=$argument ;;
    --workdir=*) workdir=$argument ;;
  esac
  arguments+=("$argument")
done
[ -n "$config" ] && [ -n "$workdir" ] || die "--config=FILE and --workdir=DIR are needed"

submit=(sbatch launch/slurm.sh "${arguments[@]}")
step=(srun --kill-on-bad-exit=1 --label --ntasks-per-node=1 "--cpus-per-task=${SLURM_CPUS_PER_TASK:-32}"
  python -m drifting_vla_jax.main "${arguments[@]}")

if [ -n "${DRY_RUN:-}" ]; then
  grep '^#SBATCH' "${BASH_SOURCE[0]}"
  printf '%q ' "${submit[@]}"; echo
  printf '%q ' "${step[@]}"; echo
  exit 0
fi
if [ -z "${SLURM_JOB_ID:-}" ]; then
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  exec "${submit[@]}"
fi

cd "${SLURM_SUBMIT_DIR:-.}" # SLURM runs a copy of this file from elsewhere
# shellcheck source=/dev/null
[ ! -f .venv/bin/activate ] || . .venv/bin/activate
requeue='' training='' told=''
tell() { [ -z "$training" ] || [ -n "$told" ] || { told=1; kill -USR1 "$training"; }; } # srun passes it on to every node
trap 'requeue=1; tell' USR1
trap ':' TERM # SLURM tells the nodes itself; this shell waits for them
"${step[@]}" &
training=$!
[ -z "$requeue" ] || tell # the signal came before the training
while kill -0 "$training" 2>/dev/null; do
  wait "$training" || true # ended by a signal, or by the end of training
done
status=0
wait "$training" || status=$?
[ "$status" = 0 ] || die "training ended with $status; submit it again and it goes on from its last checkpoint"
[ -z "$requeue" ] || scontrol requeue "$SLURM_JOB_ID"
