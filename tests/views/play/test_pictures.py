"""Pictures of play, pixel by pixel: where the bars of both networks' probabilities end."""

import numpy as np
import pytest

from games.registry import get_game

pytest.importorskip("PIL")

from views.play.pictures import COLOURS, Painter
from views.play.playing import Moment

BLACK, TRACK = (17, 17, 17), (51, 51, 51)
PLAYED = 3
SHARES = {"teacher": {0: 0.25, 3: 0.75}, "student": {0: 1.0}}


@pytest.fixture(scope="module")
def pixels():
    """Of a moment of Pong with a screen that is all black, [H, W, 3]."""
    spec = get_game("pong")
    policies = {}
    for name, shares in SHARES.items():
        policies[name] = np.zeros(18, np.float32)
        for action, share in shares.items():
            policies[name][action] = share
    moment = Moment(
        screen=np.zeros((210, 160, 3), np.uint8), policies=policies, action=PLAYED, score=0.0,
        step=0, episode=0,
    )  # fmt: skip
    return np.asarray(Painter(spec, ("teacher", "student")).draw({"student": moment}))


def bars(pixels, action):
    """Rows of pixels through the upper and the lower bar of an action, without the margin."""
    row = get_game("pong").legal_actions.index(action)
    top = 4 + 12 + 210 + 4 + 9 * row  # Margin, head, screen, gap, and 9 pixels for each action.
    return pixels[top + 1, 4:], pixels[top + 4, 4:]


def length(row, colour):
    return int((row == colour).all(-1).sum())


def test_a_bar_is_as_long_as_its_networks_probability(pixels):
    for action in (0, 3, 1):
        for row, name, colour in zip(bars(pixels, action), SHARES, COLOURS, strict=True):
            share = SHARES[name].get(action, 0.0)
            # From pixel 74 to 159: 85 are the whole, and a bar begins with one more.
            expected = round(85 * share) + 1 if share else 0
            assert length(row, colour) == expected
            assert length(row, TRACK) == 86 - expected
            assert tuple(row[73]) == BLACK


def test_the_action_that_is_played_has_a_mark_and_no_other(pixels):
    marked = [
        action
        for action in get_game("pong").legal_actions
        if (bars(pixels, action)[1][:6] != BLACK).any()
    ]
    assert marked == [PLAYED]
