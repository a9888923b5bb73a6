"""The counting game itself: what its frames say, and that damage of any kind is noticed."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import counting
import numpy as np
import pytest
from counting import CountingEnvs, Schedule, check_stacks, expected_entries, read_tags

from games.registry import get_game, make_vector_env

SUPPORT = Path(counting.__file__).parent


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


@pytest.mark.parametrize("name", sorted(counting.SCHEDULES))
def test_an_environment_does_what_its_schedule_says(name):
    schedule = counting.SCHEDULES[name]
    env = make_vector_env(get_game(name), num_envs=3, protocol="classic", seed=3_000_000_019)
    history = play(env, 60)
    for index in range(3):
        expected = {entry.clock: entry for entry in expected_entries(schedule, index, num_rows=60)}
        for clock, (observations, step) in enumerate(history):
            tags = check_stacks(observations)
            assert tags.seed[index] == 3_000_000_019
            assert tags.clock[index] == clock
            entry = expected.get(clock)
            assert step.restarted[index] == (entry is None or not entry.is_transition)
            if entry is None:
                continue
            assert (tags.episode[index], tags.step[index]) == (entry.episode, entry.step)
            assert step.terminated[index] == entry.terminated
            assert step.life_lost[index] == entry.life_lost
            follower = expected.get(clock + 1)
            if follower is not None:
                assert step.truncated[index] == (not follower.is_transition)


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


def test_frames_tell_every_environment_and_every_step_apart():
    seen = set()
    for spec in (counting.ENDS, counting.CUTS):
        for seed in (0, 1):
            env = make_vector_env(spec, num_envs=2, protocol="classic", seed=seed)
            seen |= {frame.tobytes() for o, _ in play(env, 40) for frame in o[:, -1]}
    assert len(seen) == 2 * 2 * 2 * 40


def test_a_frame_says_which_action_led_to_it():
    env = CountingEnvs(counting.LIVES, Schedule(lengths=(2,)), num_envs=2)
    env.reset()
    frames = [env.step(np.array(actions)).observations[:, -1:] for actions in [(1, 4), (0, 5)]]
    assert [read_tags(frame).action.tolist() for frame in frames] == [[1, 4], [0, 5]]
    restarted = env.step(np.array([3, 3])).observations[:, -1:]
    assert read_tags(restarted).action.tolist() == [-1, -1]


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


def test_illegal_actions_are_refused_before_they_are_played():
    env = make_vector_env(counting.CUTS, num_envs=1, protocol="classic", seed=0)
    env.reset()
    with pytest.raises(ValueError, match="not legal"):
        env.step(np.array([0]))
    assert read_tags(env.step(np.array([1])).observations[:, -1:]).clock.tolist() == [1]


def test_it_plays_only_between_reset_and_close():
    env = make_vector_env(counting.ENDS, num_envs=1, protocol="classic", seed=0)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.array([0]))
    env.reset()
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="close"):
        env.step(np.array([0]))


def test_it_plays_the_same_in_another_process():
    code = (
        "import counting, numpy as np\n"
        "from games.registry import make_vector_env\n"
        "env = make_vector_env(counting.CUTS, num_envs=2, protocol='classic', seed=5)\n"
        "env.reset()\n"
        "for _ in range(9): step = env.step(np.full(2, 4))\n"
        "print(counting.check_stacks(step.observations).tuple_at(1))\n"
    )
    folders = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=True,
    )
    env = make_vector_env(counting.CUTS, num_envs=2, protocol="classic", seed=5)
    here = check_stacks(play(env, 9)[-1][1].observations).tuple_at(1)
    assert there.stdout.strip() == str(here)
