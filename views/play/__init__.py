"""Moments of play for people to look at: screens, pictures, films."""
