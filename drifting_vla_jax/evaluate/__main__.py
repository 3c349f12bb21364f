"""The table of an evaluation whose workers were started by hand or by docker/compose.yml.

    python -m drifting_vla_jax.evaluate --out=runs/mine/eval/docker

Reads OUT/episodes*.jsonl and OUT/settings.json, writes OUT/results.json, prints it. While workers run it says how it stands.
"""

from __future__ import annotations

import json
from pathlib import Path

from drifting_vla_jax.core import cli
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.evaluate.statistics import summarize
from drifting_vla_jax.evaluate.table import format_results
from drifting_vla_jax.rollout import episode_log

_OUT = cli.define_path("out", None, "folder that the workers wrote to", required=True)


def main(_) -> None:
    out = Path(_OUT.value)
    episodes = episode_log.read_all_episodes(out) if out.is_dir() else {}
    if not episodes:
        raise FileNotFoundError(f"no episodes in {out}; expected episodes*.jsonl of rollout.worker --out={out}")
    settings = read_dict(out / "settings.json", {})
    results = summarize([episodes[key] for key in sorted(episodes)], settings)
    write_atomically(out / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    print(format_results(results))
    print(f"results  {out / 'results.json'}")


if __name__ == "__main__":
    cli.run(main)
