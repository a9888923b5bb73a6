"""An actor's side of the inference server over Ray: observations there, logits back."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError

from actors.inference import Inferred
from engines.on_ray.calls import INFERENCE_GROUP, LOSSES, RESTART_PAUSE_S, could_not_start
from networks.weights import WeightsVersion

# How long an actor waits for a server that is being started again, or does not answer.
INFERENCE_PATIENCE_S = 120.0


class RayInference:
    """Asks the server for the logits of one game; see actors.inference.Inference.

    Observations go through Ray's object store. When the server's process dies, the same
    observations are sent to the one that Ray starts in its place: the actor waits, and nothing that
    it has played is lost.
    """

    def __init__(
        self, server: Any, game_index: int, *, patience_s: float = INFERENCE_PATIENCE_S
    ) -> None:
        """Nothing is asked yet.

        Args:
            server: handle of the server's process.
            game_index: the game's place among those of the network.
            patience_s: after which a server that has not answered counts as lost.
        """
        self._server = server
        self._game_index = game_index
        self._patience_s = patience_s
        self._observations: NDArray[np.uint8] | None = None
        self._reply: Any = None
        self.version: WeightsVersion | None = None

    def follow_weights(self) -> None:
        """The server does that."""

    def begin(self, observations: NDArray[np.uint8]) -> None:
        """Send the observations; Ray has copied them when this returns."""
        self._observations = observations
        self._send()

    def _send(self) -> None:
        infer = self._server.infer.options(concurrency_group=INFERENCE_GROUP)
        self._reply = infer.remote(self._observations, self._game_index)

    def finish(self) -> NDArray[np.float32]:
        """Wait for the logits from the server, or from its successor if it dies meanwhile.

        Raises:
            RuntimeError: nothing was answered for too long.
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

    def _given_up(self) -> RuntimeError:
        return RuntimeError(
            f"the inference server has not answered for {self._patience_s:g} s; "
            "actor.inference actor does without it"
        )
