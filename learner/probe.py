"""Looks at a network while it learns, now and then, and changes nothing of it."""

from __future__ import annotations

import time

import torch
from torch.optim import Optimizer

from learner.batch import DeviceBatch
from learner.diagnostics import dead_share, effective_rank, weight_norm
from learner.interference import adam_scale, cosines, gradients_of, halves_of_games
from learner.objectives.base import Objective
from networks.network import MultitaskNetwork

# Updates that take so many times as long as a look lie between two of them: under 1 % of the time.
_TIMES_A_LOOK = 100


class Probe:
    """Figures of the network's health, and of how its games agree, from batches it learns from."""

    def __init__(
        self,
        network: MultitaskNetwork,
        *,
        objective: Objective,
        optimizer: Optimizer,
        period: int,
    ) -> None:
        """Look every `period` updates; later, where that would take 1 % of the time."""
        self._network = network
        self._objective = objective
        self._optimizer = optimizer
        self._period = period
        self._next_update = period
        self._next_s = 0.0
        self._found: dict[str, float] = {}

    def after_update(self, batch: DeviceBatch, *, num_updates: int, updating_s: float) -> None:
        """Look, if it is time for that; `updating_s` is the time that updates have taken so far."""
        if num_updates < self._next_update or updating_s < self._next_s:
            return
        start = time.perf_counter()
        self._found = self._look(batch)
        self._next_update = num_updates + self._period
        self._next_s = updating_s + _TIMES_A_LOOK * (time.perf_counter() - start)

    def follow(self, objective: Objective) -> None:
        """Compare the games' gradients of another objective of the same network from now on."""
        self._objective = objective

    def drain(self) -> dict[str, float]:
        """What the last look has found, once."""
        found, self._found = self._found, {}
        return found

    def _look(self, batch: DeviceBatch) -> dict[str, float]:
        with torch.no_grad():
            # Of the torso: what an LSTM makes of them depends on more than a state.
            features_BF = self._network.encode(batch.observations_BCHW, batch.game_index_B).float()
        found = {
            "effective_rank": effective_rank(features_BF),
            "dead_units": dead_share(features_BF),
            "weight_norm": weight_norm(self._network),
        }
        return found | self._compare_games(batch)

    def _compare_games(self, batch: DeviceBatch) -> dict[str, float]:
        halves = halves_of_games(batch)
        learning = [p for p in self._network.torso.parameters() if p.requires_grad]
        if len(halves) < 2 or not learning:
            return {}
        parts = [batch.take(places) for pair in halves.values() for places in pair]
        gradients_VP = gradients_of(lambda part: self._objective(part).loss, learning, parts)
        found = cosines(list(halves), gradients_VP)
        if (scale_P := adam_scale(self._optimizer, learning)) is not None:
            found |= cosines(list(halves), gradients_VP * scale_P, "_adam")
        return found
