"""Where an actor's logits come from: a network of its own, or a server that many actors share.

A large network is slow on an actor's one core. The server computes the states of many actors in one
batch, on a GPU or on more cores. It knows neither Ray nor Redis; each actor's side of it is an
`Inference` that carries observations there and logits back (engines/on_ray/inference.py).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from games.spec import Observations
from networks.acting import Acting
from networks.snapshots import apply_snapshot
from networks.weights import WeightSource, WeightsVersion


class Inference(Protocol):
    """Gives an actor the logits that it acts by."""

    @property
    def version(self) -> WeightsVersion | None:
        """Version of the weights behind the last logits; None before any were published."""
        ...

    def follow_weights(self) -> None:
        """Called between two chunks: use the newest weights from now on."""
        ...

    def begin(self, observations: Observations, is_first: NDArray[np.bool_]) -> None:
        """Ask for the logits of observations [N, C, H, W], which stay as they are until `finish`.

        `is_first` [N] says where an episode begins. What the actor does meanwhile does not hold
        them up.
        """
        ...

    def finish(self) -> NDArray[np.float32]:
        """The logits [N, A] that `begin` asked for."""
        ...

    @property
    def memory(self) -> NDArray[np.float32]:
        """[N, M] What the network remembered before these observations; M is 0 without an LSTM."""
        ...


class OwnInference:
    """A copy of the network in the actor's own process; see Inference."""

    def __init__(self, network: nn.Module, weights: WeightSource) -> None:
        """Act with `network`, which gets its weights from `weights`."""
        self._network = network.eval()
        self._act = Acting(self._network)
        self._weights = weights
        self._logits: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self.version: WeightsVersion | None = None

    def follow_weights(self) -> None:
        """Load the newest weights into the copy, if there are newer ones."""
        snapshot = self._weights.poll(self.version)
        if snapshot is not None:
            apply_snapshot(self._network, snapshot)
            self.version = snapshot.version

    def begin(self, observations: Observations, is_first: NDArray[np.bool_]) -> None:
        """Compute the logits at once."""
        with torch.inference_mode():
            self._logits = self._act(torch.from_numpy(observations), is_first).numpy()

    def finish(self) -> NDArray[np.float32]:
        """The logits that `begin` has computed."""
        return self._logits

    @property
    def memory(self) -> NDArray[np.float32]:
        """What the network remembered before the observations of `begin`."""
        return self._act.memory_BM.numpy()


@dataclass(frozen=True, slots=True)
class Inferred:
    """The server's answer to one request."""

    # [N, A]
    logits: NDArray[np.float32]
    # Version of the weights that gave them.
    version: WeightsVersion | None


@dataclass(frozen=True, slots=True)
class _Request:
    observations: Observations
    game_index: int
    answer: Future[Inferred] = field(default_factory=Future)
    asked: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class InferenceCounts:
    """What a server has done; their quotient is the mean batch."""

    states: int = 0
    batches: int = 0


class InferenceServer:
    """Answers the requests of many threads, as many as there are in one batch."""

    def __init__(
        self,
        network: nn.Module,
        *,
        weights: WeightSource,
        device: torch.device,
        max_batch: int,
        max_wait_s: float,
    ) -> None:
        """Nothing is computed before `run`.

        Args:
            network: on `device`; called with observations [B, C, H, W] and the indices [B] of
                their games.
            weights: gives the newest weights, which are looked for before every batch.
            device: where to compute.
            max_batch: states in one batch, unless a single request has more.
            max_wait_s: how long the oldest request waits for others.
        """
        self._network = network.eval()
        self._weights = weights
        self._device = device
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._requests: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._version: WeightsVersion | None = None
        self.counts = InferenceCounts()

    def infer(self, observations: Observations, game_index: int, *, timeout_s: float) -> Inferred:
        """Logits of observations [N, C, H, W] of one game; ended by the batch they get into.

        Raises:
            TimeoutError: they have not got into one in time.
            RuntimeError: the server is closed.
        """
        request = _Request(observations, game_index)
        with self._changed:
            if self._closed:
                raise RuntimeError("the inference server is closed")
            self._requests.append(request)
            self._changed.notify_all()
        return request.answer.result(timeout=timeout_s)

    def run(self) -> None:
        """Answer until `close`."""
        while requests := self._next_requests():
            try:
                self._answer(requests)
            except Exception as error:
                # For those who asked: they stop the run with it.
                for request in requests:
                    request.answer.set_exception(error)

    def close(self) -> None:
        """Make `run` return; whoever still waits gets a RuntimeError."""
        with self._changed:
            self._closed = True
            for request in self._requests:
                request.answer.set_exception(RuntimeError("the inference server is closed"))
            self._requests.clear()
            self._changed.notify_all()

    def _next_requests(self) -> list[_Request]:
        """Those of the next batch; none once the server is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._closed)
            if self._closed:
                return []
            left_s = self._requests[0].asked + self._max_wait_s - time.monotonic()
            self._changed.wait_for(lambda: self._is_full() or self._closed, max(0.0, left_s))
            return self._take()

    def _is_full(self) -> bool:
        return sum(len(request.observations) for request in self._requests) >= self._max_batch

    def _take(self) -> list[_Request]:
        """The oldest requests that fit into a batch; at least one, if there is any."""
        taken: list[_Request] = []
        size = 0
        while self._requests:
            size += len(self._requests[0].observations)
            if taken and size > self._max_batch:
                break
            taken.append(self._requests.popleft())
        return taken

    def _answer(self, requests: list[_Request]) -> None:
        snapshot = self._weights.poll(self._version)
        if snapshot is not None:
            apply_snapshot(self._network, snapshot)
            self._version = snapshot.version
        counts = [len(request.observations) for request in requests]
        games = np.repeat([request.game_index for request in requests], counts)
        observations = np.concatenate([request.observations for request in requests])
        with torch.inference_mode():
            logits_BA = self._network(
                torch.from_numpy(observations).to(self._device),
                torch.from_numpy(games).to(self._device),
            )
        parts = np.split(logits_BA.cpu().numpy(), np.cumsum(counts)[:-1])
        self.counts.states += len(observations)
        self.counts.batches += 1
        for request, logits in zip(requests, parts, strict=True):
            request.answer.set_result(Inferred(logits, self._version))
