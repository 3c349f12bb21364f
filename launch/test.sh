#!/usr/bin/env bash
# Makes the environment if missing and runs the tests.
#   bash launch/test.sh [-m "not slow" ...]              further options go to pytest
set -euo pipefail
extras=cpu,metaworld,rlbench,test${EXTRAS:+,$EXTRAS} # EXTRAS=docs: the documentation is built too
if command -v chromium google-chrome chrome >/dev/null; then extras+=,browser; fi # 53 MB that nothing else can use
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "$extras"
source launch/renderer.sh
# The server is held to openpi's own client. Its metadata asks for NumPy 1; it runs with 2, so it comes without what it asks for.
python -c "import openpi_client" 2>/dev/null || python -m pip install --quiet --no-deps openpi-client==0.1.2
python -m ruff check .
python -m pytest --numprocesses=2 --dist=loadfile "$@"
