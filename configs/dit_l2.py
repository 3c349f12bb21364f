"""As dit_b2 with a DiT-L: 917 million parameters, 489 million of them trained.

python -m drifting_vla_jax.main --config=configs/dit_l2.py --workdir=runs/dit_l2
"""

from configs import dit_b2


def get_config():
    config = dit_b2.get_config()
    config.name = "dit_l2"
    m = config.model
    m.width = 1024
    m.fusion.heads = 16
    m.dit.depth, m.dit.heads = 24, 16
    return config
