"""Background work: partitions ahead of time, roll-ups, retention, clean-up, and the worker that runs it."""
