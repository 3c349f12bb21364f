#!/usr/bin/env bash
# Makes sure that MuJoCo can draw without a screen. Source it after launch/environment.sh.
if ! python -m drifting_vla_jax.envs.mujoco_rendering; then
  packages="libosmesa6 libegl-mesa0 libegl1"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing a software renderer: $packages"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null
    python -m drifting_vla_jax.envs.mujoco_rendering || die "the renderer still does not start"
  else
    die "no renderer for the simulator; run:  sudo apt-get install -y $packages  and start again"
  fi
fi
