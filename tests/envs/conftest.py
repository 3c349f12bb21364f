"""Fixtures of the contract tests with RLBench's own code."""

from tests.envs.rlbench_on_fake import checkout, fake, fake_simulator, make  # noqa: F401
