"""``securechat demo``: the main job end to end on this machine, with its own checks."""
