"""The inference server over Ray: its process, which has the network, and an actor's side."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError

from actors.inference import InferenceCounts, Inferred
from engines.on_ray.calls import (
    INFERENCE_GROUP,
    LOSSES,
    RESTART_PAUSE_S,
    THIS_PROCESS,
    could_not_start,
)
from engines.on_redis.bus import RedisAddress
from engines.on_redis.weights import RedisWeightSource
from games.spec import Observations
from networks.weights import WeightsVersion
from recipes.recipe import Recipe
from recipes.roles import build_inference_server
from records.machine import usable_cores
from records.usage import ProcessUse

# How long the inference server waits for weights before it acts with random ones.
_FIRST_WEIGHTS_S = 30.0

# How long an actor waits for a server that is being started again, or does not answer.
INFERENCE_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class InferenceReport:
    """What the inference server's process says of itself."""

    # See calls.THIS_PROCESS.
    process: str
    # Since the process began.
    counts: InferenceCounts
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

    def infer(self, observations: Observations, game_index: int) -> Inferred:
        """Compute the logits of one actor's observations, in a batch with those of others."""
        return self._server.infer(observations, game_index, timeout_s=INFERENCE_PATIENCE_S)

    def report(self) -> InferenceReport:
        """Answered while others are."""
        return InferenceReport(
            process=THIS_PROCESS,
            counts=replace(self._server.counts),
            use=ProcessUse.of_this(self._weights.counters()),
        )


class RayInference:
    """Asks the server for the logits of one game; see actors.inference.Inference.

    Observations go through Ray's object store. When the server's process dies, the same
    observations are sent to the one that Ray starts in its place: the actor waits, and nothing that
    it has played is lost.
    """

    def __init__(
        self, server: Any, game_index: int, *, patience_s: float = INFERENCE_PATIENCE_S
    ) -> None:
        """Nothing is asked yet; `game_index`: the game's place among those of the network."""
        self._server = server
        self._game_index = game_index
        self._patience_s = patience_s
        self._observations: Observations | None = None
        self._reply: Any = None
        self.version: WeightsVersion | None = None

    def follow_weights(self) -> None:
        """The server does that."""

    def begin(self, observations: Observations, is_first: NDArray[np.bool_]) -> None:
        """Send the observations; Ray has copied them when this returns."""
        self._observations = observations
        self._send()

    def _send(self) -> None:
        infer = self._server.infer.options(concurrency_group=INFERENCE_GROUP)
        self._reply = infer.remote(self._observations, self._game_index)

    def finish(self) -> NDArray[np.float32]:
        """Wait for the logits from the server, or from its successor if it dies meanwhile.

        RuntimeError if nothing was answered for too long.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                answer: Inferred = ray.get(self._reply, timeout=deadline - time.monotonic())
            except LOSSES as error:
                if could_not_start(error):
                    raise
                if time.monotonic() + RESTART_PAUSE_S < deadline:
                    time.sleep(RESTART_PAUSE_S)
                    self._send()
                    continue
                raise self._given_up() from error
            except GetTimeoutError as error:
                raise self._given_up() from error
            self.version = answer.version
            # Ray's arrays are views of its memory, which may be wanted for other things.
            return np.array(answer.logits)

    @property
    def memory(self) -> NDArray[np.float32]:
        """Nothing: the server plays networks without an LSTM."""
        return np.zeros((0, 0), np.float32)

    def _given_up(self) -> RuntimeError:
        return RuntimeError(
            f"the inference server has not answered for {self._patience_s:g} s; "
            "actor.inference actor does without it"
        )
