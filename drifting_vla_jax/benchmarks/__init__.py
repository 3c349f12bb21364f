"""How fast, beside what: ``python -m drifting_vla_jax.benchmarks --suite=loss``."""
