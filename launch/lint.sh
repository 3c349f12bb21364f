#!/usr/bin/env bash
# Style and spelling of the whole project: Python, shell scripts, Dockerfiles, prose. .pre-commit-config.yaml checks the same
# of what a commit changes.
set -euo pipefail
# shellcheck source=launch/development.sh
source "$(dirname "${BASH_SOURCE[0]}")/development.sh"
ruff check .
ruff format --check .
codespell
shellcheck -x .ci/run launch/*.sh docker/*.sh
hadolint docker/*.Dockerfile
