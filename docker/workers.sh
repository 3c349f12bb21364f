#!/usr/bin/env bash
# N rollout workers in one container, each with a simulator of its own, sharing the list of episodes.
#   bash workers.sh N --server=ws://policy:8000 --env=rlbench --tasks=... --out=...
# Ends when all have; the first that fails stops the others. Started again it goes on. A worker whose simulator took it along
# (a signal: segmentation fault, abort) is started again, up to RESTARTS times, and goes on with the episode it was in.
set -euo pipefail

count=${1:-}
case $count in
  '' | *[!0-9]* | 0) printf 'error: how many workers? workers.sh N --server=... ; got %s\n' "'$count'" >&2; exit 1 ;;
esac
shift

one() {
  local code restarts=${RESTARTS:-20} child=
  trap 'kill "$child" 2>/dev/null; wait; exit 143' TERM
  while true; do
    code=0
    python -m drifting_vla_jax.rollout.worker "$@" &
    child=$!
    wait "$child" || code=$?
    case $code in 132 | 134 | 135 | 136 | 139) ;; *) exit "$code" ;; esac
    restarts=$((restarts - 1))
    [ "$restarts" -ge 0 ] || exit "$code"
    printf 'warning: a simulator crashed (%s), its worker is started again\n' "$code" >&2
  done
}

pids=()
stop() { kill "${pids[@]}" 2>/dev/null || true; }
trap 'stop; wait; exit 143' TERM INT
for ((i = 0; i < count; i++)); do
  one "$@" --worker="$i" &
  pids+=($!)
done
code=0
for _ in "${pids[@]}"; do
  wait -n || { code=$?; break; }
done
if [ "$code" != 0 ]; then
  stop
  wait || true
  printf 'error: a worker ended with %s, the others are stopped; the same command goes on\n' "$code" >&2
fi
exit "$code"
