"""Torch modules and the snapshots in which their weights travel. No Ray, no Redis in here."""
