"""The in-process engine: the same roles in one process and a fixed order.

Deterministic and debuggable with a breakpoint; the reference that the Ray engine is compared with.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch

from actors.actor import Actor, ActorCounts
from engines.engine import check_wanted, claim_serial
from networks.atomic_file import write_atomically
from networks.snapshots import take_snapshot
from networks.weights import LocalWeights, WeightSnapshot
from recipes.recipe import Recipe
from recipes.roles import (
    build_actor,
    build_learner,
    build_own_inference,
    build_shard,
    change_learner,
    exploration_rates,
)
from records.machine import usable_cores
from records.progress import GameProgress, Progress, add_up, summarize
from records.usage import LearnerUsage, Usage
from replay.client import LocalReplayClient
from replay.pace.game_settings import GameSettings, SettingsChange
from replay.pace.slices import slices_of_ranks
from replay.shard import ReplayShard
from replay.snapshots.keeper import ShardKeeper, clear_snapshots
from replay.snapshots.restore import newest_serial
from replay.stats import NoteReader, ShardStats
from replay.types import Chunk

# Between two looks while there is not one actor.
_IDLE_S = 0.05


@dataclass(slots=True)
class _LocalActor:
    """An actor, and the chunk that replay has not taken yet."""

    game: str
    actor: Actor
    chunk: Chunk | None = None


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
        """Build all roles, from a checkpoint's `state` in a run that goes on."""
        for game, number in recipe.num_actors.items():
            check_wanted(game, number, recipe.games)
        self._recipe = recipe
        self._began = time.monotonic()
        self._next_serial = int(state["next_serial"]) if state else 0
        config = recipe.config
        self._shards = [
            build_shard(recipe, shard=shard) for shard in range(config.replay.num_shards)
        ]
        self._replay = LocalReplayClient(self._shards)
        self._archive = None
        if replay_dir is not None and config.replay.snapshot_period_s:
            self._archive = _Archive(self._shards, replay_dir, note=note)
            self._next_serial = max(self._next_serial, self._archive.newest_serial + 1)
        self._weights = LocalWeights()
        self._learner = build_learner(
            recipe,
            replay=self._replay,
            weights=self._weights,
            device=device,
            is_restored=bool(state),
        )
        if state:
            self._learner.load_state(state["learner"])
        self._learner.publish()
        steps_before = state["steps"] if state else {}
        # What earlier sessions have played, and actors that have gone.
        self._gone = {game: ActorCounts(steps=steps_before.get(game, 0)) for game in recipe.games}
        self._returns: dict[str, list[tuple[float, float]]] = {game: [] for game in recipe.games}
        self._actors: list[_LocalActor] = []
        self._actors = [
            _LocalActor(game, self._build_actor(game, rank, num_actors))
            for game, num_actors in recipe.num_actors.items()
            for rank in range(num_actors)
        ]
        # Chunks of actors that have gone, which replay has not taken yet.
        self._left_over: list[Chunk] = []

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
            inference=build_own_inference(self._recipe, game, self._weights),
            start_step=self._steps(game) // (num_ranks * self._recipe.config.actor.num_envs),
        )

    def advance(self, seconds: float, *, until_updates: int | None = None) -> bool:
        """Play rounds for about this long; how the time is cut does not change the run."""
        deadline = time.monotonic() + seconds
        num_updates = self._recipe.config.num_updates
        if until_updates is not None and until_updates < num_updates:
            self.advance_to(until_updates, deadline=deadline)
            return True
        # What advance_to may have left of a round.
        self._learn(num_updates)
        while self._learner.num_updates < num_updates or self._is_short_of_steps():
            if time.monotonic() >= deadline:
                return True
            if not self._actors:
                time.sleep(_IDLE_S)  # Until somebody wants actors again.
            self._act()
            self._learn(num_updates)
            if self._archive is not None:
                self._archive.maybe_save()
        return False

    def _is_short_of_steps(self) -> bool:
        """Whether the learner, which replay lets be ahead, has ended before the actors.

        An actor whose chunk replay does not take has no learner to wait for any more.
        """
        steps = sum(self._steps(game) for game in self._recipe.games)
        can_play = any(local.chunk is None for local in self._actors)
        return steps < self._recipe.config.num_steps and can_play

    def advance_to(self, num_updates: int, *, deadline: float = math.inf) -> None:
        """Play until the learner has made so many updates, or all of the run, or time is up.

        Where a run is cut does not change it.
        """
        until = min(num_updates, self._recipe.config.num_updates)
        self._learn(until)
        while self._learner.num_updates < until and time.monotonic() < deadline:
            if not self._actors:
                time.sleep(_IDLE_S)  # Until somebody wants actors again.
            self._act()
            self._learn(until)
            if self._archive is not None:
                self._archive.maybe_save()

    def _act(self) -> None:
        """One chunk from every actor whose last one replay has taken."""
        self._left_over = [chunk for chunk in self._left_over if not self._replay.add(chunk)]
        for local in self._actors:
            if local.chunk is None:
                local.actor.pull_weights()
                local.chunk = local.actor.collect()
            if self._replay.add(local.chunk):
                local.chunk = None

    def _learn(self, until: int) -> None:
        """Make as many updates as replay has batches for, up to update number `until`."""
        while self._learner.num_updates < until:
            batch = self._replay.sample()
            if batch is None:
                return
            self._learner.update(self._learner.load_batch(batch))

    def progress(self) -> Progress:
        """Counts and metrics of this process's roles since the last call."""
        return summarize(
            updates=self._learner.num_updates,
            metrics=self._learner.drain_metrics(),
            games={game: self._progress(game) for game in self._recipe.games},
            shards=self._archive.stats() if self._archive else self._replay.stats(),
            usage=Usage(
                learner=LearnerUsage(
                    elapsed_s=time.monotonic() - self._began, updating_s=self._learner.updating_s
                ),
                cpu_s={"coordinator": time.process_time()},
                num_cores=usable_cores(),
            ),
            faults={},
        )

    def _progress(self, game: str) -> GameProgress:
        actors = self._of(game)
        returns, self._returns[game] = self._returns[game], []
        return GameProgress(
            actors=len(actors),
            wanted=len(actors),
            played=self._played(game),
            returns=(*returns, *(pair for actor in actors for pair in actor.drain_returns())),
        )

    def _played(self, game: str) -> ActorCounts:
        return add_up([self._gone[game], *(actor.counts for actor in self._of(game))])

    def _of(self, game: str) -> list[Actor]:
        return [local.actor for local in self._actors if local.game == game]

    def _steps(self, game: str) -> int:
        return self._played(game).steps

    def scale(self, game: str, wanted: int) -> None:
        """Add or retire actors between two rounds, in a way that does not depend on the time."""
        check_wanted(game, wanted, self._recipe.games)
        ranks = {name: range(len(self._of(name))) for name in self._recipe.games}
        ranks[game] = range(wanted)
        slices = slices_of_ranks(ranks, before=[shard.slices for shard in self._shards])
        for shard, parts in zip(self._shards, slices, strict=True):
            shard.check_assign(parts)
        for local in [local for local in self._actors if local.game == game][wanted:]:
            self._retire(local)
        for rank in range(len(self._of(game)), wanted):
            self._actors.append(_LocalActor(game, self._build_actor(game, rank, wanted)))
        for rank, actor in enumerate(self._of(game)):
            actor.explore_with(exploration_rates(self._recipe.config, rank, wanted))
        for shard, parts in zip(self._shards, slices, strict=True):
            shard.assign(parts)

    def _retire(self, local: _LocalActor) -> None:
        self._actors.remove(local)
        if local.chunk is not None:
            self._left_over.append(local.chunk)
        self._gone[local.game] = add_up([self._gone[local.game], local.actor.counts])
        self._returns[local.game].extend(local.actor.drain_returns())
        local.actor.close()

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Set the weight of distillation by the games' gaps to their teachers."""
        self._learner.follow_gaps(gaps)

    def change_learner(self, recipe: Recipe, *, state: dict[str, Any] | None = None) -> None:
        """Have the learner go on by other settings, and from another learner's state if given."""
        change_learner(self._learner, recipe, state=state)
        self._recipe = recipe

    def snapshot(self) -> WeightSnapshot:
        """The learner's acting weights as they are now, in full precision."""
        return take_snapshot(self._learner.network, self._learner.version, half=False)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this process's roles."""
        return {
            "learner": self._learner.state(),
            "steps": {game: self._steps(game) for game in self._recipe.games},
            "next_serial": self._next_serial,
        }

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """Change what all shards keep and give of a game; nothing changes if one refuses."""
        for shard in self._shards:
            shard.check_configure(game, **change)
        return [shard.configure(game, **change) for shard in self._shards][-1]

    def close(self) -> None:
        """Stop all roles; what replay holds is on disk then, if the run keeps snapshots."""
        for local in self._actors:
            local.actor.close()
        if self._archive is not None:
            self._archive.close()
        for shard in self._shards:
            shard.close()


class _Archive:
    """Snapshots of the shards: taken between two rounds, never beside them."""

    def __init__(
        self, shards: Sequence[ReplayShard], root: Path, *, note: Callable[[str], None]
    ) -> None:
        """Fill the shards, all of one run, from the snapshots under `root`."""
        # The highest number of any actor that they may have entries of; -1 without.
        self.newest_serial = newest_serial(root)
        self._root = root
        self._note = note
        self._period_s = shards[0].config.snapshot_period_s
        self._keepers = [ShardKeeper(shard, root, write=write_atomically) for shard in shards]
        self._readers = [NoteReader() for _ in shards]
        self._saved = time.monotonic()
        self.stats()

    def maybe_save(self) -> None:
        """Save if it is time."""
        if time.monotonic() - self._saved >= self._period_s:
            self.save()

    def save(self) -> None:
        """Bring the snapshots up to date; those of another number of shards are deleted then."""
        are_saved = [keeper.save() for keeper in self._keepers]
        if all(are_saved):
            clear_snapshots(self._root, keep_num_shards=len(self._keepers))
        self._saved = time.monotonic()
        self.stats()

    def stats(self) -> list[ShardStats]:
        """Statistics of each shard; what their keepers have noted is passed on."""
        stats = [keeper.stats() for keeper in self._keepers]
        for reader, shard in zip(self._readers, stats, strict=True):
            for line in reader.new(shard):
                self._note(line)
        return stats

    def close(self) -> None:
        """Save for the last time."""
        self.save()
        for keeper in self._keepers:
            keeper.close()
