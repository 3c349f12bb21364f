"""RLBench's 18 tasks on PerAct's demonstrations, with the network of dit_b2: frozen DINOv2-L and CLIP-L, DiT-B.

    python -m drifting_vla_jax.data.download --splits=train,val,test --out=data/rlbench          # all 18 tasks
    python -m drifting_vla_jax.data.build --source=peract --input=data/rlbench --out=data/rlbench-set --tasks=open_drawer,...
    python -m drifting_vla_jax.rollout.worker --replay --env=rlbench --demos=data/rlbench/train --episodes=2 \\
        --hold_steps=1 --out=runs/replay --tasks=open_drawer,...                  # what the data itself reaches
    python -m drifting_vla_jax.main --config=configs/rlbench_b2.py --workdir=runs/rlbench_b2
    python -m drifting_vla_jax.main --config=configs/rlbench_b2.py --workdir=runs/rlbench_b2 --mode=eval

The 18 names are in drifting_vla_jax/envs/rlbench/tasks.py. --replay and eval need CoppeliaSim in this Python; otherwise serve
the policy and let docker/compose.yml run the simulators. 116 GB of downloads for all tasks and splits.

Protocol: 100 training demonstrations per task; per task the 25 stored test episodes, started from their recorded random
state and variation; at most 400 targets at 20 Hz, open drawers and closed jars judged by RLBench at every one of them; an
unreachable target ends the episode as a failure. RGB alone, four views of 128 pixels, no depth and no keyframes: another
league than the published table (docs/results/rlbench.md), whose only comparable row is image behaviour cloning.

No number yet: no machine of ours has CoppeliaSim.
"""

from configs import dit_b2
from drifting_vla_jax.envs.rlbench.tasks import TASKS


def get_config():
    config = dit_b2.get_config()
    config.name = "rlbench_b2"
    e = config.env
    e.name, e.tasks, e.cameras = "rlbench", TASKS, ("front", "left_shoulder", "right_shoulder", "wrist")
    e.image_size, e.state_dim, e.frame_skip = 128, 10, 1
    config.data.path = "data/rlbench-set"
    config.data.shift = 4
    config.model.vision.image_size, config.model.vision.pool = 224, 2  # 64 tokens per view
    v = config.eval
    v.demos, v.seed, v.episodes, v.workers = "data/rlbench/test", 0, 25, 4
    v.execute, v.max_steps, v.hold_steps, v.video_camera = 8, 400, 1, "front"
    return config
