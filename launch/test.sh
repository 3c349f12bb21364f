#!/usr/bin/env bash
# Makes the environment if missing and runs the tests.
#   bash launch/test.sh [-m "not slow" ...]              further options go to pytest
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" cpu,metaworld,rlbench,data,test
source launch/renderer.sh
# The server is held to openpi's own client. Its metadata asks for NumPy 1; it runs with 2, so it comes without what it asks for.
python -c "import openpi_client" 2>/dev/null || python -m pip install --quiet --no-deps openpi-client==0.1.2
python -m ruff check .
python -m pytest --numprocesses=2 --dist=loadfile "$@"
