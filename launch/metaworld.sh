#!/usr/bin/env bash
# Meta-World's page of results from a seed: demonstrations, a training per objective, every condition, the page.
#   bash launch/metaworld.sh mt10|mt50 [--dry-run] [--config.seed=1 ...]      further options go to the trainings
#   OBJECTIVES=drifting     what is trained: "drifting flow_matching regression" if not said
#   EPISODES=50 FEWER=20    of every task: ordinary ones, those under other conditions
#   RUNS=runs/mt10          how the runs' names begin; the first objective's run has this name
#   DRY_RUN=1               as --dry-run: prints the commands and starts nothing
# Stopped and started again, with the same options, it goes on where it was.
set -euo pipefail

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

suite=${1:-}; shift || true
config=configs/metaworld_$suite.py
data=("--config=$config" --action_noise=0.2 --settle_steps=10 --hold_steps=16)
case $suite in
  mt10) data+=(--episodes=150 --gate=0.9) ;;
  mt50) data+=(--episodes=50 --val_fraction=0.04 --gate=0.5) ;;
  *) die "which tasks? bash launch/metaworld.sh mt10|mt50 [--dry-run] [--config.seed=1 ...]" ;;
esac
options=()
for argument in "$@"; do
  case $argument in
    --dry-run) DRY_RUN=1 ;;
    --config.objective.name=*) die "the objectives are OBJECTIVES=\"drifting flow_matching regression\", not $argument" ;;
    --config.*) options+=("$argument") ;;
    *) die "$argument? options of the trainings begin with --config." ;;
  esac
done
read -ra objectives <<<"${OBJECTIVES:-drifting flow_matching regression}"
[ ${#objectives[@]} -gt 0 ] || die "OBJECTIVES is empty; name at least one of drifting flow_matching regression"
for objective in "${objectives[@]}"; do
  [[ $objective =~ ^[A-Za-z_][A-Za-z0-9_.:]*$ ]] || die "OBJECTIVES has $objective; expected names, or import paths module:name"
done

if [ -n "${DRY_RUN:-}" ]; then
  say() { :; }
  start() { printf '%q ' "$@"; echo; }
else
  # shellcheck source=launch/environment.sh
  source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" cpu,metaworld
  source launch/renderer.sh
  start() { "$@"; }
fi

say "1/4 demonstrations by scripted experts"
start python -m drifting_vla_jax.data.build "${data[@]}"
runs='' base=${RUNS:-runs/$suite}
for objective in "${objectives[@]}"; do
  workdir=$base${runs:+-$objective}
  say "2/4 training: $objective ($workdir)"
  start python -m drifting_vla_jax.main "--config=$config" "--workdir=$workdir" \
    "--config.objective.name=$objective" "${options[@]}"
  runs+=${runs:+,}$workdir
done
say "3/4 evaluation: unseen goals, other words, cameras, light, colours, a world that does not wait"
start python -m drifting_vla_jax.evaluate.suite "--runs=$runs" "--episodes=${EPISODES:-50}" "--fewer=${FEWER:-20}"
say "4/4 the page"
start python -m drifting_vla_jax.report.results.page "--runs=$runs" "--out=$base-results"
