"""The learner processes of a run on Ray: started, asked, and followed through their deaths.

With `learner.num_replicas` 1 it is one process. More of them make every update together
(learner/replicas.py), so they live and die together: when one dies, the others are ended too, and
all start again from the newest checkpoint's state.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from engines.on_ray.answers import CALL_TIMEOUT_S, answers, cause_of
from engines.on_ray.clients import CONTROL_GROUP
from engines.on_ray.cluster import RUN_GROUP, RemoteLearner
from engines.on_ray.learner_process import Arrival, LearnerReport
from engines.on_ray.link import Link
from learner.replicas import ReplicaLostError
from networks.weights import WeightSnapshot
from recipes.recipe import Recipe
from records.process_id import ProcessId, RoleProcess
from records.usage import LearnerUsage, RoleUse

_CAUSE_PATIENCE_S = 5.0
"""How long a learner that has lost the others waits for them to say why."""

_START_PATIENCE_S = 300.0
"""How long a question waits for a learner that is being started, perhaps on a node to come."""


class LearnerTeam:
    """All learner processes of a run; rank 0 speaks for them."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        shards: list[Any],
        link: Link,
        device: torch.device,
        options: dict[str, Any],
        state: dict[str, Any] | None,
        note: Callable[[str], None],
        count_death: Callable[[str], None],
    ) -> None:
        """Start them.

        Args:
            recipe: what to train.
            shards: handles of all replay shards, in order.
            link: the run's Redis.
            device: of each learner.
            options: for Ray, of each learner's process.
            state: a checkpoint's, of a learner to go on from, with whatever number of replicas.
            note: told about deaths.
            count_death: told about each death; raises if there were too many.
        """
        self._recipe = recipe
        self._shards = shards
        self._link = link
        self._device = device
        self._options = options
        self._state = state
        self._note = note
        self._count_death = count_death
        self._size = recipe.config.learner.num_replicas
        self._incarnation = state["incarnation"] + 1 if state else 0
        self.restarts = 0
        """Teams that took the place of one in which a process had died."""
        self.updates = 0
        """As of the last look."""
        self.redis_reconnects = 0
        self.use = RoleUse()
        """Of all processes of rank 0."""
        self.usage: LearnerUsage | None = None
        """As of the last look."""
        self._start()

    def _start(self) -> None:
        # Put once: each of many learners would else be sent a copy.
        state = ray.put(self._state)
        self.handles = [
            RemoteLearner.options(**self._options).remote(
                self._recipe,
                rank=rank,
                shards=self._shards,
                link=self._link,
                device=self._device.type,
                incarnation=self._incarnation,
                state=state,
            )
            for rank in range(self._size)
        ]
        self._begun_from = int(self._state["num_updates"]) if self._state else 0
        self._process: ProcessId | None = None
        # Ray hands the answers on: nobody begins before all are there, and nobody waits here.
        self._arrivals = [_ask(handle, "arrive") for handle in self.handles]
        meeting_point = None
        if self._size > 1:
            meeting_point = _ask(self.handles[0], "open_meeting_point", *self._arrivals)
        self._loops = [
            handle.run.options(concurrency_group=RUN_GROUP).remote(meeting_point)
            for handle in self.handles
        ]
        self._first_loop = self._loops[0]

    @property
    def loops(self) -> list[Any]:
        """References that become ready when a learner's loop ends."""
        return list(self._loops)

    def loop_ended(self, loop: Any) -> bool:
        """Take note of the end of one of `loops`; True if the run has reached its end.

        Raises:
            ValueError: what a learner has refused.
            RayTaskError: an error in a learner, which would come again.
            RayActorError: a learner could not even start.
        """
        if loop not in self._loops:
            return False  # Of a team that has been replaced meanwhile.
        error = _error_of(loop)
        if error is None:
            self._loops.remove(loop)
            return bool(loop == self._first_loop)
        self._handle(self._cause_behind(loop, error) if _is_loss(error) else error)
        return False

    def _cause_behind(self, loop: Any, error: Exception) -> Exception:
        """Why the others have left the learner whose loop has ended with `error`, if they say."""
        others = [other for other in self._loops if other != loop]
        ended, _ = ray.wait(others, num_returns=len(others), timeout=_CAUSE_PATIENCE_S)
        causes = [cause for cause in map(_error_of, ended) if cause and not _is_loss(cause)]
        return causes[0] if causes else error

    def _handle(self, error: Exception) -> None:
        """Replace the team if one of its processes has died; raise what would come again."""
        if isinstance(error, RayTaskError):
            if isinstance(error.cause, RayActorError):
                error = error.cause
            elif not _is_loss(error):
                raise cause_of(error) from None
        if isinstance(error, RayActorError) and error.actor_init_failed:
            raise error
        self._replace(str(error))

    def _replace(self, cause: str) -> None:
        self._count_death(cause)
        self.restarts += 1
        self._incarnation += 1
        updates = self._state["num_updates"] if self._state else 0
        who = "the learner died" if self._size == 1 else f"one of {self._size} learners died"
        self._note(f"{who}; going on from update {updates}")
        self.end()
        self._start()

    def look(self) -> dict[str, float]:
        """Metrics since the last look; empty if rank 0 does not answer in time."""
        report: LearnerReport | None = answers([_ask(self.handles[0], "report")])[0]
        if report is None:
            return {}
        self._process, self.updates = report.process, report.updates
        self.redis_reconnects = report.redis_reconnects
        self.use.take(report.process, report.use)
        self.usage = report.usage
        return report.metrics

    @property
    def processes(self) -> list[RoleProcess]:
        """Of those that have answered."""
        arrived, _ = ray.wait(self._arrivals, num_returns=self._size, timeout=0)
        others = [_process(ref) if ref in arrived else None for ref in self._arrivals[1:]]
        # All make every update together.
        done = max(0, self.updates - self._begun_from) if self._process else 0
        return [
            RoleProcess(role="learner", rank=rank, process=process, done=done)
            for rank, process in enumerate([self._process, *others])
            if process is not None
        ]

    @property
    def size(self) -> int:
        """How many there are to be."""
        return self._size

    def snapshot(self) -> WeightSnapshot:
        """The acting weights as they are now, in full precision."""
        snapshot: WeightSnapshot = self._ask_living("snapshot")
        return snapshot

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; also what a team that dies is replaced from."""
        state: dict[str, Any] = self._ask_living("state")
        self._state = state
        return state

    def _ask_living(self, question: str) -> Any:
        """The answer of rank 0; of the next one, if this one dies meanwhile."""
        while True:
            # One that is starting, or waits for a GPU, is not late with its answer.
            ray.wait([self._arrivals[0]], timeout=_START_PATIENCE_S)
            try:
                return ray.get(_ask(self.handles[0], question), timeout=CALL_TIMEOUT_S)
            except RayActorError as error:
                self._handle(error)

    def stop(self) -> None:
        """Have all loops end after the update at hand."""
        for handle in self.handles:
            _ask(handle, "stop")

    def end(self) -> None:
        """End all processes, whatever they do."""
        for handle in self.handles:
            ray.kill(handle)


def _ask(handle: Any, question: str, *args: Any) -> Any:
    return getattr(handle, question).options(concurrency_group=CONTROL_GROUP).remote(*args)


def _error_of(loop: Any) -> Exception | None:
    try:
        ray.get(loop)
    except (RayActorError, RayTaskError) as error:
        return error
    return None


def _is_loss(error: Exception) -> bool:
    """Whether a learner says no more than that it has lost another one."""
    return isinstance(error, RayTaskError) and isinstance(error.cause, ReplicaLostError)


def _process(arrival: Any) -> ProcessId | None:
    with suppress(RayActorError):
        answer: Arrival = ray.get(arrival)
        return answer.process
    return None
