"""Synthetic rooms: shapes, what a depth camera sees of them, and the truth to compare a measurement with.

Seeded: the same seed gives the same room, path and frames. Test, bench and demo data; nothing of the pipeline imports it.
"""
