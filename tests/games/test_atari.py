"""The Atari table and environment, checked against emulators that are stepped frame by frame."""

import dataclasses
import itertools
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms

from games import ATARI_GAMES, PROTOCOLS, get_game, make_vector_env

GOLDEN = Path(__file__).parent / "golden"
PLAIN = dataclasses.replace(PROTOCOLS["modern"], name="plain", repeat_action_probability=0.0)


def make(name, *, num_envs=1, protocol=PLAIN, seed=0, **options):
    return make_vector_env(
        get_game(name), num_envs=num_envs, protocol=protocol, seed=seed, **options
    )


def load_emulator(name):
    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.setInt("random_seed", 0)
    emulator.loadROM(roms.get_rom_path(name))
    emulator.reset_game()
    return emulator


def area_weights(size_in, size_out):
    """[size_out, size_in]: how much of each output pixel is covered by each input pixel."""
    weights = np.zeros((size_out, size_in))
    scale = size_in / size_out
    for out in range(size_out):
        start, stop = out * scale, (out + 1) * scale
        for pixel in range(int(start), min(math.ceil(stop), size_in)):
            weights[out, pixel] = min(stop, pixel + 1) - max(start, pixel)
    return weights / scale


def preprocess(screens):
    """Pixel-wise maximum of gray screens, shrunk to 84x84 by area; float [84, 84]."""
    screen = np.maximum.reduce(screens).astype(np.float64)
    height, width = screen.shape
    return area_weights(height, 84) @ screen @ area_weights(width, 84).T


def assert_same_frame(frame, expected):
    # The C++ code resizes in 32-bit floats and rounds, so a level may fall either way.
    assert np.abs(frame - expected).max() <= 0.51


def test_legal_actions_are_the_emulators_minimal_sets():
    ALEInterface.setLoggerMode(LoggerMode.Error)
    for name, spec in ATARI_GAMES.items():
        emulator = ALEInterface()
        emulator.loadROM(roms.get_rom_path(name))
        minimal = tuple(action.value for action in emulator.getMinimalActionSet())
        assert spec.legal_actions == minimal, name


# Phoenix and Up'n Down have gaps in their action sets, Seaquest uses all 18, Demon Attack
# gives a bonus life within these steps, and rewards are far above 1 in all of them but Pong.
@pytest.mark.parametrize(
    ("name", "num_steps"),
    [
        ("pong", 120),
        ("phoenix", 120),
        ("up_n_down", 120),
        ("seaquest", 120),
        ("demon_attack", 340),
    ],
)
def test_steps_equal_an_emulator_stepped_frame_by_frame(name, num_steps):
    env, emulator = make(name), load_emulator(name)
    frames = [np.zeros((84, 84))] * 3 + [preprocess([emulator.getScreenGrayscale()])]
    rng = np.random.default_rng(1)
    lives, lives_seen, total_reward = emulator.lives(), [emulator.lives()], 0
    for index, frame in enumerate(env.reset()[0]):
        assert_same_frame(frame, frames[index])
    for _ in range(num_steps):
        action = int(rng.choice(env.spec.legal_actions))
        step = env.step(np.array([action]))

        screens, reward = [], 0
        for _ in range(4):
            reward += emulator.act(action)
            screens.append(emulator.getScreenGrayscale())
        frames = [*frames[1:], preprocess(screens[-2:])]

        assert not emulator.game_over()
        assert step.rewards[0] == reward
        assert step.life_lost[0] == (emulator.lives() < lives)
        for index, frame in enumerate(step.observations[0]):
            assert_same_frame(frame, frames[index])
        lives = emulator.lives()
        lives_seen.append(lives)
        total_reward += abs(reward)
    assert total_reward > 0
    if name == "demon_attack":
        assert max(np.diff(lives_seen)) > 0
        assert min(np.diff(lives_seen)) < 0


def play_until_end(env, seed=0, max_steps=3000):
    """Steps of random legal play until the first environment's episode is over."""
    rng = np.random.default_rng(seed)
    env.reset()
    steps = []
    while not steps or not (steps[-1].terminated[0] or steps[-1].truncated[0]):
        assert len(steps) < max_steps
        steps.append(env.step(rng.choice(env.spec.legal_actions, env.num_envs)))
    return steps


def test_breakout_is_played_through_all_lives_before_it_ends_and_restarts():
    env = make("breakout")
    steps = play_until_end(env)
    assert sum(step.life_lost[0] for step in steps) == 5
    assert steps[-1].terminated[0]
    assert steps[-1].life_lost[0]
    assert not steps[-1].truncated[0]
    assert not any(step.restarted[0] for step in steps)
    # No life loss restarted anything: every observation goes on from the one before.
    for before, after in itertools.pairwise(steps):
        assert np.array_equal(before.observations[0, 1:], after.observations[0, :-1])
        assert after.observations[0].any(axis=(1, 2)).sum() >= 2

    restart = env.step(np.array([3]))
    assert restart.restarted[0]
    assert (restart.rewards[0], restart.life_lost[0], restart.terminated[0]) == (0, False, False)
    assert not restart.observations[0, :3].any()
    assert restart.observations[0, 3].any()
    after = env.step(np.array([1]))
    assert not after.restarted[0]
    assert np.array_equal(after.observations[0, 2], restart.observations[0, 3])


def test_end_of_a_game_without_lives_counts_as_a_life_loss():
    # Pong reports 0 lives throughout; playing at random loses 0:21 in less than 1,500 steps.
    steps = play_until_end(make("pong"))
    assert sum(step.rewards[0] for step in steps if step.rewards[0] < 0) == -21
    assert steps[-1].terminated[0]
    assert [step.life_lost[0] for step in steps] == [False] * (len(steps) - 1) + [True]


def test_restart_with_fewer_lives_than_before_is_no_life_loss():
    # Demon Attack starts with 3 lives and shows 4 from the first step on.
    env = make("demon_attack", protocol=dataclasses.replace(PLAIN, max_episode_frames=8))
    env.reset()
    steps = [env.step(np.array([0])) for _ in range(3)]
    assert [bool(step.restarted[0]) for step in steps] == [False, False, True]
    assert not any(step.life_lost[0] for step in steps)


def test_game_that_ends_exactly_at_the_limit_is_terminated_only():
    num_steps = len(play_until_end(make("breakout")))
    at_limit = dataclasses.replace(PLAIN, max_episode_frames=4 * num_steps)
    last = play_until_end(make("breakout", protocol=at_limit))[-1]
    assert (last.terminated[0], last.truncated[0]) == (True, False)

    below = dataclasses.replace(PLAIN, max_episode_frames=4 * (num_steps - 1))
    steps = play_until_end(make("breakout", protocol=below))
    assert len(steps) == num_steps - 1
    assert (steps[-1].terminated[0], steps[-1].truncated[0]) == (False, True)


def test_no_op_starts_take_every_number_up_to_the_limit_and_no_other():
    # The first four screens of Asteroids all differ: the number can be read from them.
    emulator = load_emulator("asteroids")
    expected = [preprocess([emulator.getScreenGrayscale()])]
    for _ in range(3):
        emulator.act(0)
        expected.append(preprocess([emulator.getScreenGrayscale()]))
    env = make("asteroids", num_envs=6, protocol=dataclasses.replace(PLAIN, noop_max=2))
    counts = set()
    for observation in env.reset():
        errors = np.array([np.abs(observation[3] - frame).max() for frame in expected])
        assert (errors < 0.51).sum() == 1
        counts.add(int(errors.argmin()))
    assert counts == {0, 1, 2}


def test_sticky_actions_change_the_game_and_only_when_asked_for():
    def observations_under(repeat_action_probability):
        protocol = dataclasses.replace(PLAIN, repeat_action_probability=repeat_action_probability)
        env = make("pong", num_envs=2, protocol=protocol)
        env.reset()
        rng = np.random.default_rng(0)
        return np.stack([env.step(np.full(2, rng.choice((3, 4)))).observations for _ in range(40)])

    exact, sticky = observations_under(0.0), observations_under(0.25)
    assert (exact == exact[:, :1]).all()
    assert not (sticky == sticky[:, :1]).all()


def test_number_of_threads_does_not_change_the_game():
    runs = []
    for num_threads in (1, 2):
        env = make("pong", num_envs=2, protocol="classic", num_threads=num_threads)
        rng = np.random.default_rng(0)
        runs.append(
            [env.reset()]
            + [env.step(rng.choice(env.spec.legal_actions, 2)).observations for _ in range(30)]
        )
    assert np.array_equal(*runs)


def test_spec_with_actions_that_the_emulator_does_not_have_is_refused():
    spec = dataclasses.replace(get_game("pong"), legal_actions=(0, 1, 2))
    with pytest.raises(ValueError, match=r"plays 'pong' with the actions \(0, 1, 3, 4, 11, 12\)"):
        make_vector_env(spec, num_envs=1, protocol="classic", seed=0)


def test_observations_equal_those_of_gymnasiums_wrappers():
    pytest.importorskip("cv2")
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    gymnasium.register_envs(ale_py)
    env = make("breakout")
    reference = gymnasium.make("ALE/Breakout-v5", frameskip=1, repeat_action_probability=0.0)
    reference = AtariPreprocessing(reference, noop_max=0)
    reference = FrameStackObservation(reference, 4, padding_type="zero")
    expected, _ = reference.reset(seed=0)
    assert np.array_equal(env.reset()[0], expected)
    rng = np.random.default_rng(0)
    for _ in range(150):
        index = int(rng.integers(4))
        step = env.step(np.array([env.spec.legal_actions[index]]))
        expected, reward, _, _, _ = reference.step(index)
        assert np.array_equal(step.observations[0], expected)
        assert step.rewards[0] == reward
    reference.close()


def test_preprocessing_is_bit_for_bit_what_it_has_always_been():
    golden = json.loads((GOLDEN / "pong_classic.json").read_text())
    record = runpy.run_path(str(GOLDEN / "make_pong_classic.py"))["record_pong"]
    assert record() == golden
