"""Replay on disk."""
