"""ViZDoom's scenarios; test_contract.py checks what they share with every game."""

import sys

import numpy as np
import pytest

from games import DOOM_SCENARIOS, get_game, make_vector_env
from games.registry import try_game
from recipes.config import RunConfig


def test_options_are_part_of_the_game_and_its_name_finds_it_again():
    spec = get_game("doom_basic@skip=8,size=42,stack=2")
    assert spec.name == "doom_basic_skip8_size42_stack2"
    assert get_game(spec.name) == spec
    assert (spec.observation_shape, spec.frames_per_step) == ((2, 42, 42), 8)
    assert get_game("doom_basic").observation_shape == (4, 84, 84)
    assert RunConfig(games=("doom_basic@size=42",), num_steps=1).games == ("doom_basic_size42",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("doom_nowhere", "there is no game 'doom_nowhere'; ViZDoom's are doom_basic, "),
        ("doom_basic@speed=3", "options that are not known"),
        ("doom_basic@size", "options that are not known"),
        ("doom_basic@size=0", "three positive sizes"),
    ],
)
def test_what_is_no_scenario_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        get_game(name)


def test_a_missing_engine_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(ValueError, match="need the optional package vizdoom; install it with"):
        try_game(get_game("doom_basic"), "classic")


# With the engine


@pytest.mark.parametrize("scenario", DOOM_SCENARIOS)
def test_every_scenario_has_the_buttons_of_its_own_configuration(scenario):
    vizdoom = pytest.importorskip("vizdoom")
    from games.doom import BUTTONS

    game = vizdoom.DoomGame()
    game.load_config(f"{vizdoom.scenarios_path}/{scenario}.cfg")
    theirs = {button.name for button in game.get_available_buttons()}
    spec = get_game(f"doom_{scenario}")
    assert {BUTTONS[action - 1] for action in spec.legal_actions if action} == theirs
    assert spec.random_score is not None


def test_the_same_action_turns_and_steps_in_every_scenario(tmp_path, monkeypatch):
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    env = make_vector_env(get_game("doom_basic"), num_envs=1, protocol="classic", seed=0)
    before = env.reset()[0, -1]
    waiting = [env.step(np.array([0])).observations[0, -1] for _ in range(3)][-1]
    stepping = [env.step(np.array([2])).observations[0, -1] for _ in range(3)][-1]
    env.close()
    # Who waits sees the same walls; who steps aside does not.
    walls = slice(0, 30)
    moved = np.abs(stepping[walls].astype(int) - waiting[walls]).mean()
    assert moved > 3 * np.abs(waiting[walls].astype(int) - before[walls]).mean()
    assert list(tmp_path.iterdir()) == [], "the engine has left files where it was started"
