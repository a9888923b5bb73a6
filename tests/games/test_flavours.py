"""Other modes and difficulties of Atari games: the same screens, other games."""

from dataclasses import replace

import numpy as np
import pytest

from games.env import get_protocol
from games.registry import get_game, make_vector_env
from recipes.config import RunConfig

# The emulator's own draws of no-ops cannot be repeated outside it.
PROTOCOL = replace(get_protocol("modern"), noop_max=0, max_episode_frames=1_600)


def play(game, *, num_steps=900, protocol=PROTOCOL):
    """Two environments, played at random across ends of episodes and of the time limit."""
    envs = make_vector_env(get_game(game), num_envs=2, protocol=protocol, seed=3)
    rng = np.random.default_rng(0)
    steps = [(envs.reset(),)]
    for _ in range(num_steps):
        step = envs.step(rng.choice(envs.spec.legal_actions, size=2))
        names = ("rewards", "terminated", "truncated", "life_lost", "restarted")
        steps.append((step.observations, *(getattr(step, name) for name in names)))
    envs.close()
    return [np.stack(column) for column in zip(*steps[1:], strict=True)]


@pytest.mark.parametrize("game", ["breakout", "seaquest", "enduro"])
def test_the_default_flavour_is_the_game_bit_for_bit(game):
    plain, flavoured = play(game), play(f"{game}@mode=0,difficulty=0")
    for theirs, ours in zip(plain, flavoured, strict=True):
        assert theirs.dtype == ours.dtype
        assert np.array_equal(theirs, ours)
    ended = plain[2] | plain[3]
    assert ended.any(0).all(), "no episode has ended: the restart was not compared"


def test_another_mode_is_another_game():
    plain, other = (play(game, num_steps=100)[0] for game in ("breakout", "breakout@mode=24"))
    assert not np.array_equal(plain, other)


def test_no_ops_begin_episodes_at_different_places():
    protocol = replace(PROTOCOL, noop_max=30, repeat_action_probability=0.0)
    envs = make_vector_env(get_game("freeway@mode=1"), num_envs=8, protocol=protocol, seed=0)
    observations = envs.reset()
    envs.close()
    assert len({frame.tobytes() for frame in observations}) > 2


def test_a_flavour_is_a_game_with_a_name_for_files_and_without_published_scores():
    spec = get_game("breakout@mode=4,difficulty=1")
    assert spec.name == "breakout_mode4_difficulty1"
    assert get_game(spec.name) == spec == get_game("breakout@difficulty=1,mode=4")
    base = get_game("breakout")
    assert (spec.legal_actions, spec.frame_shape) == (base.legal_actions, base.frame_shape)
    assert spec.human_score is None
    config = RunConfig(games=("breakout@mode=4", "pong"), num_steps=1)
    assert config.games == ("breakout_mode4_difficulty0", "pong")


@pytest.mark.parametrize(
    ("game", "message"),
    [
        ("breakout@mode=3", "breakout has no mode 3; it has 0, 4, 8"),
        ("robotank@difficulty=1", "robotank has no difficulty 1; it has 0$"),
        ("breakout@", "names no flavour"),
        ("breakout@mode=4,mode=8", "names no flavour"),
        ("breakout@speed=2", "names no flavour.*breakout@mode=4,difficulty=1"),
        ("minesweeper@mode=4", "unknown game"),
    ],
)
def test_what_a_game_does_not_have_is_one_line(game, message):
    with pytest.raises(ValueError, match=message):
        get_game(game)
