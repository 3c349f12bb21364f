"""A run as one page that opens anywhere: no account, no server, no other file.

run          read_run       config.json, metrics.jsonl, run.json, eval/*/ -> Run
curves       curves         metrics of one run or two -> what the page plots
evaluations  success ...    episodes -> tables: success with intervals, outcomes, latency, pairs
films        choose_films   videos, embedded up to a budget, linked beyond it
facts        header ...     what, which data and code, how far, where the time went, the configuration
page         write_report   all of it -> DIR/report/index.html
figures      draw_figures   the pictures of figures/ as files of their own, a command beside the page

Reads files only and imports no jax: a report takes a second, beside a training or long after it.
"""
