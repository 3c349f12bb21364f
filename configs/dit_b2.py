"""The full-size network: frozen DINOv2-L/14 and CLIP-L/14 text, DiT-B; 577 million parameters, 149 million of them trained.

    python -m drifting_vla_jax.data.build --source=metaworld --tasks=... --episodes=100 --image_size=224 --out=data/metaworld-224
    python -m drifting_vla_jax.main --config=configs/dit_b2.py --workdir=runs/dit_b2

Encoders come from the Hugging Face hub, or from a directory: --config.model.vision.name=DIR --config.model.text.name=DIR.
Made for accelerators; ``--mode=describe`` says what it takes.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "dit_b2"
    config.env.image_size = 224
    config.data.path = "data/metaworld-224"
    config.data.batch_size = 128
    config.data.max_tokens = 77
    config.data.shift = 8
    config.data.num_threads = 16
    config.action.horizon = 16

    m = config.model
    m.width, m.noise_dim, m.mlp_ratio, m.dtype, m.frozen_dtype = 768, 64, 4.0, "bfloat16", "bfloat16"
    m.scan_layers, m.remat = True, "dots"
    m.vision.name, m.text.name = "facebook/dinov2-large", "openai/clip-vit-large-patch14"
    m.fusion.depth, m.fusion.heads = 2, 12
    m.dit.depth, m.dit.heads = 12, 12

    t = config.train
    t.freeze = ("vision", "text")
    t.steps, t.warmup_steps, t.learning_rate, t.final_lr_fraction = 100_000, 1000, 4e-4, 0.1
    t.weight_decay, t.clip_norm, t.ema_decay = 0.05, 2.0, 0.9999
    t.log_every, t.eval_every, t.save_every, t.keep = 100, 1000, 5000, 5
    config.eval.execute = 8
    return config
