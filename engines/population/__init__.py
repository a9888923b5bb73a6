"""Carries populations: several runs that learn from each other, in turns or side by side."""
