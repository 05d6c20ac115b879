"""Everything that leaves the stream: the store, live events, objects, dead letters."""
