"""Transitions in memory."""
