#!/usr/bin/env bash
# Demonstrations -> training -> evaluation in a simulator, on this machine. Stopped and started again it goes on.
#   bash launch/quickstart.sh [--config.seed=1 ...]      further options go to training and evaluation
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" cpu,metaworld
source launch/renderer.sh
config=configs/quickstart.py
workdir=${WORKDIR:-runs/quickstart}

say "1/3 demonstrations by scripted experts"
python -m drifting_vla_jax.data.build --config=$config --episodes=60 --hold_steps=16
python -m drifting_vla_jax.report.dataset.page --data=data/quickstart
say "2/3 training ($workdir)"
python -m drifting_vla_jax.main --config=$config --workdir="$workdir" "$@"
say "3/3 evaluation: unseen goals, one policy server, simulator processes"
python -m drifting_vla_jax.main --config=$config --workdir="$workdir" --mode=eval "$@"
