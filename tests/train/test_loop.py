"""A run that is stopped, killed or crashes ends as if nothing had happened; one that goes wrong says where."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from drifting_vla_jax.config import to_json
from drifting_vla_jax.data import pipeline
from drifting_vla_jax.train import loop, metrics, sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.train.step import compile_eval_step, compile_train_step

REPOSITORY = Path(__file__).parents[2]
_COMPILED = {}


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch, small, one_device, step, host_state, place):
    """The loop's three compiled functions, shared by all runs on one device whose networks and optimisers are alike."""

    def once(make, first=None):
        def made(config, mesh):
            values = to_json(config)
            for name in ("data", "eval", "serve", "name"):
                del values[name]
            for name in ("log_every", "eval_every", "eval_batches", "save_every", "keep", "wandb", "wandb_project"):
                del values["train"][name]
            assert mesh == one_device
            key = (make.__name__, json.dumps(values, sort_keys=True))
            if key not in _COMPILED:
                _COMPILED[key] = make(config, mesh)
            return _COMPILED[key]

        if first is not None:
            made_first = made(small, one_device) if first is ... else first
            del made_first
        return made

    monkeypatch.setattr(loop, "compile_train_step", once(compile_train_step))
    monkeypatch.setattr(loop, "compile_eval_step", once(compile_eval_step))
    monkeypatch.setattr(loop, "create_state", lambda config, mesh: place(host_state, mesh))
