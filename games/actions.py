"""What the joint actions of a family are called, for people."""

from __future__ import annotations

from games.spec import GameSpec

_NAMES = {
    # The ALE's Action enumeration, in its order.
    "atari": (
        "noop", "fire", "up", "right", "left", "down", "up right", "up left", "down right",
        "down left", "up fire", "right fire", "left fire", "down fire", "up right fire",
        "up left fire", "down right fire", "down left fire",
    ),
    "minatar": ("nothing", "left", "up", "right", "down", "fire"),
    "doom": (
        "nothing", "attack", "step left", "step right", "turn left", "turn right", "forward",
        "backward",
    ),
    "dmlab": (
        "forward", "backward", "step left", "step right", "look left", "look right",
        "forward left", "forward right", "fire",
    ),
}  # fmt: skip


def action_names(spec: GameSpec) -> tuple[str, ...]:
    """One name for each joint action; numbers where the family has no names."""
    return _NAMES.get(spec.family) or tuple(f"action {i}" for i in range(spec.num_actions))
