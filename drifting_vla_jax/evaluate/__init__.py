"""How good is the policy, and how sure are we: success rates with intervals, from recorded episodes.

evaluation  evaluate                          one server, n worker processes -> episodes.jsonl, results.json, videos
statistics  wilson_interval, summarize        episodes -> results
table       format_results                    results -> text for a terminal
"""
