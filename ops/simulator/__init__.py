"""A fleet of simulated devices: fridges, freezers and rooms, with the faults that real ones have.

Everything but `feed` and `roster` is pure: a seed and a span of time give the same emissions, whenever and in however
many pieces they are asked for. `feed` publishes them, `roster` finds out as which devices.
"""
