"""What others publish on Meta-World, for the page of results. Recalled, not checked: look at the sources before citing any of it.

The protocol of the first list: one network for all 50 tasks, language and one 480-pixel camera (corner2), 50 demonstrations
per task, at most 500 simulator steps, an episode ends at its first success, 10 episodes per task; the mean over the tasks
of each difficulty group, then over the four groups. The second list's is another: a policy for each of 37 tasks of Adroit
and Meta-World, from point clouds, 10 demonstrations each.
"""

from drifting_vla_jax.envs.info import Published

MT50 = "one network, 50 tasks"
SINGLE = "a policy per task, 37 tasks"
MT50_SOURCE = "arXiv 2506.01844, 2511.04555"
RECALLED = "recalled, not checked"

# policy, parameters, percent, protocol, source
FIGURES = (
    ("Diffusion Policy", "-", "10.5", MT50, MT50_SOURCE),
    ("TinyVLA", "-", "31.6", MT50, MT50_SOURCE),
    ("pi0", "3.5 B", "47.9 to 50.5", MT50, MT50_SOURCE),
    ("SmolVLA", "0.24 B", "57.0", MT50, MT50_SOURCE),
    ("SmolVLA", "0.45 B", "57.3", MT50, MT50_SOURCE),
    ("SmolVLA", "2.25 B", "68.2", MT50, MT50_SOURCE),
    ("Evo-1", "0.77 B", "80.6", MT50, MT50_SOURCE),
    ("DP3", "-", "68.7", SINGLE, "-"),
    ("MP1", "-", "78.9", SINGLE, "-"),
    ("OMP", "-", "82.3", SINGLE, "-"),
    ("DBP", "-", "88.4", SINGLE, "-"),
)

PUBLISHED = Published(
    note=(
        f'Percent, {RECALLED}. "{MT50}": language and one camera of 480 px, 50 demonstrations per task, the mean of the four '
        f'groups; to be compared with ours above where it has all four. "{SINGLE}": point clouds, 10 demonstrations, tasks of '
        "Adroit and Meta-World."
    ),
    protocol="Published: at most 500 simulator steps, one view of 480 px, one network for 50 tasks.",
    rows=tuple((*row, RECALLED) for row in FIGURES),
)
