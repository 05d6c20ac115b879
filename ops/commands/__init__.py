"""One sub-command of `weir` per module, each with `register(app)`."""
