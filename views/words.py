"""Numbers in words."""

from __future__ import annotations


def number(value: float | None, digits: int = 0) -> str:
    """With thousands separated; "-" where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def score(value: float | None) -> str:
    """One decimal where it matters."""
    return number(value, 1 if value is None or abs(value) < 1000 else 0)


def spread(mean: float | None, std: float | None) -> str:
    """A mean over episodes and their standard deviation."""
    return "-" if mean is None else f"{score(mean)} +- {score(std)}"


def percent(value: float | None) -> str:
    """Of a share; "-" where there is none."""
    return "-" if value is None else f"{value:.0%}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
