"""Doom by ViZDoom: eight scenarios in the first person (Kempka et al. 2016, arXiv:1605.02097).

    doom_basic                    a step is 4 tics, an observation the last 4 gray pictures, 84x84
    doom_basic@skip=8,size=42     the same scenario with other steps and pictures, as another game

Joint actions are single buttons: 0 nothing, 1 attack, 2 and 3 step left and right, 4 and 5 turn
left and right, 6 forward, 7 backward; a scenario accepts those of its configuration, and nothing.
Rewards are the scenario's, summed over a step. A frame is a tic; 35 of them are a second.

The package `vizdoom`, with its own levels, is optional and imported when an environment is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from games.gym import GymEnv, register_gym_game
from games.options import parse_options, suffix_of
from games.registry import register_finder
from games.spec import GameSpec

PREFIX = "doom_"
# ViZDoom's names; joint action k is the button before it in this row.
BUTTONS = (
    "ATTACK", "MOVE_LEFT", "MOVE_RIGHT", "TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD",
    "MOVE_BACKWARD",
)  # fmt: skip
_TURNING = (0, 4, 5)

# Scenario: joint actions, score of random play.
#
# Random scores were measured with this module: mean return of uniformly random legal actions under
# the protocol `classic`, 4 tics each, 100 episodes; standard errors 18 in basic, 4 in the corridor,
# 13 in take_cover, 11 in health_gathering, 0.3 in defend_the_line and below 0.1 elsewhere.
_SCENARIOS: Mapping[str, tuple[tuple[int, ...], float]] = MappingProxyType(
    {
        "basic": ((0, 1, 2, 3), -157.0),
        "deadly_corridor": (tuple(range(8)), -86.2),
        "defend_the_center": ((0, 1, 4, 5), 0.1),
        "defend_the_line": ((0, 1, 4, 5), 7.6),
        "health_gathering": ((*_TURNING, 6), 382.0),
        "my_way_home": ((0, 2, 3, 4, 5, 6), -0.12),
        "predict_position": ((0, 1, 4, 5), -0.02),
        "take_cover": ((0, 2, 3), 280.0),
    }
)
DOOM_SCENARIOS = tuple(_SCENARIOS)
_DEFAULTS: Mapping[str, int] = MappingProxyType({"skip": 4, "size": 84, "stack": 4})


def find_doom(name: str) -> GameSpec | None:
    """Register the scenario that `name` stands for; None for a name of another family.

    Raises:
        ValueError: there is no such scenario, or it is given options that there are not.
    """
    if not name.startswith(PREFIX):
        return None
    scenario, separator, settings = name.removeprefix(PREFIX).partition("@")
    if not separator:
        scenario, settings = _taken_apart(scenario)
    if scenario not in _SCENARIOS:
        known = ", ".join(PREFIX + known for known in _SCENARIOS)
        raise ValueError(f"there is no game {name!r}; ViZDoom's are {known}")
    options = parse_options(settings, _DEFAULTS, max_digits=3)
    if options is None:
        raise ValueError(f"{name!r} has options that are not known; write @skip=4,size=84,stack=4")
    legal, random_score = _SCENARIOS[scenario]
    spec = GameSpec(
        name=PREFIX + scenario + suffix_of(options, _DEFAULTS),
        family="doom",
        num_actions=len(BUTTONS) + 1,
        legal_actions=legal,
        frame_shape=(1, options["size"], options["size"]),
        num_stack=options["stack"],
        frames_per_step=options["skip"],
        random_score=random_score,
    )
    register_gym_game(spec, partial(_make, scenario, spec))
    return spec


def _taken_apart(text: str) -> tuple[str, str]:
    """Scenario and options of a game's own name: basic_skip8_size42."""
    options = re.findall(r"_(skip|size|stack)(\d+)", text)
    return re.sub(r"(_(skip|size|stack)\d+)+$", "", text), ",".join(map("=".join, options))


def _make(scenario: str, spec: GameSpec) -> GymEnv:
    # Not above: it needs Gymnasium, which a command line that only names games does without.
    from games.doom_env import DoomEnv

    return DoomEnv(
        scenario,
        [BUTTONS[action - 1] for action in spec.legal_actions if action],
        frames_per_step=spec.frames_per_step,
        size=spec.frame_shape[1],
    )


register_finder(find_doom)
