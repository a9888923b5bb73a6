"""What launch/bench.py measures: one module for each part of the system, each with a `run`."""
