"""The in-process engine: the same roles in one process and a fixed order.

Deterministic and debuggable with a breakpoint; the reference that the Ray engine is compared with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import torch

from actors.actor import Actor
from launch.engine import Played, Progress, claim_serial, summarize
from launch.local_archive import LocalArchive
from launch.recipe import Recipe
from launch.roles import build_actor, build_learner, build_shard
from networks.weights import LocalWeights, WeightSnapshot, take_snapshot
from replay.client import LocalReplayClient
from replay.game_settings import GameSettings, SettingsChange
from replay.types import Chunk


class LocalEngine:
    """Actors in turn play a chunk each, then the learner updates as often as replay allows."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        device: torch.device,
        state: dict[str, Any] | None = None,
        replay_dir: Path | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Build all roles.

        Args:
            recipe: what to train.
            device: the learner's.
            state: a checkpoint's, of a run to go on with.
            replay_dir: for snapshots of replay; None for none.
            note: told what has become of them.
        """
        self._recipe = recipe
        self._steps_before: dict[str, int] = dict(state["steps"]) if state else {}
        self._next_serial = int(state["next_serial"]) if state else 0
        config = recipe.config
        self._shards = [
            build_shard(recipe, shard=shard) for shard in range(config.replay.num_shards)
        ]
        self._replay = LocalReplayClient(self._shards)
        self._archive = None
        if replay_dir is not None and config.replay.snapshot_period_s:
            self._archive = LocalArchive(self._shards, replay_dir, note=note)
            self._next_serial = max(self._next_serial, self._archive.newest_serial + 1)
        self._weights = LocalWeights()
        self._learner = build_learner(
            recipe, replay=self._replay, weights=self._weights, device=device
        )
        if state:
            self._learner.load_state(state["learner"])
        self._learner.publish()
        self._actors = [
            (game, self._build_actor(game, rank, num_actors))
            for game, num_actors in recipe.num_actors.items()
            for rank in range(num_actors)
        ]
        self._waiting: dict[int, Chunk] = {}

    def _build_actor(self, game: str, rank: int, num_ranks: int) -> Actor:
        serial = claim_serial(
            self._next_serial,
            game_index=self._recipe.games.index(game),
            rank=rank,
            num_shards=self._recipe.config.replay.num_shards,
        )
        self._next_serial = serial + 1
        return build_actor(
            self._recipe,
            game,
            rank=rank,
            num_ranks=num_ranks,
            serial=serial,
            replay=self._replay,
            weights=self._weights,
            start_step=self._steps_before.get(game, 0)
            // (num_ranks * self._recipe.config.actor.num_envs),
        )

    def advance(self, seconds: float) -> bool:
        """Play rounds for about this long; how the time is cut does not change the run."""
        deadline = time.monotonic() + seconds
        while self._learner.num_updates < self._recipe.config.num_updates:
            if time.monotonic() >= deadline:
                return True
            self._act()
            self._learn()
            if self._archive is not None:
                self._archive.maybe_save()
        return False

    def _act(self) -> None:
        """One chunk from every actor whose last one replay has taken."""
        for index, (_, actor) in enumerate(self._actors):
            chunk = self._waiting.pop(index, None)
            if chunk is None:
                actor.pull_weights()
                chunk = actor.collect()
            if not self._replay.add(chunk):
                self._waiting[index] = chunk

    def _learn(self) -> None:
        """As many updates as replay has batches for."""
        while self._learner.num_updates < self._recipe.config.num_updates:
            batch = self._replay.sample()
            if batch is None:
                return
            self._learner.update(self._learner.load_batch(batch))

    def progress(self) -> Progress:
        """See Engine."""
        return summarize(
            updates=self._learner.num_updates,
            metrics=self._learner.drain_metrics(),
            played={game: self._played(game) for game in self._recipe.games},
            shards=self._archive.stats() if self._archive else self._replay.stats(),
            faults={},
        )

    def _played(self, game: str) -> Played:
        actors = [actor for name, actor in self._actors if name == game]
        return Played(
            steps=self._steps(game),
            episodes=sum(actor.counts.episodes for actor in actors),
            actors=len(actors),
            returns=tuple(pair for actor in actors for pair in actor.drain_returns()),
        )

    def _steps(self, game: str) -> int:
        played = sum(actor.counts.steps for name, actor in self._actors if name == game)
        return self._steps_before.get(game, 0) + played

    def snapshot(self) -> WeightSnapshot:
        """See Engine."""
        return take_snapshot(self._learner.network, self._learner.version, half=False)

    def state(self) -> dict[str, Any]:
        """See Engine."""
        return {
            "learner": self._learner.state(),
            "steps": {game: self._steps(game) for game in self._recipe.games},
            "next_serial": self._next_serial,
        }

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """See Engine."""
        for shard in self._shards:
            shard.check_configure(game, **change)
        return [shard.configure(game, **change) for shard in self._shards][-1]

    def close(self) -> None:
        """See Engine."""
        for _, actor in self._actors:
            actor.close()
        if self._archive is not None:
            self._archive.close()
        for shard in self._shards:
            shard.close()
