"""As rlbench_b2 with the network of dit_l2, a DiT-L.

python -m drifting_vla_jax.main --config=configs/rlbench_l2.py --workdir=runs/rlbench_l2
"""

from configs import dit_l2, rlbench_b2


def get_config():
    config, large = rlbench_b2.get_config(), dit_l2.get_config()
    config.name = "rlbench_l2"
    config.model.width = large.model.width
    config.model.fusion.heads = large.model.fusion.heads
    config.model.dit.depth, config.model.dit.heads = large.model.dit.depth, large.model.dit.heads
    return config
