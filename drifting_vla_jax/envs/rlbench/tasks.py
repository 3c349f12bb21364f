"""The 18 tasks on which language-conditioned policies are compared in RLBench (chosen by PerAct), who has them, the views.

A task is a file of ``env.tasks`` and a scene of the same name; this table is what is known without RLBench. Every other
task of an installed RLBench can be named too.
"""

from __future__ import annotations

TASKS = (
    "close_jar",
    "insert_onto_square_peg",
    "light_bulb_in",
    "meat_off_grill",
    "open_drawer",
    "place_cups",
    "place_shape_in_shape_sorter",
    "place_wine_at_rack_location",
    "push_buttons",
    "put_groceries_in_cupboard",
    "put_item_in_drawer",
    "put_money_in_safe",
    "reach_and_drag",
    "slide_block_to_color_target",
    "stack_blocks",
    "stack_cups",
    "sweep_to_dustpan_of_size",
    "turn_tap",
)

# Written for PerAct and never taken over by stepjam's RLBench. Its tasks of nearly the same names (stack_wine,
# slide_block_to_target, sweep_to_dustpan) are other tasks.
ONLY_PERACT = ("place_wine_at_rack_location", "slide_block_to_color_target", "sweep_to_dustpan_of_size")

SENSORS = {  # view, as demonstrations call it -> what the scene calls it
    "left_shoulder": "cam_over_shoulder_left",
    "right_shoulder": "cam_over_shoulder_right",
    "overhead": "cam_overhead",
    "wrist": "cam_wrist",
    "front": "cam_front",
}
CAMERAS = tuple(SENSORS)
