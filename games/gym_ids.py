"""Games by their Gymnasium ids: `gym:ID`, with Gymnasium's own wrappers for what an option asks.

    gym:ID@skip=4,gray=1,size=84,stack=4

plays every action for four frames and keeps the brighter pixels of the last two, turns pictures
gray and into 84x84, and stacks four of them. Without an option nothing of that is done. Of these,
vectors of numbers can only be stacked.
`gym:ALE/Pong-v5` is the game that comes with this project, which says how it is played.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from games.gym import GymEnv, register_gym_game
from games.options import parse_options, suffix_of
from games.registry import get_game, snake_case
from games.spec import GameSpec

PREFIX = "gym:"
# Options and what they are where they are not given; 0 leaves the picture as large as it is.
_OPTIONS: Mapping[str, int] = {"skip": 1, "gray": 0, "size": 0, "stack": 1}


def register_gym_id(text: str, id_and_options: str) -> GameSpec:
    """Register the game of a Gymnasium id; ValueError for one that no network here can play.

    Args:
        text: as the user named it, for messages.
        id_and_options: `ID` or `ID@option=number,...`.
    """
    gym_id, _, settings = id_and_options.partition("@")
    # Those that show the emulator's memory, where there are any, are games of numbers.
    if gym_id.startswith("ALE/") and not settings and "-ram-" not in gym_id:
        return get_game(snake_case(gym_id))
    options = _parse_options(text, settings)
    env = _make(text, gym_id, options)
    try:
        spec = _spec_of(text, env, name=_name_of(gym_id, options), options=options)
    finally:
        env.close()
    # People see a game of pictures as its networks do; numbers need a drawing.
    draws = spec.is_vector and "rgb_array" in env.metadata.get("render_modes", ())
    drawing = {"render_mode": "rgb_array"} if draws else {}
    register_gym_game(spec, partial(_make, text, gym_id, options, **drawing))
    return spec


def _parse_options(text: str, settings: str) -> dict[str, int]:
    options = parse_options(settings, _OPTIONS, max_digits=4)
    if options is None:
        raise ValueError(
            f"{text!r} has options that are not known; write them like @skip=4,gray=1,size=84,"
            "stack=4"
        )
    return options


def _name_of(gym_id: str, options: Mapping[str, int]) -> str:
    """The game in files and metrics: gym_car_racing_v3_skip4."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", gym_id)
    bare = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return f"gym_{bare}{suffix_of(options, _OPTIONS)}"


def _make(text: str, gym_id: str, options: Mapping[str, int], **settings: Any) -> GymEnv:
    if settings and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        # Pictures are drawn in memory; SDL would complain that there is no screen.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    # Not above: a command line that only names games is read without Gymnasium.
    import gymnasium
    from gymnasium import wrappers

    try:
        env: GymEnv = gymnasium.make(gym_id, **settings)
        if options["skip"] > 1:
            env = wrappers.MaxAndSkipObservation(env, skip=options["skip"])
        if options["gray"]:
            env = wrappers.GrayscaleObservation(env)
        if options["size"]:
            env = wrappers.ResizeObservation(env, (options["size"], options["size"]))
    # Its wrappers assert, or check, what they need of an observation.
    except (gymnasium.error.Error, ImportError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{text!r} cannot be made by Gymnasium: {reason}") from None
    return env


def _spec_of(text: str, env: GymEnv, *, name: str, options: Mapping[str, int]) -> GameSpec:
    import gymnasium

    actions: Any = env.action_space
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise ValueError(f"{text!r} has the actions {actions}, but only Discrete ones are played")
    num_actions = int(actions.n)
    return GameSpec(
        name=name,
        # Ids have no common meaning of actions; games with as many of them may share a student.
        family=f"gym_{num_actions}_actions",
        num_actions=num_actions,
        legal_actions=tuple(range(num_actions)),
        frame_shape=_frame_shape_of(text, env, options),
        num_stack=options["stack"],
        frames_per_step=options["skip"],
        random_score=None,
        human_score=None,
    )


def _frame_shape_of(text: str, env: GymEnv, options: Mapping[str, int]) -> tuple[int, ...]:
    """[C, H, W] of an image, or the length of a vector; ValueError for anything else."""
    import gymnasium

    seen = env.observation_space
    shape = seen.shape or ()
    if seen.dtype == np.uint8 and len(shape) in (2, 3):
        height, width, channels = (*shape, 1)[:3]
        return (channels, height, width)
    if not isinstance(seen, gymnasium.spaces.Box) or len(shape) != 1:
        raise ValueError(
            f"{text!r} shows {seen.dtype} {list(shape)}, but torsos see uint8 images [H, W] or "
            "[H, W, C], or numbers in one dimension; register the game in a module of your own "
            "with a to_frame function (docs/games.md)"
        )
    if options["skip"] > 1:
        raise ValueError(
            f"{text!r} shows numbers, of which skip cannot keep the brighter ones; leave it out"
        )
    return (shape[0],)
