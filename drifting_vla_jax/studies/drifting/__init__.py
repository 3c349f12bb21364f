"""A study of the drifting objective that anyone can rerun: ``python -m drifting_vla_jax.studies.drifting --out=DIR``."""
