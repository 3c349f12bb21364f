"""How good is the policy, and how sure are we: success rates with intervals, from recorded episodes.

evaluation  evaluate                          one server, n worker processes -> episodes.jsonl, results.json, videos
conditions  of_environment                    what a policy is asked besides its ordinary evaluation
suite       main                              every condition of several runs, what is missing of it
statistics  wilson_interval, summarize        episodes -> results
table       format_results                    results -> text for a terminal
"""
