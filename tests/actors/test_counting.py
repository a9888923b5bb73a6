"""The counting game itself: what its frames say, and that damage of any kind is noticed."""

import dataclasses

import counting
import numpy as np
import pytest
from counting import CountingEnvs, Schedule, check_stacks, expected_entries, read_tags


def play(env, num_steps):
    """[(observations before, step)]"""
    observations = env.reset()
    action = env.spec.legal_actions[-1]
    history = []
    for _ in range(num_steps):
        step = env.step(np.full(env.num_envs, action))
        history.append((observations, step))
        observations = step.observations
    return history


def test_an_expectation_written_out_by_hand():
    schedule = Schedule(lengths=(2, 1), cut_every=2, life_steps=1)
    entries = expected_entries(schedule, 0, num_rows=7)
    assert [dataclasses.astuple(entry) for entry in entries] == [
        # episode, step, clock, is_transition, terminated, life_lost
        (0, 0, 0, True, False, True),
        (0, 1, 1, True, True, True),
        (1, 0, 3, True, False, True),
        (1, 1, 4, False, False, False),
        (2, 0, 5, True, False, True),
        (2, 1, 6, True, True, True),
    ]
    assert [e.discount(life_loss_ends_return=False) for e in entries] == [1, 0, 1, 1, 1, 0]
    assert [e.discount(life_loss_ends_return=True) for e in entries] == [0, 0, 0, 1, 0, 0]


def test_a_mixed_or_blank_frame_is_noticed():
    env = CountingEnvs(counting.ENDS, Schedule(), num_envs=2)
    frames = env.reset()[:, -1:].copy()
    read_tags(frames)
    mixed = frames[:1].copy()
    mixed[..., 1, 0] += 1
    with pytest.raises(AssertionError, match="damaged"):
        read_tags(mixed)
    with pytest.raises(AssertionError, match="damaged"):
        read_tags(np.zeros_like(frames))


def broken_stacks():
    env = CountingEnvs(counting.ENDS, Schedule(lengths=(9, 4)), num_envs=2)
    steps = [o for o, _ in play(env, 8)]
    good = steps[5]
    repeated = good.copy()
    repeated[:, 0] = repeated[:, 1]
    swapped = good.copy()
    swapped[:, :2] = swapped[:, 1::-1]
    crossed = good.copy()
    crossed[:, 0] = steps[3][::-1, -1]
    late = steps[1].copy()
    late[:, 0] = steps[0][:, -1]
    lacking = good.copy()
    lacking[:, 0] = 0
    return {
        "repeated": repeated,
        "swapped": swapped,
        "other environment": crossed,
        "before the start": late,
        "lacking": lacking,
    }


@pytest.mark.parametrize("kind", sorted(broken_stacks()))
def test_a_wrong_stack_is_noticed(kind):
    with pytest.raises(AssertionError):
        check_stacks(broken_stacks()[kind])
