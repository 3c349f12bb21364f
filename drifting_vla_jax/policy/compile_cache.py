"""Compiled programs kept on disk: a second start of the same policy on the same kind of device does not compile again."""

from __future__ import annotations

from pathlib import Path

import jax


def keep(folder: Path) -> None:
    """Everything compiled in this process from here on is looked for in ``folder`` first and put there afterwards.

    A folder that cannot be written costs a warning of JAX, not the start.
    """
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).absolute()))
    # A policy has few programs: the small ones are kept too.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
