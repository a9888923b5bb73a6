"""Protocols that act for the agent, checked against emulators that are stepped frame by frame."""

import dataclasses

import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms

from games import PROTOCOLS, get_game, make_vector_env
from games.env import EnvProtocol, VectorStep
from games.openings import Openings

FIRE, RIGHT, LEFT = 1, 3, 4
SB3 = dataclasses.replace(PROTOCOLS["sb3"], noop_max=0)
CLEANRL = dataclasses.replace(PROTOCOLS["cleanrl"], noop_max=0)
PLAIN = dataclasses.replace(PROTOCOLS["classic"], noop_max=0)


def make(name: str, protocol: EnvProtocol, *, num_envs: int = 1, seed: int = 0):
    return make_vector_env(get_game(name), num_envs=num_envs, protocol=protocol, seed=seed)


class Reference:
    """What AtariWrapper and VecFrameStack do, written out over a plain emulator."""

    def __init__(self, name: str, plain) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.emulator = ALEInterface()
        self.emulator.setFloat("repeat_action_probability", 0.0)
        self.emulator.setInt("random_seed", 0)
        self.emulator.loadROM(roms.get_rom_path(name))
        self.emulator.reset_game()
        # Plays along for the preprocessed frames, which test_atari.py checks pixel by pixel.
        self.plain = plain
        plain.reset()
        self.lives = self.emulator.lives()

    def play(self, action: int):
        """Four frames; (newest preprocessed frame, reward, whether a life was lost)."""
        reward = sum(self.emulator.act(action) for _ in range(4))
        step = self.plain.step(np.array([action]))
        before, self.lives = self.lives, self.emulator.lives()
        return step.observations[0, -1], reward, self.lives < before


def stack_of(frames: list[np.ndarray], *, repeats: bool) -> np.ndarray:
    missing = 4 - len(frames)
    padding = [frames[0] if repeats else np.zeros_like(frames[0])] * max(0, missing)
    return np.stack([*padding, *frames[-4:]])


@pytest.mark.parametrize(("protocol", "repeats"), [(SB3, False), (CLEANRL, True)])
def test_breakout_is_opened_in_every_life_as_by_the_librarys_wrappers(protocol, repeats):
    env, reference = make("breakout", protocol), Reference("breakout", make("breakout", PLAIN))
    reference.play(FIRE)
    frames = [reference.play(RIGHT)[0]]
    assert np.array_equal(env.reset()[0], stack_of(frames, repeats=repeats))
    rng = np.random.default_rng(0)
    num_lost = 0
    while num_lost < 3:
        action = int(rng.choice([0, RIGHT, LEFT]))  # Never FIRE.
        step = env.step(np.array([action]))
        frame, reward, lost = reference.play(action)
        frames.append(frame)
        assert not step.restarted[0]
        assert (step.rewards[0], step.life_lost[0]) == (reward, lost)
        assert np.array_equal(step.observations[0], stack_of(frames, repeats=repeats))
        if lost:
            num_lost += 1
            opened = [env.step(np.array([LEFT])) for _ in range(3)]
            frames = [[reference.play(a)[0] for a in (0, FIRE, RIGHT)][-1]]
            assert all(s.restarted[0] and s.rewards[0] == 0 for s in opened)
            assert np.array_equal(opened[-1].observations[0], stack_of(frames, repeats=repeats))


def test_a_new_game_is_opened_like_the_first():
    env = make("breakout", SB3)
    first = env.reset()
    for _ in range(3_000):
        step = env.step(np.array([0]))
        if step.terminated[0]:
            break
    assert step.terminated[0]
    assert not step.restarted[0]
    again = [env.step(np.array([LEFT])) for _ in range(3)]
    assert [bool(s.restarted[0]) for s in again] == [True] * 3
    assert not again[-1].observations[0, :3].any()
    played = env.step(np.array([0]))
    assert not played.restarted[0]
    assert np.array_equal(played.observations[0, 2], again[-1].observations[0, 3])
    assert first.shape == again[-1].observations.shape


def test_environments_are_opened_each_in_its_own_time():
    env = make("breakout", dataclasses.replace(SB3, noop_max=30), num_envs=4, seed=3)
    env.reset()
    rng = np.random.default_rng(0)
    waiting = np.zeros(4, int)
    for _ in range(400):
        step = env.step(rng.choice([0, RIGHT, LEFT], 4))
        assert (step.restarted == (waiting > 0)).all()
        waiting = np.maximum(waiting - 1, 0)
        waiting[step.life_lost & ~step.restarted] = 3
        assert not (step.terminated & step.restarted).any()


def test_a_game_without_fire_only_loses_its_stack_with_a_life():
    assert FIRE not in get_game("ms_pacman").legal_actions
    env, plain = make("ms_pacman", SB3), make("ms_pacman", PLAIN)
    assert np.array_equal(env.reset(), plain.reset())
    for _ in range(1_000):
        step, same = env.step(np.array([2])), plain.step(np.array([2]))
        assert np.array_equal(step.observations[0, -1], same.observations[0, -1])
        if step.life_lost[0]:
            break
    assert step.life_lost[0]
    opened, same = env.step(np.array([2])), plain.step(np.array([0]))
    assert opened.restarted[0]
    assert not opened.observations[0, :3].any()
    assert np.array_equal(opened.observations[0, 3], same.observations[0, 3])
    assert not env.step(np.array([2])).restarted[0]


def test_a_reward_earned_while_a_game_is_opened_is_paid_with_the_next_step():
    openings = Openings(get_game("breakout"), SB3, 2)
    assert openings.begin() == 2

    def answer(rewards, terminated=(False, False)):
        return VectorStep(
            observations=np.ones((2, 4, 84, 84), np.uint8),
            rewards=np.array(rewards, np.float32),
            terminated=np.array(terminated),
            truncated=np.zeros(2, bool),
            life_lost=np.array(terminated),
            restarted=np.zeros(2, bool),
        )

    lives = np.array([5, 5], np.int32)
    actions = np.array([3, 3])
    scripted = openings.replace_actions(actions)
    assert (actions.tolist(), scripted.tolist()) == ([1, 1], [True, True])
    assert openings.apply(answer([7, 0]), scripted, lives).rewards.tolist() == [0, 0]
    # The second game ends while it is opened: that must be seen.
    scripted = openings.replace_actions(actions)
    step = openings.apply(answer([1, 2], (False, True)), scripted, lives)
    assert step.rewards.tolist() == [0, 2]
    assert step.restarted.tolist() == [True, False]
    scripted = openings.replace_actions(actions)
    assert not scripted.any()
    assert openings.apply(answer([1, 0]), scripted, lives).rewards.tolist() == [9, 0]


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_plays_pong_to_a_cut(name):
    protocol = dataclasses.replace(PROTOCOLS[name], max_episode_frames=120)
    env = make("pong", protocol, num_envs=2)
    assert env.reset().shape == (2, 4, 84, 84)
    cuts = 0
    for _ in range(80):
        step = env.step(np.zeros(2, np.int64))
        assert (step.observations[:, -1] > 0).any()
        cuts += int(step.truncated.sum())
    assert cuts == 4


@pytest.mark.parametrize(
    ("name", "share"), [("pfrl", 0.0), ("dopamine", 0.25), ("atari_agents_modern", 0.25)]
)
def test_previous_actions_stick_as_often_as_the_protocol_says(name, share):
    """One frame of FIRE after rest starts the ball of Breakout unless the rest sticks."""
    spec = dataclasses.replace(get_game("breakout"), frames_per_step=1)
    protocol = dataclasses.replace(
        PROTOCOLS[name], noop_max=0, max_episode_frames=30, stack_padding="zeros"
    )
    env = make_vector_env(spec, num_envs=8, protocol=protocol, seed=7)
    env.reset()
    still = [env.step(np.zeros(8, np.int64)).observations[:, -1] for _ in range(30)][-1][0]
    stuck = []
    for _ in range(25):
        for frame in range(31):  # The first one restarts.
            step = env.step(np.full(8, FIRE if frame == 10 else 0))
        assert step.truncated.all()
        stuck += [np.array_equal(image, still) for image in step.observations[:, -1]]
    assert np.mean(stuck) == pytest.approx(share, abs=0.08)
