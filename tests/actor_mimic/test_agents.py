"""Agents give the actions of the networks that they carry, for arrays instead of tensors."""

import numpy as np
import pytest
import torch

from actor_mimic import Agent, GameEnv, Student, Teacher, load_teacher
from networks.masking import masked_softmax
from networks.network import MultitaskNetwork

GAMES = ("pong", "breakout")


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """Uint8 [40, 4, 84, 84] of Pong, played by the shipped expert."""
    env, teacher = GameEnv("pong"), load_teacher("pong")
    observation, _ = env.reset(seed=1)
    seen = []
    for _ in range(40):
        seen.append(observation)
        observation, *_ = env.step(teacher.act(observation))
    return np.stack(seen)


@pytest.fixture(scope="module")
def network() -> MultitaskNetwork:
    torch.manual_seed(0)
    return MultitaskNetwork(
        torso="nature_quarter",
        observation_shape=(4, 84, 84),
        num_actions=18,
        games=GAMES,
        heads="per_game",
    )


def test_a_teacher_plays_the_best_of_its_legal_values(states):
    teacher = load_teacher("pong")
    values = teacher.expert.q_values(torch.from_numpy(states)).numpy()
    legal = [0, 1, 3, 4, 11, 12]
    best = np.array(legal)[values[:, legal].argmax(1)]
    np.testing.assert_array_equal(teacher.act(states), best)
    assert teacher.act(states[3]) == best[3]
    assert len(set(best)) > 1


def test_a_student_plays_each_game_with_its_own_head_and_mask(network, states):
    student = Student(network, {"pong": 0.05, "breakout": 0.05})
    batch = torch.from_numpy(states)
    for index, game in enumerate(GAMES):
        with torch.inference_mode():
            scores = network(batch, torch.full((len(batch),), index))
        legal = torch.from_numpy(GameEnv(game).reset(seed=1)[1]["action_mask"]).bool()
        expected = masked_softmax(scores / 0.05, legal).numpy()
        np.testing.assert_allclose(student.policy(states, game), expected, rtol=1e-6)
        np.testing.assert_array_equal(student.act(states, game), expected.argmax(1))
        np.testing.assert_array_equal(student.playing(game).act(states), expected.argmax(1))


def test_predict_has_the_signature_that_stable_baselines_calls(network, states):
    student = Student(network, dict.fromkeys(GAMES, 0.05)).playing("pong")
    actions, state = student.predict(states, state=None, episode_start=np.ones(40, bool))
    np.testing.assert_array_equal(actions, student.act(states))
    assert (actions.dtype, state) == (np.int64, None)
    single, _ = student.predict(states[0])
    assert single.shape == ()


@pytest.mark.parametrize(
    ("state", "starts", "said"),
    [
        (np.zeros((1, 8), np.float32), None, "a state is what the call before has returned"),
        ((np.zeros((1, 4), np.float32),), None, r"one float32 \[1, 8\]"),
        ((np.zeros((1, 8)),), None, "one float32"),
        ((np.zeros((2, 8), np.float32),), None, "one float32"),
        ((np.zeros((1, 8), np.float32),), [0, 1], "episode_start says 2 times"),
    ],
)
def test_a_state_of_another_form_is_told(states, state, starts, said):
    network = MultitaskNetwork(
        torso="nature_quarter", observation_shape=(4, 84, 84), num_actions=18, games=["pong"],
        lstm_width=4, has_critic=True,
    )  # fmt: skip
    student = Student(network, {"pong": 1.0})
    with pytest.raises(ValueError, match=said):
        student.predict(states[0], state, starts)
    _, after = student.predict(states[0], None, [1])
    actions, _ = student.predict(states[1], after, [0])  # Numbers stand for truths, too.
    assert actions.shape == ()


def test_drawn_actions_follow_the_policy(network, states):
    agent = Student(network, dict.fromkeys(GAMES, 0.5)).playing("pong")
    same = np.repeat(states[:1], 4_000, axis=0)
    drawn, _ = agent.predict(same, deterministic=False)
    policy = agent.policy(states[0])
    shares = np.bincount(drawn, minlength=18) / len(drawn)
    assert shares[policy == 0].sum() == 0
    # Five standard errors of a share of 4,000.
    np.testing.assert_allclose(shares, policy, atol=5 * 0.5 / np.sqrt(4_000))


@pytest.mark.parametrize(
    ("observation", "game", "message"),
    [
        (np.zeros((4, 84, 84), np.float32), "pong", "not float32"),
        (np.zeros((84, 84, 4), np.uint8), "pong", r"not uint8 \[84, 84, 4\]"),
        (np.zeros((0, 4, 84, 84), np.uint8), "pong", r"\[0, 4, 84, 84\]"),
        (np.zeros((4, 84, 84), np.uint8), "boxing", "does not play 'boxing'; it has pong, break"),
        (np.zeros((4, 84, 84), np.uint8), None, "which game"),
    ],
)
def test_what_cannot_be_played_is_refused(network, observation, game, message):
    with pytest.raises(ValueError, match=message):
        Student(network, dict.fromkeys(GAMES, 1.0)).act(observation, game)


def test_a_view_that_cannot_be_written_to_is_played_without_a_warning(network, recwarn):
    observation = np.broadcast_to(np.uint8(3), (4, 84, 84))
    Student(network, dict.fromkeys(GAMES, 1.0)).act(observation, "pong")
    assert not recwarn.list


@pytest.mark.parametrize("game", [3, ["pong"]])
def test_a_game_that_is_no_name_is_refused(network, game):
    with pytest.raises(ValueError, match="it does not play"):
        Student(network, dict.fromkeys(GAMES, 1.0)).playing(game)
    with pytest.raises(ValueError, match="the name of a game is a string"):
        GameEnv(game)


def test_binding_a_game_leaves_the_agent_as_it_was(network):
    student = Student(network, dict.fromkeys(GAMES, 1.0))
    student.playing("pong")
    with pytest.raises(ValueError, match="which game"):
        student.act(np.zeros((4, 84, 84), np.uint8))


def test_both_kinds_are_agents(network):
    assert isinstance(Student(network, dict.fromkeys(GAMES, 1.0)), Agent)
    assert isinstance(Teacher.load("pong"), Agent)
