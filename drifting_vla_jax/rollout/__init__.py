"""Episodes in a simulator, driven by a policy behind a socket, in a process of its own.

    worker      python -m drifting_vla_jax.rollout.worker --help     runs its share of an episode list, resumable
    episode     run_episode                                          one episode: ask, act, judge
    execution   Execution, make_chunks                               which action of which chunk is executed now
    realtime    RealTimePolicy                                       a robot's control loop: asks while it acts
    recorder    EpisodeLog, read_episodes, VideoWriter               episodes.jsonl and mp4
    recording   Recording                                            episodes kept as data
    robot       python -m drifting_vla_jax.robot --help      a real arm: robot/driver.py, robot/safety.py, robot/session.py

Needs numpy, absl, tqdm, pillow, imageio-ffmpeg and one simulator; never jax, flax, tensorflow or torch.
"""
