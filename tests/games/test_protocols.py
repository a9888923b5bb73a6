import dataclasses

import pytest

from games import PROTOCOLS, get_game, make_vector_env


def test_protocols_are_those_of_the_literature():
    classic, modern = PROTOCOLS["classic"], PROTOCOLS["modern"]
    assert (classic.noop_max, classic.repeat_action_probability) == (30, 0.0)
    assert (modern.noop_max, modern.repeat_action_probability) == (0, 0.25)
    assert (classic.life_loss_ends_return, modern.life_loss_ends_return) == (True, False)
    assert classic.max_episode_frames == modern.max_episode_frames == 108_000
    assert [p.name for p in PROTOCOLS.values()] == list(PROTOCOLS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noop_max", -1),
        ("repeat_action_probability", 1.0),
        ("repeat_action_probability", -0.1),
        ("max_episode_frames", 0),
    ],
)
def test_protocol_values_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(PROTOCOLS["classic"], **{field: value})


@pytest.mark.parametrize("numbers", [{"num_envs": 0}, {"num_threads": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(numbers):
    arguments = {"num_envs": 1, "num_threads": 1, "seed": 0, **numbers}
    with pytest.raises(ValueError, match=next(iter(numbers))):
        make_vector_env(get_game("pong"), protocol="classic", **arguments)
