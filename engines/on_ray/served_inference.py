"""The inference server of a run on Ray: started, and followed through its deaths.

Ray itself starts a dead one again, under the same handle; it is recognised by its process id.
"""

from __future__ import annotations

import ray
import torch

from engines.on_ray.calls import answers, ask
from engines.on_ray.cluster import RemoteInference
from engines.on_ray.inference import InferenceReport
from engines.on_ray.ray_run import RayRun
from records.usage import RoleUse


class ServedInference:
    """The one process that computes the student's logits for all actors."""

    def __init__(self, run: RayRun, *, device: torch.device) -> None:
        """Start it."""
        self._run = run
        self.handle = run.start(
            RemoteInference,
            "inference",
            0,
            run.placement.inference(),
            redis=run.redis,
            device=device.type,
        )
        # Processes that took the place of a dead one.
        self.restarts = 0
        self._process: str | None = None
        self.use = RoleUse()

    def look(self) -> dict[str, float]:
        """Metrics since the last look; empty if it does not answer in time."""
        report: InferenceReport | None = answers([ask(self.handle, "report")])[0]
        if report is None:
            return {}
        if self._process not in (None, report.process):
            self.restarts += 1
            self._run.note(
                "the inference server died and was started again; actors ask it once more"
            )
            self._run.deaths.count("the inference server died")
        self._process = report.process
        self.use.take(report.process, report.use)
        if not report.counts.batches:
            return {}
        return {"inference_batch": report.counts.states / report.counts.batches}

    def end(self) -> None:
        """End the process, whatever it does."""
        ray.kill(self.handle)
