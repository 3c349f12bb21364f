#!/usr/bin/env bash
# Makes the environment if missing, checks style and runs the tests.
#   bash launch/test.sh [-m "not slow" ...]              further options go to pytest
set -euo pipefail
# shellcheck source=launch/development.sh
source "$(dirname "${BASH_SOURCE[0]}")/development.sh" # EXTRAS=docs: the documentation is built too
source launch/renderer.sh
# The server is held to openpi's own client. Its metadata asks for NumPy 1; it runs with 2, so it comes without what it asks for.
python -c "import openpi_client" 2>/dev/null || python -m pip install --quiet --no-deps openpi-client==0.1.2
bash launch/lint.sh
python -m pytest --numprocesses=2 --dist=loadfile "$@"
