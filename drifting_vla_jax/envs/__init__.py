"""Simulators behind one small interface (see ``env.py``). Nothing here imports jax."""
