"""Every role as a Ray process, on one page: what each is given and what it can be asked.

    ActorProcess  --chunks-->  ShardProcess  --batches-->  LearnerProcess
         ^                          ^----- new priorities -------'
         '------ versioned weights, through Redis ---------------'

This is the only module that knows `ray.remote`; launch/ray_engine.py places, watches and restarts
these processes. The roles themselves are plain classes, and launch/local.py runs them in one
process.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, Unpack

import ray
import torch

from actors.actor import ActorCounts
from launch.limits import check_memory_for_quota
from launch.ray_clients import (
    CONTROL_GROUP,
    SHARD_GROUPS,
    RayReplayReader,
    RayReplayWriter,
)
from launch.recipe import MultitaskRecipe, Recipe
from launch.redis_weights import RedisWeightSink, RedisWeightSource
from launch.roles import build_actor, build_learner, build_shard
from launch.run_dir import available_memory_bytes
from launch.testing import StudentTest, TeacherTest, Test, run_teacher_test, run_test
from learner.prefetch import Prefetcher
from networks.weights import WeightSnapshot, take_snapshot
from replay.batch_channel import ChannelOffer, ChannelServer
from replay.game_settings import GameSettings, SettingsChange
from replay.keeper import ShardKeeper, begin_after
from replay.slices import GameSlice
from replay.stats import ShardStats
from replay.types import Chunk, PriorityUpdate, SampleBatch

RUN_GROUP = "run"
"""Ray concurrency group in which a role's loop runs, beside the calls that ask about it."""

CALL_TIMEOUT_S = 30.0
"""Longest wait for a role to answer a question; roles answer between two steps of their loop."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Link:
    """Where a run's weights are."""

    redis_url: str
    """Never logged: it may hold a password."""
    run: str
    """Prefix of the run's keys."""


@dataclass(frozen=True, slots=True)
class ActorReport:
    """What an actor process says of itself."""

    pid: int
    counts: ActorCounts
    """With the returns since the last report."""
    chunks_lost: int
    redis_reconnects: int


@dataclass(frozen=True, slots=True)
class LearnerReport:
    """What the learner process says of itself."""

    pid: int
    updates: int
    metrics: dict[str, float]
    """Means since the last report."""
    redis_reconnects: int


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
            self._keeper = ShardKeeper(self._shard, Path(replay_dir), session=session)
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
        """See ReplayShard."""
        for update in updates:
            self._shard.update_priorities(update)

    def stats(self) -> tuple[int, ShardStats]:
        """(process id, statistics)."""
        return os.getpid(), (self._keeper or self._shard).stats()

    def check_configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """See ReplayShard; ValueError also for a quota that this machine has no memory for."""
        if (quota := change.get("quota")) is not None:
            check_memory_for_quota(self._shard, game, quota, available_memory_bytes())
        return self._shard.check_configure(game, **change)

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """See ReplayShard."""
        return self._shard.configure(game, **change)

    def assign(self, slices: dict[str, GameSlice]) -> None:
        """See ReplayShard."""
        self._shard.assign(slices)

    def save(self) -> bool:
        """Bring the snapshot up to date; whether it is."""
        return self._keeper is not None and self._keeper.save()

    def check_valid(self) -> None:
        """See ReplayShard."""
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
        link: Link,
        start_step: int,
    ) -> None:
        """Build everything; `run` plays."""
        torch.set_num_threads(1)
        self._replay = RayReplayWriter(shards)
        self._weights = RedisWeightSource(link.redis_url, link.run)
        self._actor = build_actor(
            recipe,
            game,
            rank=rank,
            num_ranks=num_ranks,
            serial=serial,
            replay=self._replay,
            weights=self._weights,
            start_step=start_step,
        )

    def run(self) -> None:
        """Play until `stop`."""
        self._actor.run()
        self._replay.flush(timeout_s=1.0)
        self._weights.close()

    def report(self) -> ActorReport:
        """Answered while `run` plays on."""
        return ActorReport(
            pid=os.getpid(),
            counts=replace(self._actor.counts, returns=self._actor.drain_returns()),
            chunks_lost=self._replay.chunks_lost,
            redis_reconnects=self._weights.counters()["redis_reconnects"],
        )

    def stop(self) -> None:
        """Make `run` return."""
        self._actor.close()


class LearnerProcess:
    """A Learner in a process of its own."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        shards: list[Any],
        link: Link,
        device: str,
        incarnation: int,
        state: dict[str, Any] | None,
    ) -> None:
        """Build or restore the learner and publish its weights, so that the actors can begin."""
        # The actors need the other half: threads that outnumber idle cores wait for each other.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
        self._num_updates = recipe.config.num_updates
        self._replay = RayReplayReader(shards)
        self._sink = RedisWeightSink(link.redis_url, link.run)
        self._learner = build_learner(
            recipe,
            replay=self._replay,
            weights=self._sink,
            device=torch.device(device),
            incarnation=incarnation,
        )
        if state is not None:
            self._learner.load_state(state)
        self._learner.publish()
        self._questions: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._stopped = threading.Event()
        self._finished = False

    def run(self) -> None:
        """Update until the run's end or `stop`; waits only for replay, half a second at a time."""
        batches = Prefetcher(self._sample, self._learner.load_batch)
        try:
            while self._learner.num_updates < self._num_updates and not self._stopped.is_set():
                self._answer()
                batch = batches.next(timeout_s=0.5)
                if batch is not None:
                    self._learner.update(batch)
            self._learner.flush_priorities()
            self._replay.flush()
            self._learner.publish()
        finally:
            batches.close()
            # Also after an error: from now on nobody waits for a loop that has ended.
            self._finished = True
            self._answer()

    def _sample(self, timeout_s: float) -> SampleBatch | None:
        return self._replay.sample(timeout_s=timeout_s)

    def report(self) -> LearnerReport:
        """Answered between two updates."""
        return self._ask(
            lambda: LearnerReport(
                pid=os.getpid(),
                updates=self._learner.num_updates,
                metrics=self._learner.drain_metrics(),
                redis_reconnects=self._sink.counters()["redis_reconnects"],
            )
        )

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return self._ask(self._learner.state)

    def snapshot(self) -> WeightSnapshot:
        """The acting weights in full precision."""
        return self._ask(
            lambda: take_snapshot(self._learner.network, self._learner.version, half=False)
        )

    def stop(self) -> None:
        """Make `run` return after the update at hand."""
        self._stopped.set()

    def _ask(self, question: Callable[[], Result]) -> Result:
        """Have the loop answer between two updates; after its end, answer at once."""
        future: Future[Result] = Future()
        self._questions.put((question, future))
        if self._finished:
            self._answer()
        return future.result(timeout=CALL_TIMEOUT_S)

    def _answer(self) -> None:
        # Without waiting: at the end of the loop, those who ask answer, too.
        with suppress(queue.Empty):
            while True:
                question, future = self._questions.get_nowait()
                try:
                    future.set_result(question())
                except Exception as error:
                    future.set_exception(error)


class RayTester:
    """Tests students in tasks beside the run, one for each game; see launch.testing.Tester."""

    def __init__(self, recipe: MultitaskRecipe) -> None:
        """Test by the recipe's evaluation settings."""
        self._recipe = recipe
        self._running: list[Any] = []

    def start(self, snapshot: WeightSnapshot, games: Sequence[str], *, steps: int) -> None:
        """See Tester; tests of older weights that still run go on."""
        weights = ray.put(snapshot)
        for game in games:
            self._running.append(_remote_test.remote(self._recipe, game, weights, steps))

    def start_teachers(self, games: Sequence[str]) -> None:
        """See Tester."""
        self._running += [_remote_teacher_test.remote(self._recipe, game) for game in games]

    def finished(self) -> list[Test]:
        """See Tester."""
        if not self._running:
            return []
        ready, self._running = ray.wait(self._running, num_returns=len(self._running), timeout=0)
        return [ray.get(reference) for reference in ready]

    def wait(self) -> list[Test]:
        """See Tester."""
        running, self._running = self._running, []
        return [ray.get(reference) for reference in running]


def _test_with_one_thread(
    recipe: MultitaskRecipe, game: str, snapshot: WeightSnapshot, steps: int
) -> StudentTest:
    torch.set_num_threads(1)
    return run_test(recipe, game, snapshot, steps)


def _test_teacher_with_one_thread(recipe: MultitaskRecipe, game: str) -> TeacherTest:
    torch.set_num_threads(1)
    return run_teacher_test(recipe, game)


# Ray's own typing does not know concurrency groups.
_remote: Any = ray.remote

RemoteShard = _remote(
    num_cpus=1,
    max_restarts=-1,
    concurrency_groups=SHARD_GROUPS,
)(ShardProcess)
# No CPU is asked for: a test that waited for a free one would wait for the end of the run.
_remote_test = _remote(num_cpus=0)(_test_with_one_thread)
_remote_teacher_test = _remote(num_cpus=0)(_test_teacher_with_one_thread)
RemoteActor = _remote(num_cpus=1, concurrency_groups={RUN_GROUP: 1, CONTROL_GROUP: 1})(ActorProcess)
RemoteLearner = _remote(num_cpus=1, concurrency_groups={RUN_GROUP: 1, CONTROL_GROUP: 2})(
    LearnerProcess
)
