"""Every game that ale-py has, old and odd ones among them, under the same few rules."""

import dataclasses

import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms

from games import ATARI_GAMES, PROTOCOLS, get_game, make_vector_env

FOR_TWO = ("combat", "joust", "maze_craze", "warlords")
GAMES = sorted(set(roms.get_all_rom_ids()) - set(FOR_TWO))
SHORT = dataclasses.replace(PROTOCOLS["classic"], max_episode_frames=160)


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_a_game_is_made_plays_and_ends_with_the_emulators_own_actions(game):
    spec = get_game(game)
    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.loadROM(roms.get_rom_path(game))
    assert spec.legal_actions == tuple(a.value for a in emulator.getMinimalActionSet())
    assert (spec.num_actions, spec.observation_shape) == (18, (4, 84, 84))
    assert (spec.human_score is None) == (game not in ATARI_GAMES)
    env = make_vector_env(spec, num_envs=2, protocol=SHORT, seed=0)
    rng = np.random.default_rng(0)
    env.reset()
    ended, is_shown = np.zeros(2, bool), False
    for _ in range(41):
        step = env.step(rng.choice(spec.legal_actions, 2))
        is_shown |= bool(step.observations.any())
        assert np.isfinite(step.rewards).all()
        assert not (step.terminated & step.truncated).any()
        ended |= step.terminated | step.truncated
    assert ended.all()
    assert is_shown, "nothing but black screens"
    env.close()


def test_the_table_has_the_57_games_of_the_literature_with_both_scores():
    assert len(ATARI_GAMES) == 57
    assert set(ATARI_GAMES) <= set(GAMES)
    for spec in ATARI_GAMES.values():
        assert spec.random_score < spec.human_score


@pytest.mark.parametrize("game", FOR_TWO)
def test_a_game_for_two_is_refused(game):
    with pytest.raises(ValueError, match=f"'{game}' is a game for two players"):
        get_game(game)


def test_a_game_without_scores_has_flavours_too():
    spec = get_game("adventure@mode=2")
    assert spec.name == "adventure_mode2_difficulty0"
    assert spec.legal_actions == get_game("adventure").legal_actions
