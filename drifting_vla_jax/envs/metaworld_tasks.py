"""What a person would ask for in each Meta-World task: {task: (the plain instruction, paraphrases...)}."""

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "button-press-topdown": (
        "press the button from above",
        "push the red button down",
        "press down on the button",
        "move over the button and press it",
        "push the button on top of the box",
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
    "door-open": (
        "open the door",
        "pull the door open by its handle",
        "swing the safe door open",
        "open the door of the safe",
        "pull the handle to open the door",
    ),
    "window-open": (
        "open the window",
        "slide the window open",
        "push the window handle to open it",
        "move the window to the open side",
        "slide the window pane open",
    ),
}
