"""The 50 Meta-World tasks in words: what a person would ask for, and how hard the literature calls each.

Instructions name the thing and what is to become of it, as seen in the pictures, in at most 44 bytes.
"""

# {task: (the plain instruction, paraphrases...)}
INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "assembly": (
        "put the ring on the peg",
        "pick up the wrench and put it on the peg",
        "place the ring over the red peg",
        "fit the nut onto the peg",
    ),
    "basketball": (
        "put the ball in the basket",
        "dunk the basketball",
        "drop the ball through the hoop",
        "lift the ball into the basket",
    ),
    "bin-picking": (
        "move the block to the other bin",
        "put the green block in the blue bin",
        "pick the block from the red bin to the blue",
        "take the block over to the blue bin",
    ),
    "box-close": (
        "close the box",
        "put the lid on the box",
        "pick up the cover and close the box",
        "cover the box with its lid",
    ),
    "button-press": (
        "press the button",
        "push the red button in",
        "press the button on the front of the box",
        "push the button from the side",
    ),
    "button-press-topdown": (
        "press the button from above",
        "push the red button down",
        "press down on the button",
        "move over the button and press it",
        "push the button on top of the box",
    ),
    "button-press-topdown-wall": (
        "press the button from above, past the wall",
        "go over the wall and push the button down",
        "reach over the wall to press the button",
        "press down on the button behind the wall",
    ),
    "button-press-wall": (
        "press the button behind the wall",
        "go around the wall and push the button in",
        "get past the wall and press the button",
        "push the red button, avoid the wall",
    ),
    "coffee-button": (
        "press the button of the coffee machine",
        "push the coffee button",
        "start the coffee machine",
        "turn on the coffee maker",
    ),
    "coffee-pull": (
        "pull the mug away from the coffee machine",
        "take the mug out of the coffee machine",
        "drag the cup out from the coffee maker",
        "pull the coffee cup to the goal",
    ),
    "coffee-push": (
        "push the mug under the coffee machine",
        "put the mug under the coffee maker",
        "move the cup to the coffee machine",
        "push the coffee cup to the machine",
    ),
    "dial-turn": (
        "turn the dial",
        "rotate the dial",
        "turn the knob",
        "twist the dial on the table",
    ),
    "disassemble": (
        "take the ring off the peg",
        "lift the wrench off the peg",
        "remove the ring from the red peg",
        "pull the nut up off the peg",
    ),
    "door-close": (
        "close the door",
        "push the door shut",
        "shut the safe door",
        "swing the door closed",
    ),
    "door-lock": (
        "lock the door",
        "turn the lock of the door",
        "rotate the lock to close it",
        "lock the safe",
    ),
    "door-open": (
        "open the door",
        "pull the door open by its handle",
        "swing the safe door open",
        "open the door of the safe",
        "pull the handle to open the door",
    ),
    "door-unlock": (
        "unlock the door",
        "turn the lock to open it",
        "rotate the lock of the door open",
        "unlock the safe",
    ),
    "drawer-close": (
        "close the drawer",
        "push the drawer shut",
        "shut the green drawer",
        "push the drawer all the way in",
        "slide the drawer closed",
    ),
    "drawer-open": (
        "open the drawer",
        "pull the drawer open",
        "slide the green drawer out",
        "pull the drawer by its handle",
        "open the green drawer",
    ),
    "faucet-close": (
        "close the faucet",
        "turn the faucet off",
        "turn the tap handle to close it",
        "shut off the tap",
    ),
    "faucet-open": (
        "open the faucet",
        "turn the faucet on",
        "turn the tap handle to open it",
        "turn on the tap",
    ),
    "hammer": (
        "hammer the nail in",
        "hit the nail with the hammer",
        "pick up the hammer and drive in the nail",
        "drive the nail into the box",
    ),
    "hand-insert": (
        "put the block in the hole",
        "insert the block into the hole",
        "push the hand with the block into the hole",
        "drop the brown block into the hole",
    ),
    "handle-press": (
        "press the handle down",
        "push down the red handle",
        "press down on the handle",
        "lower the handle",
    ),
    "handle-press-side": (
        "press the handle down from the side",
        "push down the handle at the side",
        "press the sideways handle down",
        "lower the handle on the right",
    ),
    "handle-pull": (
        "pull the handle up",
        "lift the red handle",
        "raise the handle",
        "pull up on the handle",
    ),
    "handle-pull-side": (
        "pull the handle up from the side",
        "lift the handle at the side",
        "raise the sideways handle",
        "pull up the handle on the right",
    ),
    "lever-pull": (
        "pull the lever up",
        "lift the lever",
        "raise the lever with the blue ball",
        "move the lever upwards",
    ),
    "peg-insert-side": (
        "insert the peg into the box",
        "put the green peg in the hole in the side",
        "push the peg sideways into the box",
        "pick up the peg and insert it",
    ),
    "peg-unplug-side": (
        "unplug the peg",
        "pull the plug out of the wall",
        "pull the peg out sideways",
        "take the peg out of its socket",
    ),
    "pick-out-of-hole": (
        "take the block out of the hole",
        "pick the red ball out of the hole",
        "lift the object from the hole to the goal",
        "get the ball out of the hole",
    ),
    "pick-place": (
        "pick up the block and take it to the goal",
        "carry the red block to the blue ball",
        "lift the block to the goal",
        "place the puck at the blue mark",
    ),
    "pick-place-wall": (
        "carry the block over the wall to the goal",
        "pick the block, take it past the wall",
        "lift the block over the wall",
        "place the block at the goal behind the wall",
    ),
    "plate-slide": (
        "slide the plate into the goal",
        "push the plate into the net",
        "slide the puck into the cabinet",
        "push the dark plate under the net",
    ),
    "plate-slide-back": (
        "slide the plate back out of the goal",
        "pull the plate out of the net",
        "slide the puck back to the robot",
        "get the plate out of the cabinet",
    ),
    "plate-slide-back-side": (
        "slide the plate out of the goal to the side",
        "pull the plate sideways out of the net",
        "slide the puck out to the side",
        "get the plate out of the side cabinet",
    ),
    "plate-slide-side": (
        "slide the plate sideways into the goal",
        "push the plate into the net at the side",
        "slide the puck into the side cabinet",
        "push the dark plate to the side net",
    ),
    "push": (
        "push the block to the goal",
        "slide the red block to the green ball",
        "move the block along the table to the goal",
        "push the puck to the green mark",
    ),
    "push-back": (
        "pull the block back to the goal",
        "drag the block back toward the robot",
        "move the brown block back to the green ball",
        "slide the puck back to the green mark",
    ),
    "push-wall": (
        "push the block around the wall to the goal",
        "slide the block past the wall",
        "get the block behind the wall to the goal",
        "move the puck around the wall",
    ),
    "reach": (
        "reach the red ball",
        "move the hand to the red ball",
        "go to the goal",
        "touch the red mark",
    ),
    "reach-wall": (
        "reach the red ball behind the wall",
        "move the hand past the wall to the goal",
        "go over the wall to the red ball",
        "get the hand to the mark behind the wall",
    ),
    "shelf-place": (
        "put the block on the shelf",
        "place the blue block onto the shelf",
        "pick up the block and set it on the shelf",
        "move the block into the shelf",
    ),
    "soccer": (
        "kick the ball into the goal",
        "push the ball into the goal",
        "score a goal",
        "move the soccer ball into the net",
    ),
    "stick-pull": (
        "pull the bottle with the stick",
        "hook the thermos with the stick and pull it",
        "use the blue stick to pull the thermos",
        "drag the bottle to the goal with the stick",
    ),
    "stick-push": (
        "push the bottle with the stick",
        "pick up the stick and push the thermos",
        "use the blue stick to push the thermos",
        "shove the bottle to the goal with the stick",
    ),
    "sweep": (
        "sweep the block off the table",
        "push the block off the side of the table",
        "sweep the brown block to the right",
        "brush the block away to the side",
    ),
    "sweep-into": (
        "sweep the block into the hole",
        "push the block into the hole",
        "brush the brown block into the hole",
        "slide the block along until it falls in",
    ),
    "window-close": (
        "close the window",
        "slide the window shut",
        "push the window handle to close it",
        "shut the window",
    ),
    "window-open": (
        "open the window",
        "slide the window open",
        "push the window handle to open it",
        "move the window to the open side",
        "slide the window pane open",
    ),
}

# The four groups that published Meta-World MT50 results are averaged over (each group's mean counts the same).
DIFFICULTY: dict[str, tuple[str, ...]] = {
    "medium": (
        "basketball", "bin-picking", "box-close", "coffee-pull", "coffee-push", "hammer", "peg-insert-side", "push-wall",
        "soccer", "sweep", "sweep-into",
    ),
    "hard": ("assembly", "hand-insert", "pick-out-of-hole", "pick-place", "push", "push-back"),
    "very hard": ("shelf-place", "disassemble", "stick-pull", "stick-push", "pick-place-wall"),
}  # fmt: skip
DIFFICULTY = {"easy": tuple(t for t in INSTRUCTIONS if not any(t in g for g in DIFFICULTY.values())), **DIFFICULTY}
