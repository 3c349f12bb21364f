#!/usr/bin/env bash
# Makes sure that MuJoCo can draw without a screen. Source it after launch/environment.sh.
packages=(libosmesa6 libegl-mesa0 libegl1)
renderer_log=$(mktemp)
draws() {
  python - <<'PY'
from drifting_vla_jax.envs.registry import make

env = make("metaworld", cameras=("top",), image_size=64, frame_skip=1)
frame = env.reset("drawer-open", 0, 0)[0].images["top"]
env.close()
raise SystemExit(0 if frame.std() > 1 else "the renderer draws a blank picture")
PY
}
if ! draws 2>"$renderer_log"; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing a software renderer: ${packages[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >/dev/null
    draws || die "the renderer still does not start"
  else
    tail -n 1 "$renderer_log" >&2
    die "no renderer for the simulator; run:  sudo apt-get install -y ${packages[*]}  and start again"
  fi
fi
rm -f "$renderer_log"
