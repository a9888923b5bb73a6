"""The inference server as a process: the student's logits for all actors."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from actors.inference import InferenceCounts, Inferred
from engines.on_ray.answers import own_role_process
from engines.on_ray.inference_client import INFERENCE_PATIENCE_S
from engines.on_ray.link import Link
from engines.on_redis.weights import RedisWeightSource
from recipes.recipe import Recipe
from recipes.roles import build_inference_server
from records.process_id import ProcessId
from records.usage import ProcessUse

_FIRST_WEIGHTS_S = 30.0
"""How long the inference server waits for weights before it acts with random ones."""


@dataclass(frozen=True, slots=True)
class InferenceReport:
    """What the inference server's process says of itself."""

    process: ProcessId
    counts: InferenceCounts
    """Since the process began."""
    redis_reconnects: int
    use: ProcessUse


class InferenceProcess:
    """An InferenceServer in a process of its own, which Ray starts again when it dies."""

    def __init__(self, recipe: Recipe, *, link: Link, device: str) -> None:
        """Begin to answer when the first weights are there, if they come soon."""
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
        self._weights = RedisWeightSource(link.redis_url, link.run)
        # A new one must not answer by weights older than those of the one before.
        self._weights.wait(None, timeout_s=_FIRST_WEIGHTS_S)
        self._server = build_inference_server(
            recipe, weights=self._weights, device=torch.device(device)
        )
        threading.Thread(target=self._server.run, name="inference", daemon=True).start()

    def infer(self, observations: NDArray[np.uint8], game_index: int) -> Inferred:
        """See InferenceServer."""
        return self._server.infer(observations, game_index, timeout_s=INFERENCE_PATIENCE_S)

    def report(self) -> InferenceReport:
        """Answered while others are."""
        redis = self._weights.counters()
        return InferenceReport(
            process=own_role_process(),
            counts=replace(self._server.counts),
            redis_reconnects=redis["redis_reconnects"],
            use=ProcessUse.of_this(weight_bytes=redis["weight_bytes"]),
        )
