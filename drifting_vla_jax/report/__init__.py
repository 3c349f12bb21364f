"""A run, or a data set, as one page that opens anywhere: no account, no server, no other file.

A run (``python -m drifting_vla_jax.report``):

run             read_run       config.json, metrics.jsonl, run.json, eval/*/ -> Run
curves          curves         metrics of one run or two -> what the page plots
evaluations     success ...    episodes -> tables: success with intervals, outcomes, latency, pairs
pictures        choose_...     figures as WebP, thinned out to a budget, for the step slider
figures         draw_figures   the pictures of figures/ as files, a command of its own
films           choose_films   videos, embedded up to a budget, linked beyond it
facts           header ...     what, which data and code, how far, where the time went, the configuration
page            write_report   all of it -> DIR/report/index.html

Several runs (``python -m drifting_vla_jax.report.results.page``):

entries         read_entries   runs and what evaluate.suite found of them -> policies and their evaluations by condition
rates, tables   all_tables     success by group, task, condition; pairs; latency; equal time: each table once, as data
results         write_results  the page OUT/index.html, the same tables as OUT/results.md

A data set (``python -m drifting_vla_jax.report.dataset.page``):

demonstrations  read_...       every episode's states, actions and instructions
checks/table    run_checks     what may be wrong with them: where, and why it matters
frames          look, strip    what the checks see of the images; stills and films
datasheet       facts ...      what the set says about itself, its tasks, every dimension's distribution
episodes        write_page     all of it -> DATA/report/episodes.html
rerun_export    export_...     episodes or an evaluation -> a recording for the rerun viewer

template        render         what the pages share: look, scripts, numbers as text

Reads files only. The page of a run imports no jax and takes a second, beside a training or long after it; that of a data
set imports what reads data sets.
"""
