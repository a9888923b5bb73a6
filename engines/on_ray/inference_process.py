"""The inference server as a process: the student's logits for all actors."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from actors.inference import InferenceCounts, Inferred
from engines.on_ray.calls import THIS_PROCESS
from engines.on_ray.inference_client import INFERENCE_PATIENCE_S
from engines.on_redis.bus import RedisAddress
from engines.on_redis.weights import RedisWeightSource
from recipes.recipe import Recipe
from recipes.roles import build_inference_server
from records.machine import usable_cores
from records.usage import ProcessUse

# How long the inference server waits for weights before it acts with random ones.
_FIRST_WEIGHTS_S = 30.0


@dataclass(frozen=True, slots=True)
class InferenceReport:
    """What the inference server's process says of itself."""

    # See calls.THIS_PROCESS.
    process: str
    # Since the process began.
    counts: InferenceCounts
    redis_reconnects: int
    use: ProcessUse


class InferenceProcess:
    """An InferenceServer in a process of its own, which Ray starts again when it dies."""

    def __init__(self, recipe: Recipe, *, redis: RedisAddress, device: str) -> None:
        """Begin to answer when the first weights are there, if they come soon."""
        torch.set_num_threads(max(1, usable_cores() // 2))
        self._weights = RedisWeightSource(redis.url, redis.run)
        # A new one must not answer by weights older than those of the one before.
        self._weights.wait(None, timeout_s=_FIRST_WEIGHTS_S)
        self._server = build_inference_server(
            recipe, weights=self._weights, device=torch.device(device)
        )
        threading.Thread(target=self._server.run, name="inference", daemon=True).start()

    def infer(self, observations: NDArray[np.uint8], game_index: int) -> Inferred:
        """Compute the logits of one actor's observations, in a batch with those of others."""
        return self._server.infer(observations, game_index, timeout_s=INFERENCE_PATIENCE_S)

    def report(self) -> InferenceReport:
        """Answered while others are."""
        redis = self._weights.counters()
        return InferenceReport(
            process=THIS_PROCESS,
            counts=replace(self._server.counts),
            redis_reconnects=redis["redis_reconnects"],
            use=ProcessUse.of_this(weight_bytes=redis["weight_bytes"]),
        )
