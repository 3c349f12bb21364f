#!/usr/bin/env bash
# Makes .venv with robosuite in it. robosuite's own requirements are not installed with it: they ask for numpy<2 (through mink,
# inverse kinematics of humanoids) and for a second OpenCV, with a window system; what its Panda needs is in the extra.
#   bash launch/robosuite.sh [extras]
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "${1:-cpu,robosuite}"

version=1.5.2
if [ "$(python -c 'import importlib.metadata as m; print(m.version("robosuite"))' 2>/dev/null)" != "$version" ]; then
  say "installing robosuite $version"
  python -m pip install --progress-bar on --no-deps "robosuite==$version"
fi
say "checking it"
python - <<'PY'
from drifting_vla_jax.envs.registry import make

env = make("robosuite", cameras=("agentview",), image_size=64, frame_skip=25)
frame = env.reset("lift", 0, 0)[0].images["agentview"]
env.close()
raise SystemExit(0 if frame.std() > 1 else "the renderer draws a blank picture")
PY
