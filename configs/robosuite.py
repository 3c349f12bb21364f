"""A Franka Panda whose wrist must turn: four tasks of robosuite, one network, from 96-pixel images, on two CPU cores.

    bash launch/robosuite.sh        # makes .venv with robosuite in it
    python -m drifting_vla_jax.data.build --config=configs/robosuite.py --episodes=150 --settle_steps=4 --gate=0.9
    python -m drifting_vla_jax.main --config=configs/robosuite.py --workdir=runs/robosuite
    python -m drifting_vla_jax.main --config=configs/robosuite.py --workdir=runs/robosuite --mode=eval

Measured: demonstrations 15 min on two cores, training 33 min on one, evaluation of 200 episodes 5.5 min on one; 71.0% held
(64.4 - 76.8%, seed 0): lift 47 of 50, stack 42, pick-place-can 49, nut-assembly-square 4 (docs/results/robosuite.md).
"""

from configs import quickstart

TASKS = ("lift", "nut-assembly-square", "pick-place-can", "stack")


def get_config():
    config = quickstart.get_config()
    config.name = "robosuite"
    config.env.name = "robosuite"
    config.env.tasks = TASKS
    config.env.cameras = ("agentview", "wrist")
    config.env.image_size = 96
    config.env.state_dim = 10
    config.env.frame_skip = 25  # 20 actions per second
    config.data.path = "data/robosuite"
    config.data.batch_size = 64
    config.data.num_threads = 2
    config.data.cache_mb = 6000
    config.data.shift = 3
    config.model.width = 96
    config.train.steps = 4000
    config.train.ema_decay = 0.998
    config.train.log_every = 50
    config.train.eval_every = 1000
    config.train.save_every = 1000
    config.train.report_every = 4000
    config.eval.episodes = 50
    config.eval.max_steps = 300  # 15 s
    config.eval.video_camera = "agentview"
    return config
