"""The authors' drift_loss.py (JAX), value and gradient. Argument: that file.

One word of it is brought up to date: jnp.clip's a_min, which JAX no longer knows, is min.
"""

import sys
import tempfile
from pathlib import Path

import line


def _official():
    folder = tempfile.mkdtemp()
    source = Path(sys.argv[1]).read_text().replace("a_min=", "min=")
    (Path(folder) / "official_drift_loss.py").write_text(source)
    sys.path.insert(0, folder)
    from official_drift_loss import drift_loss

    return drift_loss


def loss(b, n, p, d, times=1):
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    gen, pos = (jax.numpy.asarray(rng.standard_normal((b, k, d), np.float32)) for k in (n, p))
    official = _official()
    program = jax.jit(jax.value_and_grad(lambda gen, pos: official(gen, pos)[0].sum())).lower(gen, pos).compile()

    def run():
        for _ in range(times):
            jax.block_until_ready(program(gen, pos))

    scratch = program.memory_analysis().temp_size_in_bytes / 1e6
    return line.averaged(run, times), {"jax": jax.__version__, "scratch": f"{scratch:.4g} MB"}


line.serve({"loss": loss})
