"""Benchmarks: each prints JSON lines with ratios taken in one run on one machine."""
