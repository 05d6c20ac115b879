"""Pure computation: arrays or frames in, values out. Time is an argument; no I/O, no logging."""
