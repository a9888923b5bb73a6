"""When a teacher is said to be worse than its card: the rule on numbers worked out by hand."""

import math

import numpy as np
import pytest

from games.registry import get_game
from teachers.card import ScoreRecord
from teachers.expert import load_expert
from teachers.shipped import shipped_experts
from teachers.verify import Measured, compare, measure

PONG = get_game("pong")  # random -20.7, human 14.6
CARD = Measured(mean=16.0, std=3.0, episodes=36)


def played(mean: float, std: float = 3.0, episodes: int = 12) -> Measured:
    return Measured(mean=mean, std=std, episodes=episodes)


@pytest.mark.parametrize(
    ("mean", "finding"),
    [
        (18.0, "as its card says"),
        (13.1, "as its card says"),
        # Surely lower, but by less than a quarter of the way to random play.
        (10.0, "as its card says"),
        (6.9, "as its card says"),
        (6.7, "far below its card"),
        (-10.0, "far below its card"),
        # Two standard errors of 12 episodes are 1.73; a tenth of the way up is -17.03.
        (-18.7, "far below its card"),
        (-18.8, "near random"),
        (-21.0, "near random"),
    ],
)
def test_what_is_found_depends_on_errors_and_on_the_normalized_score(mean, finding):
    assert compare(played(mean), CARD, PONG).finding == finding


def test_without_a_score_on_the_card_the_human_score_tells_random_play():
    assert compare(played(5.0), None, PONG).finding == "plays"
    compared = compare(played(-20.9), None, PONG)
    assert compared.finding == "near random"
    assert compared.is_alarming
    assert (compared.errors_below, compared.normalized) == (None, None)


@pytest.mark.parametrize("game", shipped_experts())
@pytest.mark.parametrize("protocol", ["classic", "modern"])
@pytest.mark.parametrize("episodes", [1, 5, 30])
def test_a_shipped_expert_raises_no_false_alarm(game, protocol, episodes):
    """Ten thousand checks of a teacher that plays exactly as its card says."""
    card = load_expert(game).card.find_score(protocol=protocol)
    if card is None:
        pytest.skip(f"the card has no score by {protocol}")
    spec = get_game(game)
    rng = np.random.default_rng(0)
    draws = rng.normal(card.mean, card.std, (10_000, episodes))
    alarms = sum(compare(measure(row), card, spec).is_alarming for row in draws.tolist())
    assert alarms <= 20


@pytest.mark.parametrize("game", shipped_experts())
def test_a_shipped_expert_that_was_read_wrongly_is_found_out(game):
    """Five episodes of random play against its card, unless its scores spread too widely."""
    card = load_expert(game).card.find_score(protocol="classic")
    assert isinstance(card, ScoreRecord)
    spec = get_game(game)
    separation = (card.mean - spec.random_score) / card.std
    if separation < 3 * math.sqrt(1 / 5 + 1 / card.episodes):
        pytest.skip("five episodes cannot tell")
    random = Measured(mean=spec.random_score, std=card.std / 4, episodes=5)
    assert compare(random, card, spec).is_alarming
