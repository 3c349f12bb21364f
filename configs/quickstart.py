"""Five Meta-World tasks from images and instructions, trained and evaluated on a laptop's CPU.

    bash launch/quickstart.sh
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "quickstart"
    config.env.tasks = ("button-press-topdown", "drawer-close", "drawer-open", "door-open", "window-open")
    config.data.path = "data/quickstart"
    return config
