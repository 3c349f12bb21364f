#!/usr/bin/env bash
# Makes the environment if missing and runs the tests.
#   bash launch/test.sh [-m "not slow" ...]              further options go to pytest
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" cpu,metaworld,rlbench,data,test
source launch/renderer.sh
python -m ruff check .
python -m pytest "$@"
