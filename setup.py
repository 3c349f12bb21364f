"""What pyproject.toml cannot say: configs/ stays where people look for it, and an installed package has it within."""

from pathlib import Path

from setuptools import find_packages, setup

# The image of the rollout worker is made without configs/.
CONFIGS = {"drifting_vla_jax.configs": "configs"} if Path(__file__).with_name("configs").is_dir() else {}

setup(packages=[*find_packages(include=["drifting_vla_jax", "drifting_vla_jax.*"]), *CONFIGS], package_dir=CONFIGS)
