"""The robosuite tasks that are offered: robosuite's class of each, and what a person would ask for.

Instructions name the thing and what is to become of it, as seen in the pictures, in at most 44 bytes.
"""

# {task: robosuite's class}
CLASSES: dict[str, str] = {
    "door": "Door",
    "lift": "Lift",
    "nut-assembly-square": "NutAssemblySquare",
    "pick-place-can": "PickPlaceCan",
    "stack": "Stack",
}

# {task: (the plain instruction, paraphrases...)}
INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "door": (
        "open the door",
        "turn the handle and pull the door open",
        "pull the door open by its handle",
        "unlatch the door and open it",
    ),
    "lift": (
        "lift the red cube",
        "pick up the cube",
        "raise the red block off the table",
        "take the cube and hold it up",
    ),
    "nut-assembly-square": (
        "put the square nut on the square peg",
        "fit the nut over the square peg",
        "pick up the nut and slide it on the peg",
        "place the square ring onto its peg",
    ),
    "pick-place-can": (
        "put the can into its bin",
        "move the can to the other bin",
        "pick up the red can and place it in the bin",
        "take the can over to the small bin",
    ),
    "stack": (
        "stack the red cube on the green cube",
        "put the red block on top of the green one",
        "place the red cube onto the green cube",
        "set the red block on the green block",
    ),
}
