#!/usr/bin/env bash
# Training on a Cloud TPU slice of several hosts, got from the queue (queued resources); JAX finds the hosts by itself.
#   bash launch/tpu_pod.sh create  NAME      asks for the slice; it comes when there is one
#   bash launch/tpu_pod.sh status  NAME      WAITING_FOR_RESOURCES ... ACTIVE ... SUSPENDED (preempted: delete, create again)
#   bash launch/tpu_pod.sh install NAME      copies this project to every host and installs it there
#   bash launch/tpu_pod.sh train   NAME --config=configs/dit_l2.py --workdir=/shared/runs/mine [...]
#   bash launch/tpu_pod.sh stop    NAME      SIGTERM on one host: all of them save and end; train goes on from there
#   bash launch/tpu_pod.sh delete  NAME
#   --dry-run or DRY_RUN=1                   prints the commands and runs nothing
# Environment: PROJECT and ZONE (needed), ACCELERATOR_TYPE (v5litepod-16), RUNTIME_VERSION (v2-alpha-tpuv5-lite),
# SPOT=1 for pre-emptible machines. WORKDIR and the data set must lie on a file system that all hosts mount (Filestore, or
# Cloud Storage by gcsfuse).
set -euo pipefail

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

arguments=()
for argument in "$@"; do
  if [ "$argument" = --dry-run ]; then DRY_RUN=1; else arguments+=("$argument"); fi
done
[ "${#arguments[@]}" -ge 2 ] || die "bash launch/tpu_pod.sh create|status|install|train|stop|delete NAME [...]"
step=${arguments[0]} name=${arguments[1]}
training=("${arguments[@]:2}")
[ -n "${PROJECT:-}" ] || die "set PROJECT to your Google Cloud project"
[ -n "${ZONE:-}" ] || die "set ZONE, such as us-west4-a"
place=("--project=$PROJECT" "--zone=$ZONE")
folder=drifting-vla-jax # in the home directory of every host

run() {
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "$@"; echo
  else
    "$@"
  fi
}
queue() { run gcloud compute tpus queued-resources "$1" "$name" "${place[@]}" "${@:2}"; }
on() { run gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" "--worker=$1" "--command=$2"; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
case $step in
  create)
    queue create "--node-id=$name" "--accelerator-type=${ACCELERATOR_TYPE:-v5litepod-16}" \
      "--runtime-version=${RUNTIME_VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
    ;;
  status) queue describe "--format=value(state.state)" ;;
  install)
    on all "mkdir -p $folder"
    run gcloud compute tpus tpu-vm scp --recurse configs drifting_vla_jax launch constraints.txt pyproject.toml README.md \
      setup.py "$name:$folder/" "${place[@]}" --worker=all
    python="python3 -m pip install --quiet --user uv && ~/.local/bin/uv python install 3.11" # theirs is older
    on all "cd $folder && $python && PYTHON=\$(~/.local/bin/uv python find 3.11) bash -c 'source launch/environment.sh tpu'"
    ;;
  train)
    [[ "${training[*]}" == *--config=* && "${training[*]}" == *--workdir=* ]] || die "--config=FILE and --workdir=DIR are needed"
    on all "cd $folder && . .venv/bin/activate && exec python -m drifting_vla_jax.main $(printf '%q ' "${training[@]}")"
    ;;
  stop) on 0 "pkill -TERM -f '[d]rifting_vla_jax.main'" ;;
  delete) queue delete --force --quiet ;;
  *) die "unknown step $step; expected create, status, install, train, stop or delete" ;;
esac
