"""Learning: a learner's samples per second against forward, backward and optimizer alone.

    bound = batch size / (forward + backward + optimizer step on a batch that is loaded already)

The learner takes real play out of a replay in this process and sends priorities back to it. It
also loads batches, clips gradients, keeps metrics and publishes weights, into this process; drawing
the batches is reported and not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from benchmarks.setup import BenchSetup, play, without_pacing
from benchmarks.timing import Result, Window, measure_rounds, medians, timed
from learner.batch import DeviceBatch
from learner.learner import precision_on
from learner.optim import build_optimizer
from networks.weights import LocalWeights
from recipes.recipe import Recipe
from recipes.roles import build_learner, build_shard
from records.machine import usable_cores
from replay.client import LocalReplayClient
from replay.types import SampleBatch

# Length of a window to aim at.
_WINDOW_S = 0.25
# Most updates in one window.
_MAX_UPDATES = 50


def run(setup: BenchSetup) -> Result:
    """Measure updates and everything they are made of."""
    torch.set_num_threads(learner_threads())
    recipe = _without_publishing(without_pacing(setup.recipe))
    learning = _Learning(recipe, setup.device)
    learning.choose_window()
    rounds = measure_rounds(
        {
            "draw": learning.draw,
            "update": learning.update,
            "core": learning.core,
            "load": learning.load,
            "publish": learning.publish,
        },
        seconds=setup.options.measuring_s,
    )
    seconds = medians(rounds)
    period = setup.recipe.config.learner.publish_period
    per_update = seconds["update"] + seconds["publish"] / period
    batch_size = recipe.config.replay.batch_size
    return Result(
        measured=batch_size / per_update,
        bound=batch_size / seconds["core"],
        unit="samples/s",
        target=0.8,
        parts={
            "update_s": seconds["update"],
            "core_s": seconds["core"],
            "load_s": seconds["load"],
            "publish_s": seconds["publish"],
            "updates_between_publications": period,
            "draw_s": seconds["draw"],
        },
        rounds=len(rounds["update"]),
        settings={
            "device": setup.device.type,
            "threads": torch.get_num_threads(),
            "precision": precision_on(setup.device, recipe.config.learner.precision),
            "optimizer": recipe.config.learner.optimizer,
        },
    )


def learner_threads() -> int:
    """Threads that a learner process takes (engines/on_ray/cluster.py)."""
    return max(1, usable_cores() // 2)


def fill_replay(recipe: Recipe) -> LocalReplayClient:
    """A replay with a little real play of every game."""
    client = LocalReplayClient([build_shard(recipe)])
    for serial, game in enumerate(recipe.games):
        for chunk in play(recipe, game, serial=serial):
            client.add(chunk)
    return client


def draw_batch(client: LocalReplayClient) -> SampleBatch:
    """A batch from a replay that nothing paces."""
    batch = client.sample()
    assert batch is not None
    return batch


class _Learning:
    """A learner, and a network and an optimizer alone that it is compared with."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        config = recipe.config
        self._device = device
        self._client = fill_replay(recipe)
        self._learner = build_learner(
            recipe, replay=self._client, weights=LocalWeights(), device=device
        )
        twin = build_learner(recipe, replay=self._client, weights=LocalWeights(), device=device)
        self._network = twin.network
        self._objective = recipe.build_objective(self._network, device)
        self._optimizer = build_optimizer(
            config.learner, self._network.parameters(), mean_over=config.replay.batch_size
        )
        self._precision = precision_on(device, config.learner.precision)
        self._num_updates = 1
        self._batches: list[SampleBatch] = []
        self._loaded: list[DeviceBatch] = []
        self.draw()

    def choose_window(self) -> None:
        """Make windows long enough to be measured and short enough to come often."""
        self.update()
        seconds = self.update().seconds
        self._num_updates = max(1, min(_MAX_UPDATES, round(_WINDOW_S / seconds)))
        self.draw()

    def draw(self) -> Window:
        """New batches for this round."""

        def draw() -> None:
            self._batches = [draw_batch(self._client) for _ in range(self._num_updates)]

        window = self._timed(draw, self._num_updates)
        self._loaded = [self._learner.load_batch(batch) for batch in self._batches]
        return window

    def update(self) -> Window:
        """What a learner does with a batch."""

        def update() -> None:
            for batch in self._batches:
                self._learner.update(self._learner.load_batch(batch))

        return self._timed(update, self._num_updates)

    def core(self) -> Window:
        """What nobody could leave out."""

        def update() -> None:
            for batch in self._loaded:
                with self._autocast():
                    loss = self._objective(batch).loss
                self._optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                self._optimizer.step()

        return self._timed(update, self._num_updates)

    def load(self) -> Window:
        """Loading alone; part of `update`."""

        def load() -> None:
            self._loaded = [self._learner.load_batch(batch) for batch in self._batches]

        return self._timed(load, self._num_updates)

    def publish(self) -> Window:
        """One publication."""
        return self._timed(self._learner.publish, 1)

    def _timed(self, work: Callable[[], object], units: int) -> Window:
        def finished_work() -> None:
            work()
            self._wait()

        self._wait()
        return timed(finished_work, units)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)


def _without_publishing(recipe: Recipe) -> Recipe:
    """Publications are measured by themselves: they would hit some windows and not others."""
    config = recipe.config
    learner = replace(config.learner, publish_period=2**40)
    return Recipe(replace(config, learner=learner))
