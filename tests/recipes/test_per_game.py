"""Settings of single games, as `game=value`."""

import pytest

from recipes.per_game import any_text, parse_per_game, positive_int

GAMES = ("pong", "boxing", "breakout")


def parse(*entries, default=1, convert=positive_int):
    return parse_per_game("actors", entries, GAMES, default=default, convert=convert)


def test_games_that_nothing_is_said_of_get_the_default():
    assert parse("boxing=4") == {"pong": 1, "boxing": 4, "breakout": 1}
    assert list(parse()) == list(GAMES)


def test_a_bare_value_is_for_all_games_not_named_wherever_it_stands():
    expected = {"pong": 2, "boxing": 4, "breakout": 2}
    assert parse("2", "boxing=4") == parse("boxing=4", "2") == expected


def test_a_value_may_contain_an_equals_sign_only_in_front_of_the_last():
    """Paths may; games' names never do."""
    with pytest.raises(ValueError, match="names a game that is not in this run"):
        parse("pong=a=b", convert=any_text, default="")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["pnog=2"], r"actors: 'pnog=2' names a game that is not in this run \(pong, boxing,"),
        (["pong=2", "pong=2"], "actors: 'pong' is given twice"),
        (["pong=0"], "actors: 'pong=0' has a bad value .*above 0"),
        (["pong=two"], "actors: 'pong=two' has a bad value"),
        (["pong="], "actors: 'pong=' has a bad value"),
        (["-1"], "actors: '-1' has a bad value"),
        (["1.5"], "actors: '1.5' has a bad value"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_option(entries, message):
    with pytest.raises(ValueError, match=message):
        parse(*entries)
