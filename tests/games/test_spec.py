import dataclasses

import numpy as np
import pytest

from games import registry as registry_module
from games.atari import AtariEnvs
from games.registry import get_game, register_game
from games.spec import GameSpec, human_normalized_score, normalized_score

TOY = GameSpec(
    name="toy",
    family="toys",
    num_actions=4,
    legal_actions=(0, 2),
    frame_shape=(3, 5, 7),
    num_stack=2,
    frames_per_step=1,
    random_score=None,
    human_score=None,
)


@pytest.fixture
def own_registry(monkeypatch):
    """Registrations of one test that no other test sees."""
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))


def test_legal_mask_marks_exactly_the_legal_joint_actions():
    mask = TOY.legal_mask()
    assert mask.dtype == np.bool_
    assert mask.tolist() == [True, False, True, False]


def test_misspelled_game_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"unknown game 'pnog'; did you mean 'pong'"):
        get_game("pnog")
    with pytest.raises(ValueError, match="did you mean 'space_invaders'"):
        get_game("SpaceInvaders")
    with pytest.raises(ValueError, match="did you mean 'pong'"):
        get_game("PongNoFrameskip-v4")


@pytest.mark.usefixtures("own_registry")
def test_name_of_another_game_cannot_be_taken():
    with pytest.raises(ValueError, match="a different game 'pong' is already registered"):
        register_game(dataclasses.replace(TOY, name="pong"), AtariEnvs)


@pytest.mark.usefixtures("own_registry")
def test_family_with_two_joint_action_sets_is_refused():
    register_game(TOY, AtariEnvs)
    with pytest.raises(ValueError, match=r"'toy2' has 5 joint actions.*'toys' has 4"):
        register_game(dataclasses.replace(TOY, name="toy2", num_actions=5), AtariEnvs)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "Space Invaders", "lower snake case"),
        ("name", "../pong", "lower snake case"),
        ("family", "", "lower snake case"),
        ("legal_actions", (), "ascending"),
        ("legal_actions", (2, 0), "ascending"),
        ("legal_actions", (0, 0), "ascending"),
        ("legal_actions", (-1, 0), r"0\.\.3"),
        ("legal_actions", (0, 4), r"0\.\.3"),
        ("frame_shape", (84, 84), "three positive sizes"),
        ("frame_shape", (0, 84, 84), "three positive sizes"),
        ("num_stack", 0, "at least 1"),
        ("frames_per_step", 0, "at least 1"),
    ],
)
def test_contradicting_fields_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TOY, **{field: value})


def test_normalized_score_is_zero_at_low_and_one_at_high():
    assert normalized_score(-20.7, -20.7, 14.6) == 0.0
    assert normalized_score(14.6, -20.7, 14.6) == 1.0
    assert normalized_score(5.0, 10.0, 20.0) == -0.5


@pytest.mark.parametrize(
    ("score", "low", "high"),
    [
        (1.0, None, 2.0),
        (1.0, 0.0, None),
        (1.0, 2.0, 2.0),
        (float("nan"), 0.0, 1.0),
        (1.0, float("-inf"), 1.0),
    ],
)
def test_undefined_normalized_score_is_none(score, low, high):
    assert normalized_score(score, low, high) is None


def test_human_normalized_score_uses_the_games_own_scores():
    # Breakout: random 1.7, human 30.5.
    assert human_normalized_score(16.1, get_game("breakout")) == pytest.approx(0.5)
    assert human_normalized_score(16.1, TOY) is None
