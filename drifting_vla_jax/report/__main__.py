"""Command line: the report of a run, or of two side by side.

    python -m drifting_vla_jax.report --workdir=runs/mine [--compare=runs/other]

Writes WORKDIR/report/index.html, one file that opens anywhere. Videos are inside it until --video_mb of the page are spent; the
others are links to where they lie. It may be called at any time, while the run trains too.
"""

from __future__ import annotations

import time
from pathlib import Path

from absl import flags

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.report.run.page import VIDEO_BUDGET, write_report

FLAGS = flags.FLAGS


def main(_) -> None:
    start = time.perf_counter()
    other = Path(FLAGS.compare) if FLAGS.compare else None
    page, films = write_report(Path(FLAGS.workdir), other, int(FLAGS.video_mb * 2**20))
    inside = sum(film["embedded"] for film in films)
    linked = sum(bool(film["source"]) for film in films) - inside
    videos = f"videos: {inside} inside" + (f", {linked} linked, beyond --video_mb={FLAGS.video_mb:g}" if linked else "")
    print(f"report   {page}  ({page.stat().st_size / 2**20:.1f} MB, {videos}; {time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    cli.define_path("workdir", None, "directory of the run", required=True)
    cli.define_path("compare", None, "directory of a second run, shown beside it")
    flags.DEFINE_float(
        "video_mb", VIDEO_BUDGET / 2**20, "size of the page that videos may take", *ranges.MEGABYTES.bounds
    )
    cli.run(main)
