#!/usr/bin/env bash
# Of both images. Prepares what a process cannot set for itself once it runs, then becomes the given command.
#   COPPELIASIM_ROOT   set: Xvfb, the simulator's libraries, one rendered frame as a test, or advice and exit 1
#   WANDB_API_KEY      set: logs in to WandB where it is installed
#   SELF_TEST=0        skips the frame
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

start_display() {
  export DISPLAY=${DISPLAY_NUMBER:-:99}
  Xvfb "$DISPLAY" -screen 0 1280x1024x24 -nolisten tcp +extension GLX +render -noreset >/tmp/xvfb.log 2>&1 &
  local server=$!
  for _ in $(seq 100); do
    [ -S "/tmp/.X11-unix/X${DISPLAY#:}" ] && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 5 /tmp/xvfb.log >&2
  die "Xvfb does not start on $DISPLAY; another one may run there (DISPLAY_NUMBER=:98), or /tmp is not writable"
}

prepare_simulator() {
  [ -e "$COPPELIASIM_ROOT/libcoppeliaSim.so" ] ||
    die "COPPELIASIM_ROOT is $COPPELIASIM_ROOT, where no libcoppeliaSim.so lies; build docker/rollout.Dockerfile again, or mount CoppeliaSim 4.1.0 there"
  # The dynamic loader reads these when a process starts: from inside Python it is too late.
  export LD_LIBRARY_PATH="$COPPELIASIM_ROOT${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export QT_QPA_PLATFORM_PLUGIN_PATH="$COPPELIASIM_ROOT"
  if [ -z "${DISPLAY:-}" ]; then start_display; fi
  if [ "${SELF_TEST:-1}" = 1 ]; then
    timeout --kill-after=10 "${SELF_TEST_SECONDS:-180}" python -m drifting_vla_jax.envs.rlbench.check ||
      die "the simulator renders nothing (above: why). Missing libraries: ldd $COPPELIASIM_ROOT/libcoppeliaSim.so | grep 'not found'; nothing above: it hung, try SELF_TEST_SECONDS=600; X: see /tmp/xvfb.log"
  fi
}

if [ -n "${COPPELIASIM_ROOT:-}" ]; then prepare_simulator; fi
if [ -n "${WANDB_API_KEY:-}" ] && [ "${WANDB_MODE:-online}" = online ] && command -v wandb >/dev/null; then
  # The key goes by the environment: an argument would stand in the list of processes.
  wandb login >/dev/null 2>&1 || say "warning: WandB refuses the key; runs stay offline until it is right"
fi
[ $# -gt 0 ] || die "no command; e.g. python -m drifting_vla_jax.rollout.worker --help"
exec "$@"
