"""What is particular to Gymnasium environments; test_contract.py checks the rest."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from games import PROTOCOLS, make_vector_env
from games import registry as registry_module
from games.camera import vector_to_picture
from games.gym import image_to_frame, register_gym_game
from games.single_env import GameEnv
from games.spec import GameSpec

SPEC = GameSpec(
    name="counter",
    family="counters",
    num_actions=6,
    legal_actions=(1, 2, 5),
    frame_shape=(2, 3, 4),
    num_stack=2,
    frames_per_step=1,
    random_score=None,
    human_score=None,
)
PLAIN = dataclasses.replace(PROTOCOLS["modern"], name="plain", repeat_action_probability=0.0)


class Counter(gymnasium.Env):
    """Shows how many steps were played; keeps the actions it was given; can lose lives."""

    def __init__(self, *, actions=None, length=1000, lives=None, cut_at=None):
        self.action_space = actions or gymnasium.spaces.Discrete(3)
        self.length, self.lives, self.cut_at = length, lives, cut_at
        self.given, self.seeds, self.closed = [], [], False

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.count = 0
        return self.image(), self.info()

    def step(self, action):
        self.given.append(int(action))
        self.count += 1
        return (
            self.image(),
            float(10 * self.count),
            self.count == self.length,
            self.count == self.cut_at,
            self.info(),
        )

    def close(self):
        self.closed = True

    def image(self):
        return np.full((3, 4, 2), min(self.count + 1, 255), dtype=np.uint8)

    def info(self):
        return {} if self.lives is None else {"lives": self.lives[self.count]}


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))


def make(*made, num_envs=None, protocol=PLAIN, spec=SPEC, seed=0):
    """A vector of exactly the given environments."""
    waiting = list(made)
    register_gym_game(spec, lambda: waiting.pop(0))
    return make_vector_env(spec, num_envs=num_envs or len(made), protocol=protocol, seed=seed)


def test_frames_are_stacked_newest_last_and_padded_with_zeros():
    env = make(Counter())
    assert env.reset()[0, :, 0, 0].tolist() == [0, 0, 1, 1]
    assert env.step(np.array([1])).observations[0, :, 0, 0].tolist() == [1, 1, 2, 2]
    assert env.step(np.array([1])).observations[0, :, 0, 0].tolist() == [2, 2, 3, 3]


def test_environment_with_one_action_per_legal_one_is_given_their_index():
    counter = Counter()
    env = make(counter)
    env.reset()
    for action in (5, 1, 2):
        env.step(np.array([action]))
    assert counter.given == [2, 0, 1]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (gymnasium.spaces.Discrete(4), "has 4 actions, but its spec has 3 legal ones out of 6"),
        (gymnasium.spaces.Box(0, 1), "needs a Discrete action space"),
    ],
)
def test_action_space_that_does_not_fit_is_refused(actions, message):
    with pytest.raises(ValueError, match=message):
        make(Counter(actions=actions))


def test_environments_end_and_restart_each_for_itself():
    short, long = Counter(length=2), Counter(length=5)
    env = make(short, long)
    env.reset()
    steps = [env.step(np.array([1, 1])) for _ in range(7)]
    assert [step.terminated.tolist() for step in steps] == [
        [False, False],
        [True, False],
        [False, False],
        [False, False],
        [True, True],
        [False, False],
        [False, False],
    ]
    restarted = [step.restarted.tolist() for step in steps]
    assert restarted[2] == [True, False]
    assert restarted[5] == [True, True]
    assert sum(map(sum, restarted)) == 3
    # A restarting step reached neither the environment nor the rewards.
    assert [step.rewards.tolist() for step in steps[:4]] == [[10, 10], [20, 20], [0, 30], [10, 40]]
    assert len(short.given) == 5
    assert all((step.life_lost == step.terminated).all() for step in steps)


def test_real_end_at_the_limit_is_terminated_only():
    at_limit = dataclasses.replace(PLAIN, max_episode_frames=2)
    env = make(Counter(length=2), Counter(length=3), protocol=at_limit)
    env.reset()
    env.step(np.array([1, 1]))
    step = env.step(np.array([1, 1]))
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [False, True]
    assert step.life_lost.tolist() == [True, False]


def test_only_fewer_lives_are_a_life_loss():
    env = make(Counter(lives=[3, 3, 2, 4, 4, 3], length=5))
    env.reset()
    steps = [env.step(np.array([1])) for _ in range(6)]
    assert [bool(step.life_lost[0]) for step in steps] == [False, True, False, False, True, False]


def test_sticky_actions_repeat_the_action_that_was_played_at_the_given_rate():
    counter = Counter(length=10**6)
    sticky = dataclasses.replace(PLAIN, repeat_action_probability=0.25, max_episode_frames=10**6)
    env = make(counter, protocol=sticky)
    env.reset()
    chosen = [(0, 1, 2)[index % 3] for index in range(4000)]
    for index in chosen:
        env.step(np.array([SPEC.legal_actions[index]]))
    given = counter.given
    assert given[0] == chosen[0]
    assert all(g in (c, p) for g, c, p in zip(given[1:], chosen[1:], given[:-1], strict=True))
    # After two repeats in a row the chosen action equals the repeated one again, and cannot be
    # told from it; what is left is 0.25 * (1 - 0.25**2 + 0.25**3 - ...), which is 0.238 or so.
    changed = np.mean([g != c for g, c in zip(given, chosen, strict=True)])
    assert 0.21 < changed < 0.26


@pytest.mark.parametrize("observation", [np.zeros(4, dtype=np.uint8), np.zeros((3, 4))])
def test_observation_that_is_no_image_asks_for_a_function(observation):
    with pytest.raises(ValueError, match="to_frame"):
        image_to_frame(observation)


def test_environment_of_gymnasium_itself_is_played_through_to_frame():
    spec = dataclasses.replace(
        SPEC,
        name="cart_pole",
        family="classic_control",
        num_actions=2,
        legal_actions=(0, 1),
        frame_shape=(4, 1, 1),
        num_stack=1,
    )

    def to_frame(observation):
        return np.clip(128 + 50 * observation, 0, 255).astype(np.uint8).reshape(4, 1, 1)

    register_gym_game(spec, lambda: gymnasium.make("CartPole-v1"), to_frame=to_frame)
    env = make_vector_env(spec, num_envs=2, protocol="classic", seed=0)
    env.reset()
    ended = [env.step(np.array([0, 1])).terminated.any() for _ in range(30)]
    assert any(ended)
    env.close()


VECTORS = dataclasses.replace(SPEC, frame_shape=(3,))


class Numbers(Counter):
    """Shows three numbers that are larger with every step, in double precision."""

    def image(self):
        return np.array([self.count, -0.5, np.nan if self.count == 3 else 0.25])


def test_vectors_are_stacked_floats():
    env = make(Numbers(), Numbers(), spec=VECTORS)
    first = env.reset()
    assert (first.dtype, first.shape) == (np.float32, (2, 6))
    assert first[0].tolist() == [0, 0, 0, 0, -0.5, 0.25]
    step = env.step(np.array([1, 1]))
    assert step.observations[1].tolist() == [0, -0.5, 0.25, 1, -0.5, 0.25]


def test_a_vector_that_is_not_finite_is_told():
    env = make(Numbers(), spec=VECTORS)
    env.reset()
    env.step(np.array([1]))
    env.step(np.array([1]))
    with pytest.raises(
        ValueError, match=r"an observation of '\w+': it has numbers that are not finite"
    ):
        env.step(np.array([1]))


def test_vectors_of_gymnasium_are_what_it_gives_and_have_a_picture():
    game = GameEnv("gym:CartPole-v1", protocol="classic", render_mode="rgb_array")
    observation, _ = game.reset(seed=0)
    assert observation in game.observation_space
    bare = gymnasium.make("CartPole-v1")
    seed = int(np.random.SeedSequence(0).spawn(1)[0].generate_state(1)[0] >> 1)
    np.testing.assert_array_equal(observation, bare.reset(seed=seed)[0])
    for action in (0, 1, 1):
        np.testing.assert_array_equal(game.step(action)[0], bare.step(action)[0])
    height, width, colours = game.render().shape
    assert (colours, min(height, width) > 10) == (3, True)
    game.close()


def test_numbers_without_a_drawing_of_their_own_are_bars():
    picture = vector_to_picture(np.array([5.0, -5.0, 0.0], np.float32))
    half = len(picture) // 2
    # Upwards from the middle, downwards from it, and none.
    coloured = (picture[:, :, 0] != picture[:, :, 1]) | (picture[:, :, 1] != picture[:, :, 2])
    assert [int(coloured[:half, 8 * i + 3].sum()) for i in range(3)] == [half, 0, 0]
    assert [int(coloured[half + 1 :, 8 * i + 3].sum()) for i in range(3)] == [0, half - 1, 0]
