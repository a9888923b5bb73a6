"""The newest value of every figure of a run, of which those of a past stretch of time expire.

Imports nothing: the live page needs it before its first figures (records/rates.py brings torch).
"""

from __future__ import annotations

from typing import TypeAlias

Row: TypeAlias = dict[str, float]

# Last parts of the keys that records/rates.py has a value for only while two looks can be compared.
_NAMES = frozenset(
    {
        "steps_per_second", "samples_per_second", "inserts_per_second", "updates_per_second",
        "frames_per_second", "insert_waiting", "sample_waiting", "samples_per_insert",
        "seconds_left", "learner_busy", "learner_waiting", "learner_loading", "learner_held",
        "actor_stepping", "actor_network", "actor_waiting", "actor_held", "shard_busy",
    }
)  # fmt: skip
_PREFIXES = ("bytes/", "cpu/", "limit/")


def is_rate(key: str) -> bool:
    """Whether a figure is of the time between two looks, or is concluded from such figures."""
    return key.rpartition("/")[2] in _NAMES or key.startswith(_PREFIXES)


def take_look(latest: Row, look: Row) -> None:
    """Update the newest value of every key; a rate that the look lacks is unknown from now on.

    A learner that stands still, or has just been resumed, has no pace: one from before would be
    shown for minutes as if it went on.
    """
    for key in [key for key in latest if key not in look and is_rate(key)]:
        del latest[key]
    latest |= look
