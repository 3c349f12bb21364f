"""A peer's half of the protocol of ``benchmarks/peer.py``. Runs in any Python 3; imports nothing but the standard library.

A script calls ``serve({"work name": prepare, ...})``. ``prepare(**options)`` returns a function that does the work once, or
(function, dict of what there is to say about it). The function's time is taken here, unless it returns seconds itself.
"""

import json
import os
import sys
import time


def _answer(message, works, ready):
    if "prepare" in message:
        if message["work"] not in works:
            return {"error": f"this peer does no {message['work']!r}"}
        made = works[message["work"]](**message.get("options", {}))
        ready[message["prepare"]], about = made if isinstance(made, tuple) else (made, {})
        return {"ready": about}
    start = time.perf_counter()
    own = ready[message["run"]]()
    seconds = time.perf_counter() - start
    return {"seconds": own if isinstance(own, float) else seconds}


def averaged(run, times):
    """A function that does ``times`` pieces of work, as one that says how long a piece takes."""

    def timed():
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / times

    return timed


def serve(works):
    """Answers until stdin ends. What the work prints goes to stderr, away from the protocol."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ready = {}
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line), works, ready)
        except Exception as error:  # a process boundary: whatever went wrong is the answer
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        out.write(json.dumps(answer) + "\n")
        out.flush()
