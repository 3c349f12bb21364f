#!/usr/bin/env bash
# Makes the environment of those who work on the project. Source it, or run it to set up.
extras=cpu,metaworld,rlbench,test${EXTRAS:+,$EXTRAS} # EXTRAS=docs: mkdocs too
if command -v chromium google-chrome chrome >/dev/null; then extras+=,browser; fi # 53 MB that nothing else can use
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "$extras"
