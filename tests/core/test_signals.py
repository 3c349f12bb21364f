"""Signals of batch systems come more than once: the first is acted on; only a second Ctrl-C ends a process that is saving."""

import os
import signal
import subprocess
import sys
import time

import pytest

from drifting_vla_jax.core import signals

BATCH = list(signals.BATCH)


@pytest.mark.parametrize("number", [*BATCH, signal.SIGINT], ids=lambda n: signal.Signals(n).name)
def test_a_signal_becomes_a_question_that_others_do_not_change(number):
    said, before = [], [signal.getsignal(n) for n in (*BATCH, signal.SIGINT)]
    with signals.asked(said.append) as asked:
        assert not asked()
        for _ in range(3):
            signal.raise_signal(number)
            for other in BATCH:
                signal.raise_signal(other)
            if number == signal.SIGINT:
                break
        assert asked()
        assert (signal.getsignal(signal.SIGINT) is signal.SIG_DFL) == (number == signal.SIGINT)  # a second one ends it
    assert said == [signal.Signals(number).name]
    assert [signal.getsignal(n) for n in (*BATCH, signal.SIGINT)] == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for block in (signals.asked(print), signals.raised_once()):
            with block as asked:
                signal.raise_signal(signal.SIGHUP)
                assert not (asked and asked())
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_cleaning_up_is_broken_off_by_a_second_ctrl_c_alone(first):
    with signals.raised_once():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(first)
        for again in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(again)
        if first != signal.SIGINT:
            signal.raise_signal(signal.SIGINT)  # the first of its kind
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_is_passed_on_once():
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("told"))  # as JAX does where several processes train
    try:
        with signals.asked(lambda _: None, pass_on=signal.SIGTERM):
            for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGINT):
                signal.raise_signal(number)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == ["told"]


def python(code: str) -> subprocess.Popen:
    command = [sys.executable, "-c", f"import os, sys, time, ctypes\nfrom drifting_vla_jax.core import signals\n{code}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_in_a_long_call_the_first_is_said_and_a_second_ctrl_c_ends_it_at_once():
    """While the main thread is inside a compiler or a library its handlers do not run."""
    say = "with signals.asked(lambda name: print(name, flush=True)):\n    print('ready', flush=True)\n    "
    process = python(say + "for _ in range(9): ctypes.CDLL(None).sleep(5)")
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "SIGINT\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) in (130, -signal.SIGINT) and time.monotonic() - began < 5


def test_a_storm_of_signals_does_not_keep_it_from_saving():
    process = python(
        "with signals.asked(lambda name: print(name, flush=True)) as asked:\n"
        "    print('ready', flush=True)\n"
        "    while not asked(): time.sleep(0.01)\n"
        "    [time.sleep(0.01) for _ in range(60)]\n"
        "    print('saved', flush=True)"
    )
    assert process.stdout.readline() == "ready\n"
    for number in [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR2] * 3:
        os.kill(process.pid, number)
        time.sleep(0.005)
    assert process.stdout.read().split() == ["SIGTERM", "saved"] and process.wait() == 0
