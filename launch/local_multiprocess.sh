#!/usr/bin/env bash
# N processes on this machine train as one, over virtual CPU devices: what several hosts do, to try it without them.
#   bash launch/local_multiprocess.sh N [--dry-run] --config=configs/quickstart.py --workdir=runs/mine [--config.seed=1 ...]
#   DEVICES=4       devices of each process (1)
#   PORT=12345      on which process 0 waits for the others (a random one)
#   DRY_RUN=1       as --dry-run: prints the commands and starts nothing
# Process I writes to WORKDIR/processes/I.log, process 0 to the terminal too. Ctrl-C or SIGTERM: all save and end.
set -euo pipefail

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || die "how many processes? bash launch/local_multiprocess.sh N --config=... --workdir=..."
count=$1; shift
arguments=() workdir='' config=''
for argument in "$@"; do
  case $argument in
    --dry-run) DRY_RUN=1; continue ;;
    --workdir=*) workdir=${argument#*=} ;;
    --config=*) config=${argument#*=} ;;
  esac
  arguments+=("$argument")
done
[ -n "$config" ] && [ -n "$workdir" ] || die "--config=FILE and --workdir=DIR are needed"

[[ $workdir != *://* && $workdir != *\$* ]] || die "--workdir=$workdir: expected a folder of this machine, written out"
workdir=${workdir/#\~\//$HOME/}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) # the paths that were given are of the folder this is started in
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
port=${PORT:-$((20000 + RANDOM % 20000))}
flags="--xla_force_host_platform_device_count=${DEVICES:-1} ${XLA_FLAGS:-}"
command=(env JAX_PLATFORMS=cpu "XLA_FLAGS=${flags% }" python -m drifting_vla_jax.main "${arguments[@]}"
  "--coordinator=127.0.0.1:$port" "--num_processes=$count")
logs=$workdir/processes

if [ -n "${DRY_RUN:-}" ]; then
  for ((i = 0; i < count; i++)); do
    printf '%q ' "${command[@]}" "--process_id=$i"
    printf '> %q 2>&1 &\n' "$logs/$i.log"
  done
  exit 0
fi

# shellcheck source=/dev/null
[ ! -f "$root/.venv/bin/activate" ] || . "$root/.venv/bin/activate"
mkdir -p "$logs"
pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM
for ((i = 0; i < count; i++)); do
  if [ "$i" = 0 ]; then
    "${command[@]}" "--process_id=$i" > >(tee "$logs/$i.log") 2>&1 &
  else
    "${command[@]}" "--process_id=$i" > "$logs/$i.log" 2>&1 &
  fi
  pids[i]=$!
done

while [ "${#pids[@]}" -gt 0 ]; do
  status=0
  wait -n -p ended "${pids[@]}" || status=$?
  [ -n "${ended:-}" ] || continue # a signal came, and was passed on
  for i in "${!pids[@]}"; do
    [ "${pids[i]}" = "$ended" ] || continue
    unset 'pids[i]'
    [ "$status" = 0 ] && continue
    kill -KILL "${pids[@]}" 2>/dev/null || true
    wait # what they still print comes before why
    die "process $i ended with $status, the others are stopped; see $logs/$i.log"
  done
done
