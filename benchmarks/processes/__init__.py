"""Processes of this machine, as benchmarks see them."""
