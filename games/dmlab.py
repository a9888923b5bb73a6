"""DMLab-30: thirty tasks in the first person (Beattie et al. 2016, https://arxiv.org/abs/1612.03801).

    dmlab_rooms_watermaze                a task's training levels
    dmlab_rooms_watermaze_test           its test levels, whose maps are never trained on
    dmlab_rooms_watermaze@actions=15     with fifteen actions instead of nine

An observation is one picture in colour, 72x96. A step is 4 frames. The engine, `deepmind_lab`, is
on no package index; docs/games.md says where it comes from, and what of this was run against it.

Four tasks tell what to do in words. No network here reads words, so they are refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType

from games.gym import GymEnv, register_gym_game
from games.registry import register_finder
from games.spec import GameSpec

PREFIX = "dmlab_"

# Task: scores of random play and of people, as IMPALA's authors published them (Espeholt et al.
# 2018, https://arxiv.org/abs/1802.01561); episodes of the test levels.
_SCORES: Mapping[str, tuple[float, float]] = {
    "rooms_collect_good_objects": (0.073, 10.0),
    "rooms_exploit_deferred_effects": (8.501, 85.65),
    "rooms_select_nonmatching_object": (0.312, 65.9),
    "rooms_watermaze": (4.065, 54.0),
    "rooms_keys_doors_puzzle": (4.135, 53.8),
    "language_select_described_object": (-0.07, 389.5),
    "language_select_located_object": (1.929, 280.7),
    "language_execute_random_task": (-5.913, 254.05),
    "language_answer_quantitative_question": (-0.33, 184.5),
    "lasertag_one_opponent_small": (-0.224, 12.65),
    "lasertag_three_opponents_small": (-0.214, 18.55),
    "lasertag_one_opponent_large": (-0.083, 18.6),
    "lasertag_three_opponents_large": (-0.102, 31.5),
    "natlab_fixed_large_map": (2.173, 36.9),
    "natlab_varying_map_regrowth": (2.989, 24.45),
    "natlab_varying_map_randomized": (7.346, 42.35),
    "skymaze_irreversible_path_hard": (0.1, 100.0),
    "skymaze_irreversible_path_varied": (14.4, 100.0),
    "psychlab_arbitrary_visuomotor_mapping": (0.163, 58.75),
    "psychlab_continuous_recognition": (0.224, 58.3),
    "psychlab_sequential_comparison": (0.129, 39.5),
    "psychlab_visual_search": (0.085, 78.5),
    "explore_object_locations_small": (3.575, 74.45),
    "explore_object_locations_large": (4.673, 65.65),
    "explore_obstructed_goals_small": (6.76, 206.0),
    "explore_obstructed_goals_large": (2.61, 119.5),
    "explore_goal_locations_small": (7.66, 267.5),
    "explore_goal_locations_large": (3.14, 194.5),
    "explore_object_rewards_few": (2.073, 77.7),
    "explore_object_rewards_many": (2.438, 106.7),
}
DMLAB_30 = tuple(_SCORES)
# Their training and test levels are scripts of their own; the others' are one script.
_WITH_TWO_SCRIPTS = ("rooms_collect_good_objects", "rooms_exploit_deferred_effects")

# What an action does: look right and down, pixels a frame; strafe right; walk; fire; jump; crouch.
_Action = tuple[int, int, int, int, int, int, int]


def _action(
    right: int = 0, down: int = 0, strafe: int = 0, walk: int = 0, fire: int = 0
) -> _Action:
    return (right, down, strafe, walk, fire, 0, 0)


_MOVES = (_action(walk=1), _action(walk=-1), _action(strafe=-1), _action(strafe=1))
_FIRE = _action(fire=1)
ACTION_SETS: Mapping[int, tuple[_Action, ...]] = MappingProxyType(
    {
        # IMPALA's, in its order.
        9: (
            *_MOVES,
            *(_action(right=x) for x in (-20, 20)),
            *(_action(right=x, walk=1) for x in (-20, 20)),
            _FIRE,
        ),
        # That of multi-task PopArt (Hessel et al. 2018, https://arxiv.org/abs/1809.04474).
        15: (
            *_MOVES,
            *(_action(right=x) for x in (-10, 10, -60, 60)),
            *(_action(down=y) for y in (10, -10)),
            *(_action(right=x, walk=1) for x in (-10, 10, -60, 60)),
            _FIRE,
        ),
    }
)


def find_dmlab(name: str) -> GameSpec | None:
    """Register the task that `name` stands for; None for a name of another family.

    Raises:
        ValueError: there is no such task, no such action set, or the task needs language.
    """
    if not name.startswith(PREFIX):
        return None
    found = re.fullmatch(r"(\w+?)(_test)?(?:(?:@actions=|_actions)(\d+))?", name[len(PREFIX) :])
    task = found[1] if found else ""
    num_actions = int(found[3] or 9) if found else 0
    if task not in _SCORES:
        near = difflib.get_close_matches(task, DMLAB_30, n=3) or DMLAB_30
        raise ValueError(
            f"DMLab-30 has no task {name!r}; it has {', '.join(PREFIX + t for t in near)}"
            f"{', ...' if len(near) < len(DMLAB_30) else ''}"
        )
    if num_actions not in ACTION_SETS:
        raise ValueError(f"{name!r}: DMLab has sets of 9 and of 15 actions, not of {num_actions}")
    if task.startswith("language_"):
        raise ValueError(
            f"{name!r} tells what to do in words, which no network here reads; the other 26 tasks "
            "of DMLab-30 need none"
        )
    assert found is not None
    is_test = found[2] is not None
    suffix = "" if num_actions == 9 else f"_actions{num_actions}"
    random_score, human_score = _SCORES[task]
    spec = GameSpec(
        name=f"{PREFIX}{task}{found[2] or ''}{suffix}",
        family=f"dmlab{suffix}",
        num_actions=num_actions,
        legal_actions=tuple(range(num_actions)),
        frame_shape=(3, 72, 96),
        frames_per_step=4,
        random_score=random_score,
        human_score=human_score,
    )
    register_gym_game(spec, partial(_make, task, spec, is_test=is_test))
    return spec


def _make(task: str, spec: GameSpec, *, is_test: bool) -> GymEnv:
    # Not above: it needs Gymnasium, which a command line that only names games does without.
    from games.dmlab_env import DmlabEnv

    script = "" if task not in _WITH_TWO_SCRIPTS else "_test" if is_test else "_train"
    return DmlabEnv(
        f"contributed/dmlab30/{task}{script}",
        ACTION_SETS[spec.num_actions],
        frame_size=(spec.frame_shape[1], spec.frame_shape[2]),
        frames_per_step=spec.frames_per_step,
        holds_out_maps=is_test,
    )


def capped_mean_score(scores: Mapping[str, float], tasks: Iterable[str] = DMLAB_30) -> float:
    """Mean over tasks of human-normalized scores in percent, each at most 100, as is published.

    Args:
        scores: mean return by task, without `dmlab_`.
        tasks: those that count; all 30 in what is published.

    Raises:
        ValueError: a score is missing.
    """
    tasks = tuple(tasks)
    if missing := [task for task in tasks if task not in scores]:
        raise ValueError(f"scores of DMLab-30 are missing: {', '.join(missing)}")
    percents = []
    for task in tasks:
        low, high = _SCORES[task]
        percents.append(min(100.0, 100.0 * (scores[task] - low) / (high - low)))
    return sum(percents) / len(percents)


register_finder(find_dmlab)
