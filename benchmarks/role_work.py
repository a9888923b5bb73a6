"""What the roles do with a chunk or a batch, without the processes around them.

One thread of this process, in CPU seconds, which hardly depend on what else the machine is doing.
What a GPU or several threads do shows in `learn_by_the_clock` alone.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Self

import torch

from actors.actor import Actor
from benchmarks.learning import draw_batch, fill_replay
from benchmarks.setup import lone_actor
from benchmarks.timing import Window, timed
from networks.weights import LocalWeights
from recipes.recipe import Recipe
from recipes.roles import build_learner
from replay.types import Chunk


class RoleWork:
    """A learner, a replay with data in it and an actor of every game, each to be timed alone."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Build all of them; nothing may pace the recipe's replay."""
        self._device = device
        self._replay = fill_replay(recipe)
        # The one that was drawn last.
        self.batch = draw_batch(self._replay)
        self._learner = build_learner(
            recipe, replay=self._replay, weights=LocalWeights(), device=device
        )
        # The learner's.
        self.network = self._learner.network
        # The last of every game that has been played.
        self.chunks: dict[str, Chunk] = {}
        self._actors: dict[str, Actor] = {}
        with ExitStack() as stack:
            for index, game in enumerate(recipe.games):
                # The serials below have filled the replay.
                serial = len(recipe.games) + index
                actor = lone_actor(recipe, game, serial=serial, replay=self._replay)
                stack.callback(actor.close)
                self._actors[game] = actor
            self._emulators = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the emulators."""
        self._emulators.close()

    def act(self, game: str) -> Window:
        """The game's actor plays a chunk; the units are steps."""
        actor = self._actors[game]
        before = actor.counts.steps

        def collect() -> None:
            self.chunks[game] = actor.collect()

        seconds = timed(collect, 1, clock=time.process_time).seconds
        return Window(seconds, actor.counts.steps - before)

    def act_all(self) -> Window:
        """Each actor plays a chunk."""
        windows = [self.act(game) for game in self._actors]
        return Window(sum(w.seconds for w in windows), sum(w.units for w in windows))

    def insert(self) -> Window:
        """Replay takes the chunks; the units are transitions."""
        return timed(
            lambda: [self._replay.add(chunk) for chunk in self.chunks.values()],
            sum(chunk.num_transitions for chunk in self.chunks.values()),
            clock=time.process_time,
        )

    def gather(self) -> Window:
        """Replay makes a batch; the units are samples."""

        def gather() -> None:
            self.batch = draw_batch(self._replay)

        return timed(gather, self.batch.batch_size, clock=time.process_time)

    def learn(self) -> Window:
        """The learner uses the batch and sends its priorities back; the units are samples."""
        return timed(self._update, self.batch.batch_size, clock=time.process_time)

    def learn_by_the_clock(self, *, num_threads: int = 1) -> Window:
        """Time an update to its end on the device, with this many of PyTorch's threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        try:
            return timed(self._update_to_the_end, self.batch.batch_size)
        finally:
            torch.set_num_threads(before)

    def _update(self) -> None:
        self._learner.update(self._learner.load_batch(self.batch))

    def _update_to_the_end(self) -> None:
        self._update()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
