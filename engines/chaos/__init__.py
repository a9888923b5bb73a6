"""Ends processes and nodes of a run on purpose, and times its recovery."""
