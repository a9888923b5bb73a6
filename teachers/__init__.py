"""Experts: frozen networks for one game each, the cards that describe them, and their policies."""
