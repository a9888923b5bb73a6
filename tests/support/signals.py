"""Tiny games whose best policy is known: a cue in the frame says which action pays.

A frame is 5x5 noise with one bright pixel in its first column, whose row is the cue, and a mark in
its last column that tells the games apart. The action that a cue stands for pays 1, any other
nothing. An episode is ten cues long, so the best return is 10.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from games.env import EnvProtocol, VectorStep, local_action_table, to_local_actions
from games.registry import register_game
from games.spec import GameSpec
from networks.network import MultitaskNetwork

NUM_ACTIONS = 5
EPISODE_STEPS = 10
BEST_RETURN = float(EPISODE_STEPS)
_SIZE = 5


class SignalEnvs:
    """N signal games behind the VectorEnv interface."""

    def __init__(self, spec: GameSpec, *, num_envs: int, seed: int) -> None:
        self._spec = spec
        self._num_envs = num_envs
        self._rng = np.random.default_rng(seed)
        self._local_actions = local_action_table(spec)
        self._step = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        self._observations = np.zeros((num_envs, *spec.observation_shape), np.uint8)

    @property
    def spec(self) -> GameSpec:
        return self._spec

    @property
    def num_envs(self) -> int:
        return self._num_envs

    def reset(self) -> NDArray[np.uint8]:
        self._step[:] = 0
        self._ended[:] = False
        return self._show()

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        to_local_actions(actions, self._local_actions, self._spec, self._num_envs)
        restarted = self._ended.copy()
        pays = (actions == best_actions(self._spec, self._observations)) & ~restarted
        self._step = np.where(restarted, 0, self._step + 1)
        self._ended = self._step == EPISODE_STEPS
        return VectorStep(
            observations=self._show(),
            rewards=pays.astype(np.float32),
            terminated=self._ended.copy(),
            truncated=np.zeros(self._num_envs, np.bool_),
            life_lost=self._ended.copy(),
            restarted=restarted,
        )

    def close(self) -> None:
        pass

    def _show(self) -> NDArray[np.uint8]:
        self._observations = random_observations(self._spec, self._num_envs, self._rng)
        return self._observations.copy()


def random_observations(spec: GameSpec, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    frames = rng.integers(120, size=(count, *spec.frame_shape), dtype=np.uint8)
    cues = rng.integers(len(spec.legal_actions), size=count)
    frames[:, 0, :, 0] = 0
    frames[np.arange(count), 0, cues, 0] = 255
    frames[:, 0, :, -1] = 0
    frames[:, 0, GAMES.index(spec), -1] = 255
    return frames


def best_actions(spec: GameSpec, observations: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[N] The action that pays: each game reads the cues in its own order."""
    cues = observations[:, 0, :, 0].argmax(axis=1)
    order = np.roll(spec.legal_actions, GAMES.index(spec) + 1)
    return order[cues]


def make_signal_envs(
    spec: GameSpec, *, num_envs: int, protocol: EnvProtocol, seed: int, num_threads: int
) -> SignalEnvs:
    del protocol, num_threads
    return SignalEnvs(spec, num_envs=num_envs, seed=seed)


def _register(name: str, legal_actions: tuple[int, ...]) -> GameSpec:
    spec = GameSpec(
        name=name,
        family="signals",
        num_actions=NUM_ACTIONS,
        legal_actions=legal_actions,
        frame_shape=(1, _SIZE, _SIZE),
        num_stack=1,
        frames_per_step=1,
        random_score=EPISODE_STEPS / len(legal_actions),
        human_score=None,
    )
    register_game(spec, make_signal_envs)
    return spec


GAMES = (_register("signals_three", (0, 2, 4)), _register("signals_four", (0, 1, 3, 4)))


def fit_best_policy(spec: GameSpec, *, seed: int, num_updates: int = 400) -> MultitaskNetwork:
    """A network with Q near 1 for the action that pays and near 0 for the others."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = MultitaskNetwork(
        torso="minatar", observation_shape=spec.observation_shape, num_actions=NUM_ACTIONS
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(num_updates):
        observations = random_observations(spec, 64, rng)
        wanted = np.zeros((64, NUM_ACTIONS), np.float32)
        wanted[np.arange(64), best_actions(spec, observations)] = 1.0
        loss = (network(torch.from_numpy(observations)) - torch.from_numpy(wanted)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network
