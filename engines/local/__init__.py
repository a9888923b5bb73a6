"""A run in one process: the same roles, in turns and in a fixed order."""
