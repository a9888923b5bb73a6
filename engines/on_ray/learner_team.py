"""The learner processes of a run on Ray: started, asked, and followed through their deaths.

With `learner.num_replicas` 1 it is one process. More of them make every update together
(learner/replicas.py), so they live and die together: when one dies, the others are ended too, and
all start again from the newest checkpoint's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from engines.on_ray.calls import (
    CALL_TIMEOUT_S,
    LOSSES,
    REPORT_PATIENCE_S,
    RUN_GROUP,
    answers,
    ask,
    cause_of,
    error_of,
    how_it_died,
    is_loss,
)
from engines.on_ray.cluster import RemoteLearner
from engines.on_ray.learner_process import LearnerReport
from engines.on_ray.ray_run import RayRun
from learner.replicas import ReplicaLostError
from networks.weights import WeightSnapshot
from recipes.recipe import Recipe
from records.usage import LearnerUsage, RoleUse

# How long a learner that has lost the others waits for them to say why.
_CAUSE_PATIENCE_S = 5.0

# How long a question waits for a learner that is being started, perhaps on a node to come.
_START_PATIENCE_S = 300.0


class LearnerTeam:
    """All learner processes of a run; rank 0 speaks for them."""

    def __init__(
        self,
        run: RayRun,
        *,
        shards: list[Any],
        device: torch.device,
        state: dict[str, Any] | None,
    ) -> None:
        """Start them, from a checkpoint's `state` if given, of whatever number of replicas.

        `shards` are the handles of all replay shards, in order.
        """
        recipe = run.recipe
        self._run = run
        self._shards = shards
        self._device = device
        # The inference server needs a part of the GPU.
        shares_gpu = recipe.config.actor.inference == "server"
        self._options = run.placement.learner(shares_gpu=shares_gpu)
        self._state = state
        # How many there are to be.
        self.size = recipe.config.learner.num_replicas
        self._incarnation = state["incarnation"] + 1 if state else 0
        # Teams that took the place of one in which a process had died.
        self.restarts = 0
        # As of the last look; before the first one, those of the checkpoint.
        self.updates = 0
        # Updates that later teams had to make once more.
        self.updates_lost = 0
        # Of all processes of rank 0.
        self.use = RoleUse()
        self._has_come_up = False
        # As of the last look.
        self.usage: LearnerUsage | None = None
        self._start()

    def _start(self) -> None:
        # Put once: each of many learners would else be sent a copy.
        state = ray.put(self._state)
        self.handles = [
            self._run.start(
                RemoteLearner,
                "learner",
                rank,
                self._options,
                rank=rank,
                shards=self._shards,
                redis=self._run.redis,
                device=self._device.type,
                incarnation=self._incarnation,
                state=state,
            )
            for rank in range(self.size)
        ]
        self.updates = int(self._state["num_updates"]) if self._state else 0
        # Ray hands the answers on: nobody begins before all are there, and nobody waits here.
        self._arrivals = [ask(handle, "arrive") for handle in self.handles]
        meeting_point = None
        if self.size > 1:
            meeting_point = ask(self.handles[0], "open_meeting_point", *self._arrivals)
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

        What would come again is raised: an error in a learner, one that could not even start, or
        the ValueError with which one has refused.
        """
        if loop not in self._loops:
            return False  # Of a team that has been replaced meanwhile.
        error = error_of(loop)
        if error is None:
            self._loops.remove(loop)
            return bool(loop == self._first_loop)
        self._handle(self._cause_behind(loop, error) if _has_lost_another(error) else error)
        return False

    def _cause_behind(self, loop: Any, error: RayError) -> RayError:
        """Why the others have left the learner whose loop has ended with `error`, if they say."""
        others = [other for other in self._loops if other != loop]
        ended, _ = ray.wait(others, num_returns=len(others), timeout=_CAUSE_PATIENCE_S)
        errors = [error for error in map(error_of, ended) if error is not None]
        return next((cause for cause in errors if not _has_lost_another(cause)), error)

    def _handle(self, error: RayError) -> None:
        """Replace the team if one of its processes has died; raise what would come again."""
        if not is_loss(error) and not _has_lost_another(error):
            raise cause_of(error) from None
        who = "the learner" if self.size == 1 else f"one of {self.size} learners"
        what = f"{who} {how_it_died(error)}"
        self._run.count_death(what, error)
        before = self.updates
        self.restarts += 1
        self._incarnation += 1
        self.end()
        self._start()
        self.updates_lost += max(0, before - self.updates)
        self._run.note(f"{what}; going on from update {self.updates}")

    def look(self) -> dict[str, float]:
        """Metrics since the last look; empty if rank 0 does not answer in time."""
        report: LearnerReport | None = answers([ask(self.handles[0], "report")])[0]
        if report is None:
            return {}
        self.updates = report.updates
        self.use.take(report.process, report.use)
        self.usage = report.usage
        return report.metrics

    @property
    def owner(self) -> str:
        """Name of the team that counts `updates`; another one has another name."""
        return f"learner {self._incarnation}"

    def snapshot(self) -> WeightSnapshot:
        """The acting weights as they are now, in full precision."""
        snapshot: WeightSnapshot = self._ask_living("snapshot")
        return snapshot

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; also what a team that dies is replaced from."""
        state: dict[str, Any] = self._ask_living("state")
        self._state = state
        return state

    @property
    def last_state(self) -> dict[str, Any]:
        """The state that a team which dies now would be replaced from; TimeoutError without one."""
        if self._state is None:
            raise TimeoutError("no learner has told its state yet")
        return self._state

    def change(self, recipe: Recipe, state: dict[str, Any] | None) -> None:
        """Go on by another recipe, as later teams will; for a team of one.

        TimeoutError, with nothing changed for certain, if the learner is busy.
        """
        assert self.size == 1, "several learners must change between the same two updates"
        self._ask_living("change", recipe, state)
        self._run = replace(self._run, recipe=recipe)

    def _ask_living(self, question: str, *given: Any) -> Any:
        """The answer of rank 0; of the next one, if this one dies meanwhile.

        TimeoutError if it is busy, or the run is just starting and has nothing to tell yet.
        """
        while True:
            # One that takes a dead one's place, or waits for a GPU, is not late with its answer.
            patience_s = _START_PATIENCE_S if self._has_come_up else REPORT_PATIENCE_S
            if not ray.wait([self._arrivals[0]], timeout=patience_s)[0]:
                raise TimeoutError(f"the learner has not come up within {patience_s:g} s")
            self._has_come_up = True
            try:
                return ray.get(ask(self.handles[0], question, *given), timeout=CALL_TIMEOUT_S)
            except LOSSES as error:
                self._handle(error)

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Pass on how far the student is behind its teachers, without waiting."""
        for handle in self.handles:
            ask(handle, "follow_gaps", dict(gaps))

    def stop(self) -> None:
        """Have all loops end after the update at hand."""
        for handle in self.handles:
            ask(handle, "stop")

    def end(self) -> None:
        """End all processes, whatever they do."""
        for handle in self.handles:
            ray.kill(handle)


def _has_lost_another(error: RayError) -> bool:
    """Whether a learner says no more than that it has lost another one."""
    return isinstance(error, RayTaskError) and isinstance(error.cause, ReplicaLostError)
