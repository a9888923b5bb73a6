"""The inference server of a run on Ray: started, and followed through its deaths.

Ray itself starts a dead one again, under the same handle; it is recognised by its process id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from engines.on_ray.calls import answers, ask
from engines.on_ray.cluster import RemoteInference
from engines.on_ray.deaths import Deaths
from engines.on_ray.inference_process import InferenceReport
from engines.on_ray.role_processes import RoleNames
from engines.on_redis.bus import RedisAddress
from recipes.recipe import Recipe
from records.usage import RoleUse


class ServedInference:
    """The one process that computes the student's logits for all actors."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        redis: RedisAddress,
        device: str,
        options: dict[str, Any],
        names: RoleNames,
        note: Callable[[str], None],
        deaths: Deaths,
    ) -> None:
        """Start it.

        Args:
            recipe: what to train.
            redis: the run's Redis, where its weights come from.
            device: where it computes.
            options: for Ray, of its process.
            names: gives it its name.
            note: told about deaths.
            deaths: of the run.
        """
        self._note = note
        self._deaths = deaths
        self.handle = RemoteInference.options(name=names.new("inference", 0), **options).remote(
            recipe, redis=redis, device=device
        )
        # Processes that took the place of a dead one.
        self.restarts = 0
        self._process: str | None = None
        self.redis_reconnects = 0
        self.use = RoleUse()

    def look(self) -> dict[str, float]:
        """Metrics since the last look; empty if it does not answer in time."""
        report: InferenceReport | None = answers([ask(self.handle, "report")])[0]
        if report is None:
            return {}
        if self._process not in (None, report.process):
            self.restarts += 1
            self._note("the inference server died and was started again; actors ask it once more")
            self._deaths.count("the inference server died")
        self._process = report.process
        self.redis_reconnects = report.redis_reconnects
        self.use.take(report.process, report.use)
        if not report.counts.batches:
            return {}
        return {"inference_batch": report.counts.states / report.counts.batches}

    def end(self) -> None:
        """End the process, whatever it does."""
        ray.kill(self.handle)
