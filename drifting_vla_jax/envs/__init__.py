"""Simulators behind one small interface (see ``base.py``). Nothing here imports jax."""
