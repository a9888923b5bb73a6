"""Where actors and shares go: to the games furthest from their teachers, a step at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.balance import Advice, Distances, GameLoad, balance


def standing(distance, actors=2, share=1.0, given_share=1.0):
    return GameLoad(distance=distance, actors=actors, share=share, given_share=given_share)


def after(games, advice):
    """The games when the advice has been followed."""
    return {
        name: standing(
            game.distance,
            advice.actors.get(name, game.actors),
            advice.shares.get(name, game.share),
            game.given_share,
        )
        for name, game in games.items()
    }


def test_an_actor_moves_from_the_nearest_game_to_the_furthest():
    games = {"pong": standing(0.1, 4), "boxing": standing(0.5, 4), "breakout": standing(0.9, 4)}
    assert balance(games, bound=2.0).actors == {"pong": 3, "breakout": 5}


def test_the_share_of_a_game_follows_its_distance_within_bounds():
    # Weights by hand: mean 0.4; 0.1 / 0.4 is below the bound of a half, 0.7 / 0.4 is 1.75.
    games = {"pong": standing(0.1), "boxing": standing(0.4), "breakout": standing(0.7)}
    shares = balance(games, bound=2.0).shares
    assert shares == {"pong": 0.5, "breakout": pytest.approx(1.75)}


def test_the_last_actor_of_a_game_stays():
    games = {name: standing(0.0, 1) for name in ("pong", "breakout", "seaquest", "enduro")}
    assert not balance(games | {"boxing": standing(1.0, 1)}, bound=10.0).actors


GAMES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.builds(
        standing, st.floats(0, 1), st.integers(1, 12), st.floats(0.3, 3.0), st.floats(0.3, 3.0)
    ),
    min_size=1,
)


@given(GAMES, st.floats(1.0, 10.0))
def test_it_comes_to_rest_and_keeps_its_promises(games, bound):
    """With distances that stay as they are, whatever the games began with."""
    total = sum(game.actors for game in games.values())
    for _ in range(total + 2):
        advice = balance(games, bound=bound)
        assert len(advice.actors) in (0, 2)
        games = after(games, advice)
        assert sum(game.actors for game in games.values()) == total
        assert all(game.actors >= 1 for game in games.values())
    assert balance(games, bound=bound) == Advice(), "it moves back again"
    for game in games.values():
        # What is out of bounds only stays where it is no further off than a change is worth.
        assert game.given_share / bound / 1.3 <= game.share <= game.given_share * bound * 1.3


@given(GAMES)
def test_a_small_change_of_the_distances_moves_nothing_back(games):
    """Hysteresis: what has just moved needs more than noise to move again."""
    moved = after(games, balance(games, bound=2.0))
    shaken = {
        name: standing(g.distance * 1.001, g.actors, g.share, g.given_share)
        for name, g in moved.items()
    }
    first, second = balance(games, bound=2.0).actors, balance(shaken, bound=2.0).actors
    for name in set(first) & set(second):
        up = first[name] > games[name].actors
        assert (second[name] > moved[name].actors) == up


def test_distance_is_of_the_newest_test():
    distances = Distances({"pong": (-20.0, 20.0), "boxing": (0.0, 10.0)})
    assert distances.known() == {}
    distances.observe({"test/pong/teacher_normalized": 0.25, "test/pong/kl": 9.0})
    distances.observe({"game/pong/return": 20.0})
    assert distances.known() == {"pong": 0.75}
    distances.observe({"test/pong/teacher_normalized": 1.5})
    assert distances.known() == {"pong": 0.0}
