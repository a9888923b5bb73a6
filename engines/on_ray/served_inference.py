"""The inference server of a run on Ray: started, and followed through its deaths.

Ray itself starts a dead one again, under the same handle; it is recognised by its process id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from engines.on_ray.answers import answers
from engines.on_ray.clients import CONTROL_GROUP
from engines.on_ray.cluster import RemoteInference
from engines.on_ray.inference_process import InferenceReport
from engines.on_ray.link import Link
from recipes.recipe import Recipe
from records.process_id import RoleProcess
from records.usage import RoleUse


class ServedInference:
    """The one process that computes the student's logits for all actors."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        link: Link,
        device: str,
        options: dict[str, Any],
        note: Callable[[str], None],
        count_death: Callable[[str], None],
    ) -> None:
        """Start it.

        Args:
            recipe: what to train.
            link: the run's Redis, where its weights come from.
            device: where it computes.
            options: for Ray, of its process.
            note: told about deaths.
            count_death: told about each death; raises if there were too many.
        """
        self._note = note
        self._count_death = count_death
        self.handle = RemoteInference.options(**options).remote(recipe, link=link, device=device)
        self.restarts = 0
        """Processes that took the place of a dead one."""
        self.process: RoleProcess | None = None
        """As of the last look; None before it has answered."""
        self.redis_reconnects = 0
        self.use = RoleUse()

    def look(self) -> dict[str, float]:
        """Metrics since the last look; empty if it does not answer in time."""
        ask = self.handle.report.options(concurrency_group=CONTROL_GROUP)
        report: InferenceReport | None = answers([ask.remote()])[0]
        if report is None:
            return {}
        if self.process is not None and self.process.process != report.process:
            self.restarts += 1
            self._note("the inference server died and was started again; actors ask it once more")
            self._count_death("the inference server died")
        self.process = RoleProcess(
            role="inference", rank=0, process=report.process, done=report.counts.states
        )
        self.redis_reconnects = report.redis_reconnects
        self.use.take(report.process, report.use)
        if not report.counts.batches:
            return {}
        return {"inference_batch": report.counts.states / report.counts.batches}

    def end(self) -> None:
        """End the process, whatever it does."""
        ray.kill(self.handle)
