"""Acting: an actor's steps per second against its environments and its two networks alone.

    bound = 1 / (environment step + student forward + teacher forward), seconds of one core

A bare loop beside the actor plays environments of its own with networks of its own, by the same
policy and of the same sizes. What the actor does besides - labels, priorities, cutting chunks - is
the difference.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from actors.policy import EpsilonGreedy
from benchmarks.setup import BenchSetup, lone_actor
from benchmarks.timing import Part, Result, Window, measure_rounds, medians, timed
from games.env import VectorEnv
from networks.acting import Acting
from networks.snapshots import take_snapshot
from networks.weights import LocalWeights, WeightsVersion
from recipes.recipe import Recipe
from recipes.roles import build_env

_PARTS = ("collect", "environment", "student", "teacher")


def run(setup: BenchSetup) -> Result:
    """Measure every game in turn; a step is the mean over the games."""
    recipe = setup.recipe
    acting = {game: _Acting(recipe, game, serial) for serial, game in enumerate(recipe.games)}
    parts: dict[str, Part] = {}
    for game, pair in acting.items():
        parts |= {f"{game}/{name}": getattr(pair, name) for name in _PARTS}
    try:
        rounds = measure_rounds(parts, seconds=setup.options.measuring_s)
    finally:
        for pair in acting.values():
            pair.close()
    seconds = medians(rounds)
    mean = {
        name: sum(seconds[f"{game}/{name}"] for game in acting) / len(acting) for name in _PARTS
    }
    return Result(
        measured=1 / mean["collect"],
        bound=1 / (mean["environment"] + mean["student"] + mean["teacher"]),
        unit="steps/s",
        target=0.8,
        parts={
            **{f"{name}_s_per_step": value for name, value in mean.items()},
            **{f"{game}_steps_per_s": 1 / seconds[f"{game}/collect"] for game in acting},
        },
        rounds=len(next(iter(rounds.values()))),
    )


class _Acting:
    """An actor of one game and the bare loop that it is compared with."""

    def __init__(self, recipe: Recipe, game: str, serial: int) -> None:
        config = recipe.config
        self._student = recipe.build_acting_network(game).eval()
        self._teacher = recipe.load_teacher(game).network
        weights = LocalWeights()
        weights.publish(take_snapshot(self._student, WeightsVersion(0, 0), half=False))
        self._actor = lone_actor(recipe, game, serial=serial, weights=weights)
        self._actor.pull_weights()
        self._env: VectorEnv = build_env(
            config, game, num_envs=config.actor.num_envs, seed=config.seed + serial
        )
        self._policy = EpsilonGreedy(
            self._env.spec.legal_mask(), np.random.default_rng(config.seed)
        )
        self._epsilons = np.full(config.actor.num_envs, config.actor.epsilon, np.float32)
        self._chunk_steps = config.actor.chunk_steps
        self._act = Acting(self._student)
        self._next = self._env.reset()
        self._is_first = np.ones(config.actor.num_envs, np.bool_)
        self._observations: list[Tensor] = []

    def collect(self) -> Window:
        """The actor plays a chunk."""
        before = self._actor.counts.steps
        window = timed(self._actor.collect, 1)
        return Window(window.seconds, self._actor.counts.steps - before)

    def environment(self) -> Window:
        """The bare loop plays as much; only the emulators are timed."""
        seconds = 0.0
        steps = 0
        self._observations = []
        for _ in range(self._chunk_steps):
            observations = torch.from_numpy(self._next)
            self._observations.append(observations)
            with torch.inference_mode():
                logits = self._act(observations, self._is_first).numpy()
            actions = self._policy(logits, self._epsilons).actions
            start = time.perf_counter()
            step = self._env.step(actions)
            seconds += time.perf_counter() - start
            steps += int(np.count_nonzero(~step.restarted))
            self._next = step.observations
            self._is_first = step.restarted
        return Window(seconds, steps)

    def student(self) -> Window:
        """The student alone, on what the bare loop has just seen."""
        return self._forward(self._student)

    def teacher(self) -> Window:
        """The teacher's network alone, on the same."""
        return self._forward(self._teacher)

    def _forward(self, network: nn.Module) -> Window:
        def forward() -> None:
            act = Acting(network)
            for batch in self._observations:
                act(batch, np.zeros(len(batch), np.bool_))

        with torch.inference_mode():
            return timed(forward, sum(map(len, self._observations)))

    def close(self) -> None:
        """End the emulators."""
        self._actor.close()
        self._env.close()
