"""Five Meta-World tasks, one network, from 64-pixel images and instructions, on two CPU cores.

bash launch/quickstart.sh
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "quickstart"
    config.env.tasks = ("button-press-topdown", "drawer-close", "drawer-open", "door-open", "window-open")
    config.env.frame_skip = 4  # 20 actions per second
    config.data.path = "data/quickstart"
    config.data.batch_size = 32
    config.data.num_threads = 1
    config.data.shift = 2
    config.action.horizon = 4
    config.model.vision.depth = 1
    config.model.fusion.depth = 1
    # One way of doing things: large fixed temperatures settle a little faster.
    config.objective.drifting.temperatures = (0.2, 0.5, 1.0)
    config.objective.drifting.temperature_unit = "mean_distance"
    config.train.optimizer = "muon"
    config.train.learning_rate = 4e-3
    config.train.steps = 1500
    config.train.eval_every = 500
    config.train.save_every = 250
    config.eval.execute = 2
    config.eval.max_steps = 125  # Meta-World's own limit, 500 simulator steps
    config.serve.batch_sizes = (1, 2)
    return config
