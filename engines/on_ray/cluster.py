"""Every role as a Ray process, on one page: what each is given and what it can be asked.

    ActorProcess  --chunks-->  ShardProcess  --batches-->  LearnerProcess
         ^                          ^----- new priorities -------'
         '------ versioned weights, through Redis ---------------'

The learner's and the inference server's processes have files of their own. This is the only module
that knows `ray.remote` (but for engines/chaos, which ends processes). engines/on_ray/engine.py has
the fleets that place, watch and restart these processes. The roles themselves are plain classes,
and engines/local/engine.py runs them in one process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import ray
import torch
from ray.exceptions import RayError

from actors.actor import ActorCounts
from actors.inference import Inference
from engines.on_ray.calls import (
    CONTROL_GROUP,
    INFERENCE_GROUP,
    RUN_GROUP,
    SHARD_GROUPS,
    THIS_PROCESS,
    cause_of,
    how_it_died,
    is_loss,
)
from engines.on_ray.inference import InferenceProcess, RayInference
from engines.on_ray.learner_process import LearnerProcess
from engines.on_ray.replay_writer import RayReplayWriter
from engines.on_redis.bus import RedisAddress
from engines.on_redis.weights import RedisWeightSource
from networks.atomic_file import write_atomically
from networks.weights import WeightSnapshot
from recipes.evaluation import Test, run_teacher_test, run_test
from recipes.limits import check_memory_for_quota
from recipes.recipe import Recipe
from recipes.roles import (
    build_actor,
    build_own_inference,
    build_shard,
    exploration_rates,
)
from records.machine import available_memory_bytes
from records.usage import ProcessUse
from replay.channel.batch_channel import ChannelOffer, ChannelServer
from replay.pace.game_settings import GameSettings, SettingsChange
from replay.pace.slices import GameSlice
from replay.snapshots.keeper import ShardKeeper, begin_after
from replay.stats import ShardStats
from replay.types import Chunk, PriorityUpdate, SampleBatch

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActorReport:
    """What an actor process says of itself."""

    # See calls.THIS_PROCESS.
    process: str
    counts: ActorCounts
    # (raw return, exploration rate) of the episodes that ended since the last report.
    returns: list[tuple[float, float]]
    use: ProcessUse


class ShardProcess:
    """A ReplayShard in a process of its own."""

    def __init__(
        self, recipe: Recipe, shard: int, *, replay_dir: str = "", session: str = ""
    ) -> None:
        """Begin from the newest snapshot in the run's `replay_dir`; empty, if that is none.

        Also when Ray starts the process again: then `session` is that of the one before.
        """
        self._shard = build_shard(recipe, shard=shard)
        self._keeper: ShardKeeper | None = None
        if replay_dir:
            self._keeper = ShardKeeper(
                self._shard, Path(replay_dir), write=write_atomically, session=session
            )
            self._keeper.start()
        else:
            # Nothing tells what a process before this one gave out, but it was less than this.
            begin_after(self._shard, [int(time.time()) << 20] * len(recipe.games))

    def add(self, timeout_s: float, *chunks: Chunk) -> int:
        """Store chunks in this order; the number of those stored before one took too long."""
        deadline = time.monotonic() + timeout_s
        for index, chunk in enumerate(chunks):
            if not self._shard.add(chunk, timeout_s=max(0.0, deadline - time.monotonic())):
                return index
        return len(chunks)

    def open_channel(self) -> ChannelOffer | None:
        """A way for batches to one reader on the same machine; None if there is none."""
        num_slots = self._shard.config.num_batch_slots
        if not num_slots:
            return None
        try:
            return ChannelServer(self._shard, num_slots=num_slots).offer
        except OSError:
            return None

    def sample(self, timeout_s: float, *updates: PriorityUpdate) -> SampleBatch | None:
        """A batch for a reader on another machine, after setting priorities; see ReplayShard."""
        self.update_priorities(*updates)
        return self._shard.sample(timeout_s=timeout_s)

    def update_priorities(self, *updates: PriorityUpdate) -> None:
        """Apply new priorities to transitions that are still there."""
        for update in updates:
            self._shard.update_priorities(update)

    def stats(self) -> tuple[str, ShardStats]:
        """(this process, statistics)."""
        stats = (self._keeper or self._shard).stats()
        return THIS_PROCESS, replace(stats, cpu_s=time.process_time())

    def check_configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """Check a change; ValueError also for a quota that this machine has no memory for."""
        if (quota := change.get("quota")) is not None:
            check_memory_for_quota(self._shard, game, quota, available_memory_bytes())
        return self._shard.check_configure(game, **change)

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """Change what this shard keeps and gives of a game."""
        return self._shard.configure(game, **change)

    def check_assign(self, slices: dict[str, GameSlice]) -> None:
        """Raise ValueError if the shard cannot hold this slice of the games."""
        self._shard.check_assign(slices)

    def assign(self, slices: dict[str, GameSlice]) -> None:
        """Hold another slice of the games from now on."""
        self._shard.assign(slices)

    def save(self) -> bool:
        """Bring the snapshot up to date; whether it is."""
        return self._keeper is not None and self._keeper.save()

    def check_valid(self) -> None:
        """Raise if the shard's tables contradict themselves."""
        self._shard.check_valid()


class ActorProcess:
    """An Actor in a process of its own."""

    def __init__(
        self,
        recipe: Recipe,
        game: str,
        *,
        rank: int,
        num_ranks: int,
        serial: int,
        shards: list[Any],
        redis: RedisAddress,
        server: Any,
        start_step: int,
    ) -> None:
        """Build everything; `run` plays.

        Without a `server` of inference the actor has a copy of the network of its own.
        """
        torch.set_num_threads(1)
        self._config = recipe.config
        self._stopped = threading.Event()
        self._replay = RayReplayWriter(shards)
        self._weights: RedisWeightSource | None = None
        inference: Inference
        if server is None:
            self._weights = RedisWeightSource(redis.url, redis.run)
            inference = build_own_inference(recipe, game, self._weights)
        else:
            inference = RayInference(server, recipe.games.index(game))
        self._actor = build_actor(
            recipe,
            game,
            rank=rank,
            num_ranks=num_ranks,
            serial=serial,
            replay=self._replay,
            inference=inference,
            start_step=start_step,
        )

    def run(self) -> None:
        """Play until `stop`, or until `finish` and everything played is stored."""
        self._actor.run()
        while not self._replay.flush(timeout_s=1.0) and not self._stopped.is_set():
            pass
        if self._weights is not None:
            self._weights.close()

    def report(self) -> ActorReport:
        """Answered while `run` plays on."""
        return ActorReport(
            process=THIS_PROCESS,
            counts=replace(self._actor.counts),
            returns=self._actor.drain_returns(),
            use=ProcessUse.of_this(
                self._weights.counters() if self._weights else {},
                chunks_lost=self._replay.chunks_lost,
            ),
        )

    def explore_as(self, rank: int, num_ranks: int) -> None:
        """Take this place in the game's spread of exploration rates from now on."""
        self._actor.explore_with(exploration_rates(self._config, rank, num_ranks))

    def finish(self) -> None:
        """Make `run` return when replay has everything that was played."""
        self._actor.finish()

    def stop(self) -> None:
        """Make `run` return."""
        self._stopped.set()
        self._actor.close()


class RayTester:
    """Tests students in tasks beside the run, one for each game; see recipes.evaluation.Tester."""

    def __init__(self, recipe: Recipe) -> None:
        """Test by the recipe's evaluation settings."""
        self._recipe = recipe
        self._running: list[Any] = []

    def start(
        self, snapshot: WeightSnapshot, games: Sequence[str], *, steps: int, num_episodes: int
    ) -> None:
        """Begin to test these weights in every game; tests of older weights go on."""
        weights = ray.put(snapshot)
        self._running += [
            _remote_test.remote(run_test, self._recipe, game, weights, steps, num_episodes)
            for game in games
        ]

    def start_teachers(self, games: Sequence[str]) -> None:
        """Begin to play the teachers of `games`, each in a process of its own."""
        self._running += [
            _remote_test.remote(run_teacher_test, self._recipe, game) for game in games
        ]

    def finished(self) -> list[Test]:
        """Tests that have ended since the last call."""
        if not self._running:
            return []
        ready, self._running = ray.wait(self._running, num_returns=len(self._running), timeout=0)
        return self._results_of(ready)

    def wait(self) -> list[Test]:
        """Wait for all tests under way; each ends by itself, as episodes are bounded."""
        running, self._running = self._running, []
        return self._results_of(running)

    def _results_of(self, references: list[Any]) -> list[Test]:
        """What the tests have found; one that Ray has started again in vain is left out."""
        results: list[Test] = []
        for reference in references:
            try:
                results.append(ray.get(reference))
            except RayError as error:
                if not is_loss(error):
                    raise cause_of(error) from None
                _LOG.warning("a test is left out: its process %s", how_it_died(error))
        return results


def _with_one_thread(test: Callable[..., Test], recipe: Recipe, *args: Any) -> Test:
    torch.set_num_threads(1)
    return test(recipe, *args)


def _games_of(recipe: Recipe) -> tuple[str, ...]:
    """The names of a run's games, which its recipe has imported on its way into this process."""
    return recipe.games


# Ray's own typing does not know concurrency groups.
_remote: Any = ray.remote

RemoteShard = _remote(
    num_cpus=1,
    max_restarts=-1,
    concurrency_groups=SHARD_GROUPS,
)(ShardProcess)
# No CPU is asked for: a test that waited for a free one would wait for the end of the run.
_remote_test = _remote(num_cpus=0)(_with_one_thread)
remote_games = _remote(num_cpus=0)(_games_of)
RemoteActor = _remote(num_cpus=1, concurrency_groups={RUN_GROUP: 1, CONTROL_GROUP: 1})(ActorProcess)
RemoteLearner = _remote(num_cpus=1, concurrency_groups={RUN_GROUP: 1, CONTROL_GROUP: 2})(
    LearnerProcess
)
RemoteInference = _remote(
    num_cpus=1,
    max_restarts=-1,
    # Each thread holds one actor's request; those of more actors wait in Ray for their turn.
    concurrency_groups={INFERENCE_GROUP: 64, CONTROL_GROUP: 2},
)(InferenceProcess)
