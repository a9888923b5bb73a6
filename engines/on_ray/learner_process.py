"""The learner as a process: its loop, and what it can be asked meanwhile."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
import torch

from engines.on_ray.calls import CALL_TIMEOUT_S, THIS_PROCESS
from engines.on_ray.replay_reader import RayReplayReader
from engines.on_redis.bus import RedisAddress
from engines.on_redis.weights import RedisWeightSink
from learner.batch import DeviceBatch
from learner.prefetch import Prefetcher
from learner.replicas import LOOPBACK, Host, LoneReplica, MeetingPoint, ReplicaGroup, Replicas
from networks.snapshots import take_snapshot
from networks.weights import LocalWeights, WeightSnapshot
from recipes.recipe import Recipe
from recipes.roles import build_learner, change_learner
from records.machine import usable_cores
from records.usage import LearnerUsage, ProcessUse

Result = TypeVar("Result")

_ray: Any = ray  # Some of its functions have no types.


@dataclass(frozen=True, slots=True)
class LearnerReport:
    """What the learner process says of itself."""

    # See calls.THIS_PROCESS.
    process: str
    updates: int
    # Means since the last report.
    metrics: dict[str, float]
    use: ProcessUse
    usage: LearnerUsage


class LearnerProcess:
    """A Learner in a process of its own, or one of several that make every update together."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        rank: int = 0,
        shards: list[Any],
        redis: RedisAddress,
        device: str,
        incarnation: int,
        state: dict[str, Any] | None,
    ) -> None:
        """Build or restore the learner and publish its weights, so that the actors can begin.

        Only that of rank 0 publishes.
        """
        self._rank = rank
        self._size = recipe.config.learner.num_replicas
        # The actors need the other half: threads that outnumber idle cores wait for each other.
        torch.set_num_threads(max(1, usable_cores() // 2 // self._size))
        self._num_updates = recipe.config.num_updates
        self._device = torch.device(device)
        self._replay = RayReplayReader(shards)
        self._sink = RedisWeightSink(redis.url, redis.run) if rank == 0 else None
        self._learner = build_learner(
            recipe,
            replay=self._replay,
            weights=self._sink or LocalWeights(),
            device=self._device,
            incarnation=incarnation,
            is_restored=state is not None,
        )
        if state is not None:
            self._learner.load_state(state)
        self._learner.publish()
        self._host: Host | None = None
        self._questions = Questions()
        self._began = time.monotonic()
        self._waiting_s = 0.0
        self._batches: Prefetcher | None = None
        self._stopped = threading.Event()

    def arrive(self) -> str:
        """Address of this process's node; answered when the learner is built."""
        return str(_ray.util.get_node_ip_address())

    def open_meeting_point(self, *addresses: str) -> MeetingPoint:
        """Where all learners, which have arrived, are to meet; on loopback if no other node is."""
        one_node = len(set(addresses)) == 1
        self._host = Host(LOOPBACK if one_node else _ray.util.get_node_ip_address())
        return self._host.point

    def run(self, point: MeetingPoint | None = None) -> None:
        """Update until the run's end or `stop`, with the others who come to `point`.

        Waits for replay, half a second at a time, and for the other learners.
        """
        self._batches = batches = Prefetcher(self._replay.sample, self._learner.load_batch)
        try:
            with self._questions.answered_by_loop(), closing(self._meet(point)) as replicas:
                self._learner.join(replicas)
                self._update(batches, replicas)
                self._learner.flush_priorities()
                self._replay.flush()
                self._learner.publish()
        finally:
            batches.close()

    def _meet(self, point: MeetingPoint | None) -> Replicas:
        if point is None:
            return LoneReplica()
        here = LOOPBACK if point.address == LOOPBACK else _ray.util.get_node_ip_address()
        return ReplicaGroup(
            point,
            rank=self._rank,
            size=self._size,
            own_address=here,
            device=self._device,
            host=self._host,
        )

    def _update(self, batches: Prefetcher, replicas: Replicas) -> None:
        """All learners make the same number of updates, and stop between the same two."""
        batch: DeviceBatch | None = None
        while self._learner.num_updates < self._num_updates:
            self._questions.answer()
            if batch is None and not self._stopped.is_set():
                start = time.perf_counter()
                batch = batches.next(timeout_s=0.5)
                self._waiting_s += time.perf_counter() - start
            is_ready, goes_on = replicas.all_of(batch is not None, not self._stopped.is_set())
            if not goes_on:
                return
            if is_ready and batch is not None:
                self._learner.update(batch)
                batch = None

    def report(self) -> LearnerReport:
        """Answered between two updates."""
        return self._ask(self._report)

    def _report(self) -> LearnerReport:
        return LearnerReport(
            process=THIS_PROCESS,
            updates=self._learner.num_updates,
            metrics=self._learner.drain_metrics() | _device_figures(self._device),
            use=ProcessUse.of_this(self._sink.counters() if self._sink else {}),
            usage=LearnerUsage(
                elapsed_s=time.monotonic() - self._began,
                updating_s=self._learner.updating_s,
                waiting_s=self._waiting_s,
                loading_s=self._batches.load_s if self._batches else 0.0,
            ),
        )

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return self._ask(self._learner.state)

    def snapshot(self) -> WeightSnapshot:
        """The acting weights in full precision."""
        return self._ask(
            lambda: take_snapshot(self._learner.network, self._learner.version, half=False)
        )

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Take in how far the student is behind its teachers, between two updates."""
        self._ask(lambda: self._learner.follow_gaps(gaps))

    def change(self, recipe: Recipe, state: dict[str, Any] | None) -> None:
        """Go on by other settings, and from another learner's state if given."""
        self._ask(lambda: change_learner(self._learner, recipe, state=state))

    def stop(self) -> None:
        """Make `run` return after the update at hand."""
        self._stopped.set()

    def _ask(self, question: Callable[[], Result]) -> Result:
        return self._questions.ask(question, timeout_s=CALL_TIMEOUT_S)


class Questions:
    """Answers never overlap with a step; before and after the loop, those who ask answer."""

    def __init__(self) -> None:
        """There is no loop yet."""
        self._questions: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._answering = threading.Lock()
        self._is_looping = False

    def ask(self, question: Callable[[], Result], *, timeout_s: float) -> Result:
        """What `question` returns or raises; ended by the loop's next `answer`, or its end.

        TimeoutError if the loop has been busy with one step for `timeout_s`.
        """
        future: Future[Result] = Future()
        self._questions.put((question, future))
        with self._answering:
            if not self._is_looping:
                self.answer()
        return future.result(timeout=timeout_s)

    @contextmanager
    def answered_by_loop(self) -> Iterator[None]:
        """Inside the `with` block nobody answers but the loop, which calls `answer`."""
        with self._answering:
            self._is_looping = True
        try:
            yield
        finally:
            # Also after an error: from now on nobody waits for a loop that has ended.
            with self._answering:
                self._is_looping = False
                self.answer()

    def answer(self) -> None:
        """Answer all questions that have come so far."""
        with suppress(queue.Empty):
            while True:
                question, future = self._questions.get_nowait()
                try:
                    future.set_result(question())
                except Exception as error:
                    future.set_exception(error)


def _device_figures(device: torch.device) -> dict[str, float]:
    """Memory and use of a GPU; empty for a CPU.

    How busy it is, is known only where the package nvidia-ml-py is installed.
    """
    if device.type != "cuda":
        return {}
    figures = {"gpu/memory_bytes": float(torch.cuda.memory_reserved(device))}
    try:
        figures["gpu/busy"] = torch.cuda.utilization(device) / 100.0
    # Of many kinds: no package, no driver, a GPU that does not tell. None may end the run.
    except Exception:
        return figures
    return figures
