"""What every VectorEnv promises, checked on all kinds with the same tests."""

import dataclasses
import importlib.util
import sys

import fake_lab
import gymnasium
import numpy as np
import pytest

from games import PROTOCOLS, get_game, make_vector_env
from games import registry as registry_module
from games.gym import register_gym_game
from games.spec import GameSpec

CORRIDOR = GameSpec(
    name="corridor",
    family="corridors",
    num_actions=5,
    legal_actions=(0, 1, 4),  # With the last one, which -1 would find from the table's end.
    frame_shape=(1, 4, 6),
    num_stack=3,
    frames_per_step=2,
    random_score=0.0,
    human_score=None,
)


class Corridor(gymnasium.Env):
    """Walk 40 fields; the start is random, every step costs something, the end pays."""

    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.field = int(self.np_random.integers(20))
        return self.image(), {}

    def step(self, action):
        self.field += (1, 2, -1)[action]
        done = self.field >= 40
        return self.image(), 12.0 if done else -0.5, done, False, {}

    def image(self):
        return np.full((4, 6), 100 + self.field, dtype=np.uint8)


def needs(package, name):
    missing = importlib.util.find_spec(package) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"needs {package}"))


@pytest.fixture(
    params=[
        "breakout",
        "corridor",
        "dmlab_rooms_watermaze",
        needs("minatar", "minatar_breakout"),
        needs("vizdoom", "doom_take_cover@size=42,stack=2"),
    ]
)
def spec(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "deepmind_lab", fake_lab)
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))
    register_gym_game(CORRIDOR, Corridor)
    return get_game(request.param)


@pytest.fixture
def make(spec):
    """Builds the game, by default with random streams that show at once; closes it at the end."""
    envs = []

    def make_one(*, num_envs=2, seed=0, **changes):
        protocol = dataclasses.replace(PROTOCOLS["modern"], **{"noop_max": 30, **changes})
        envs.append(make_vector_env(spec, num_envs=num_envs, protocol=protocol, seed=seed))
        return envs[-1]

    yield make_one
    for env in envs:
        env.close()


def play(env, num_steps, seed=0):
    """Observations [T+1, N, ...], rewards [T, N] and steps of random legal play."""
    rng = np.random.default_rng(seed)
    observations, steps = [env.reset()], []
    for _ in range(num_steps):
        steps.append(env.step(rng.choice(env.spec.legal_actions, env.num_envs)))
        observations.append(steps[-1].observations)
    return np.stack(observations), np.stack([step.rewards for step in steps]), steps


def limit_of(spec, num_steps):
    return {"max_episode_frames": num_steps * spec.frames_per_step}


def test_shapes_and_types_are_as_the_spec_says(spec, make):
    env = make(num_envs=3)
    assert env.spec == spec
    assert env.num_envs == 3
    observations = env.reset()
    step = env.step(np.array([spec.legal_actions[-1]] * 3))
    for array in (observations, step.observations):
        assert array.shape == (3, *spec.observation_shape)
        assert array.dtype == np.uint8
    assert step.rewards.shape == (3,)
    assert step.rewards.dtype == np.float32
    for flags in (step.terminated, step.truncated, step.life_lost, step.restarted):
        assert flags.shape == (3,)
        assert flags.dtype == np.bool_


def test_first_observation_is_padded_with_zeros_and_the_newest_frame_is_last(spec, make):
    env = make()
    channels = spec.frame_shape[0]
    first = env.reset()
    assert not first[:, :-channels].any()
    assert first[:, -channels:].any()
    second = env.step(np.array([spec.legal_actions[0]] * 2)).observations
    assert np.array_equal(second[:, :-channels], first[:, channels:])


def test_same_seed_plays_the_same_over_several_episodes_and_resets(spec, make):
    runs = []
    for _ in range(2):
        env = make(seed=3, **limit_of(spec, 8))
        runs.append((play(env, 20), play(env, 10)))
    for (observations, rewards, _), (again, rewards_again, _) in zip(*runs, strict=True):
        assert np.array_equal(observations, again)
        assert np.array_equal(rewards, rewards_again)


def test_second_reset_goes_on_with_the_random_stream(make):
    env = make(num_envs=3)
    first, _, _ = play(env, 20)
    second, _, _ = play(env, 20)
    assert not np.array_equal(first, second)


def test_neighbouring_seeds_share_no_environments(spec, make):
    def games_of(seed):
        env = make(num_envs=4, seed=seed, repeat_action_probability=0.0)
        rng = np.random.default_rng(0)
        observations = [env.reset()]
        for _ in range(12):
            actions = np.full(4, rng.choice(spec.legal_actions))
            observations.append(env.step(actions).observations)
        return [np.stack(observations)[:, index].tobytes() for index in range(4)]

    # If seeds were counted up within a vector, all of these would be pairs of equals.
    pairs = list(zip(games_of(0)[1:], games_of(1)[:-1], strict=True))
    assert sum(a == b for a, b in pairs) < len(pairs)


def test_illegal_action_is_refused_and_nothing_has_been_played(spec, make):
    first_illegal = next(a for a in range(spec.num_actions + 1) if a not in spec.legal_actions)
    disturbed, calm = make(), make()
    legal = np.array([spec.legal_actions[1]] * 2)
    disturbed.reset()
    calm.reset()
    for wrong in (first_illegal, -1, spec.num_actions, 2**40):
        with pytest.raises(ValueError, match=rf"action {wrong} of environment 1 is not legal"):
            disturbed.step(np.array([legal[0], wrong]))
        ours, theirs = disturbed.step(legal), calm.step(legal)
        assert np.array_equal(ours.observations, theirs.observations)


def test_returned_arrays_stay_as_they_are(make):
    env = make()
    _, _, steps = play(env, 3)
    observations = [step.observations for step in steps]
    copies = [array.copy() for array in observations]
    flags = [(step.restarted.copy(), step.life_lost.copy()) for step in steps]
    # Whatever the caller does to them does not reach the environment either.
    twin = make()
    play(twin, 3)
    observations[-1][:] = 7
    assert np.array_equal(play_on(env, 20), play_on(twin, 20))
    assert all(np.array_equal(a, b) for a, b in zip(observations[:-1], copies[:-1], strict=True))
    for step, (restarted, life_lost) in zip(steps, flags, strict=True):
        assert np.array_equal(step.restarted, restarted)
        assert np.array_equal(step.life_lost, life_lost)


def play_on(env, num_steps):
    actions = np.array([env.spec.legal_actions[0]] * env.num_envs)
    return np.stack([env.step(actions).observations for _ in range(num_steps)])


def test_length_limit_truncates_and_the_next_step_only_restarts(spec, make):
    # Four steps are too few for any of these games to end by itself.
    env = make(**limit_of(spec, 4))
    channels = spec.frame_shape[0]
    _, rewards, steps = play(env, 14)
    for index, step in enumerate(steps):
        assert not step.terminated.any()
        # Episodes are steps 0-3, 5-8, 10-13; steps 4 and 9 restart.
        assert step.truncated.all() == (index % 5 == 3)
        assert step.restarted.all() == (index % 5 == 4)
        assert step.truncated.any() == step.truncated.all()
        assert step.restarted.any() == step.restarted.all()
        if index % 5 == 4:
            assert not rewards[index].any()
            assert not step.life_lost.any()
            assert not step.observations[:, :-channels].any()
            assert step.observations[:, -channels:].any()


def test_action_of_a_restarting_step_is_ignored(spec, make):
    outcomes = []
    for action in spec.legal_actions[:2]:
        env = make(**limit_of(spec, 4))
        env.reset()
        for _ in range(4):
            env.step(np.full(2, spec.legal_actions[0]))
        restart = env.step(np.full(2, action))
        assert restart.restarted.all()
        outcomes.append((restart.observations, play_on(env, 3)))
    for ours, theirs in zip(*outcomes, strict=True):
        assert np.array_equal(ours, theirs)


def test_reset_in_the_middle_of_an_episode_starts_a_new_one(spec, make):
    env = make(**limit_of(spec, 4))
    env.reset()
    actions = np.full(2, spec.legal_actions[0])
    for _ in range(4):
        step = env.step(actions)
    assert step.truncated.all()
    channels = spec.frame_shape[0]
    assert not env.reset()[:, :-channels].any()
    # The step after reset() plays: it does not restart what has just been restarted.
    assert not env.step(actions).restarted.any()
    assert not env.step(actions).truncated.any()


def test_stepping_before_reset_or_after_close_is_refused(spec, make):
    env = make()
    actions = np.full(2, spec.legal_actions[0])
    with pytest.raises(RuntimeError, match="reset"):
        env.step(actions)
    env.reset()
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="close"):
        env.step(actions)
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()
