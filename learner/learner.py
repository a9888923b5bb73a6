"""Learning: takes batches from replay, updates the network, sends priorities and weights back.

Knows neither Ray nor Redis, and does not know which objective it minimizes.

    replay.sample -> loader -> objective -> optimizer -> replay.update_priorities
                                                      -> weights.publish
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from learner.batch import DeviceBatch, pool_weights
from learner.config import LearnerConfig, Precision
from learner.game_means import GameMeans
from learner.objectives.base import Objective
from learner.optim import set_constants
from learner.probe import Probe
from learner.replicas import LoneReplica, Replicas
from learner.schedule import LearningRate
from networks.snapshots import take_snapshot
from networks.weights import WeightSink, WeightsVersion, updates_of
from replay.client import ReplayReader
from replay.types import ItemKeys, PriorityUpdate, SampleBatch


@dataclass(frozen=True, slots=True)
class _PendingPriorities:
    """Priorities of the last batch, on their way from the device."""

    keys: ItemKeys
    # Priorities in the host's memory; not to be read before `copied`.
    priorities_B: Tensor
    # When the copy has arrived; None where nothing needs to be copied.
    copied: torch.cuda.Event | None


class Learner:
    """One network, one objective, one optimizer."""

    def __init__(
        self,
        config: LearnerConfig,
        *,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        learning_rate: LearningRate,
        load_batch: Callable[[SampleBatch], DeviceBatch],
        replay: ReplayReader,
        weights: WeightSink,
        device: torch.device,
        probe: Probe | None = None,
        incarnation: int = 0,
    ) -> None:
        """Nothing is published yet.

        `probe` looks at the network after updates; None for nobody. `incarnation` is above that of
        any learner this run has had; `load_state` may raise it.
        """
        self._config = config
        self._precision = precision_on(device, config.precision)
        self.network = network
        self._objective = objective
        self._optimizer = optimizer
        self._learning_rate = learning_rate
        self._load_batch = load_batch
        self._replay = replay
        self._weights = weights
        self.device = device
        self._probe = probe
        self._incarnation = incarnation
        self._replicas: Replicas = LoneReplica()
        self._pending: _PendingPriorities | None = None
        self._metric_sums: dict[str, Tensor] = {}
        self._num_summed = 0
        self._policy_lag_sum = 0.0
        self._game_means = GameMeans()
        self.num_updates = 0
        # Time in `update`; on an accelerator, about what that has worked.
        self.updating_s = 0.0

    @property
    def version(self) -> WeightsVersion:
        """Version of the weights as they are now."""
        return WeightsVersion(self._incarnation, self.num_updates)

    def join(self, replicas: Replicas) -> None:
        """Make every update together with these from now on, beginning with rank 0's weights.

        All have loaded the same state, or none. `update` then takes a part of a batch, and all
        replicas must call it equally often: it waits for the others, and raises ReplicaLostError
        before anything is changed if one is lost. Only rank 0 publishes.
        """
        self._replicas = replicas
        replicas.take_from_first(
            [*self.network.state_dict().values(), *self._objective.state().values()]
        )

    def load_batch(self, batch: SampleBatch) -> DeviceBatch:
        """Bring a batch to the device; may be called from another thread than `update`."""
        return self._load_batch(batch)

    def update(self, batch: DeviceBatch) -> None:
        """One optimizer step; publishes the weights when their period is over."""
        start = time.perf_counter()
        lag = np.maximum(self.num_updates - updates_of(batch.acting_versions), 0)
        self._policy_lag_sum += float(lag.mean())
        self._freeze_torso(self.num_updates < self._config.frozen_torso_updates)
        batch = pool_weights(batch, self._replicas)
        with self._autocast():
            result = self._objective(batch)
        priorities = self._start_copy(batch.keys, result.priorities_B)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(result.loss)
        self._replicas.average(
            [*self._gradients(), *result.metrics.values(), *result.game_sums.values()]
        )
        if self._config.max_gradient_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.max_gradient_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate.at(self.num_updates)
        self._optimizer.step()
        self.num_updates += 1
        self._objective.after_update(self.num_updates)
        # One update late: reading this batch's priorities now would wait for the device.
        self.flush_priorities()
        self._pending = priorities
        self._add_metrics(result.metrics)
        self._game_means.add(batch, result.game_sums, lag)
        if self.num_updates % self._config.publish_period == 0:
            self.publish()
        self.updating_s += time.perf_counter() - start
        if self._probe is not None and self._replicas.rank == 0:
            with self._autocast():
                self._probe.after_update(
                    batch, num_updates=self.num_updates, updating_s=self.updating_s
                )

    def _freeze_torso(self, is_frozen: bool) -> None:
        """Let the torso's weights learn or stay; parameters without gradients are left alone."""
        if self._config.frozen_torso_updates:
            torso = self.network.get_submodule("torso")
            torso.requires_grad_(not is_frozen)

    def flush_priorities(self) -> None:
        """Send the priorities of the last batch to replay, if they have not been sent yet.

        ValueError if they are not finite, because training has diverged.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        if pending.copied is not None:
            pending.copied.synchronize()
        priorities = pending.priorities_B.numpy()
        if not np.isfinite(priorities).all():
            raise ValueError(
                f"training has diverged by update {self.num_updates}: new priorities are not "
                "finite; lower learner.learning_rate or look at the rewards' scale"
            )
        self._replay.update_priorities(PriorityUpdate(keys=pending.keys, priorities=priorities))

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Tell the objective how far the student is behind each teacher of some games."""
        self._objective.follow_gaps(gaps)

    def publish(self) -> None:
        """Give the acting weights to everyone; ValueError if they are not finite."""
        if self._replicas.rank != 0:
            return
        self._weights.publish(take_snapshot(self.network, self.version))

    def drain_metrics(self) -> dict[str, float]:
        """Means over what came since the last call: the objective's metrics and `policy_lag`.

        Those of single games begin with `game/GAME/` and are means over their transitions.
        `policy_lag` is in updates; policies of an incarnation that had got further than this one
        count as 0. What the probe has found is of one batch. Nothing is in it that nothing came
        for. With other replicas, the objective's metrics are of whole batches, `policy_lag` of
        this replica's parts.
        """
        metrics = {
            name: float(total) / self._num_summed for name, total in self._metric_sums.items()
        }
        if self._num_summed:
            metrics["policy_lag"] = self._policy_lag_sum / self._num_summed
        metrics |= self._game_means.drain()
        metrics |= self._probe.drain() if self._probe is not None else {}
        self._metric_sums, self._num_summed, self._policy_lag_sum = {}, 0, 0.0
        return metrics

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must keep: tensors, numbers and strings only.

        A copy in the host's memory: later updates do not reach it, and a process without a GPU
        can receive it.
        """
        state: dict[str, Any] = _copy_to_host(
            {
                "num_updates": self.num_updates,
                "incarnation": self._incarnation,
                "network": self.network.state_dict(),
                "objective": self._objective.state(),
                "optimizer": self._optimizer.state_dict(),
            }
        )
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, as a later incarnation.

        The constructor's incarnation counts if it is above the next one: two learners that are
        restarted from the same checkpoint must not publish under the same versions. ValueError for
        the state of another network, objective or optimizer.
        """
        try:
            self.network.load_state_dict(state["network"])
            self._objective.load_state(state["objective"])
            # Copied: an optimizer goes on with the tensors that it is given.
            saved = _copy_to_host(state["optimizer"])
            # Moments come from the checkpoint, rates and constants from this run's settings.
            saved["param_groups"] = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict(saved)
            self.num_updates = int(state["num_updates"])
            self._incarnation = max(self._incarnation, int(state["incarnation"]) + 1)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                "the checkpoint does not fit this run; go on with the network, games and optimizer "
                f"it was started with ({' '.join(str(error).split())})"
            ) from error

    def take_over(self, state: dict[str, Any]) -> None:
        """Go on from the weights and the optimizer's state of another learner of the same shape.

        This learner's own count of updates stays. It becomes a later incarnation, so that everyone
        follows the new weights once they are published. ValueError as for `load_state`.
        """
        own = {"num_updates": self.num_updates, "incarnation": self._incarnation}
        self.load_state(state | own)

    def change(
        self, config: LearnerConfig, *, objective: Objective, learning_rate: LearningRate
    ) -> None:
        """Learn by other settings from the next update on.

        `objective` is one of the same kind for the same network, freshly built.
        """
        objective.load_state(self._objective.state())
        self._config = config
        self._objective = objective
        self._learning_rate = learning_rate
        set_constants(self._optimizer, config)
        if self._probe is not None:
            self._probe.follow(objective)

    def _gradients(self) -> list[Tensor]:
        """Gradients of all parameters, in order; zeros where this part of a batch has none."""
        gradients = []
        for parameter in self.network.parameters():
            if parameter.grad is None and self._replicas.size > 1:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        return gradients

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _add_metrics(self, metrics: dict[str, Tensor]) -> None:
        # Summed on the device: reading each value at once would wait for it.
        for name, value in metrics.items():
            previous = self._metric_sums.get(name)
            self._metric_sums[name] = value if previous is None else previous + value
        self._num_summed += 1

    def _start_copy(self, keys: ItemKeys, priorities_B: Tensor) -> _PendingPriorities:
        """Begin to copy priorities to the host, behind the work they come from.

        Copied only when they are sent, they would queue behind the update that follows.
        """
        on_host_B = priorities_B.float().to("cpu", non_blocking=True)
        if self.device.type != "cuda":
            return _PendingPriorities(keys, on_host_B, None)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        return _PendingPriorities(keys, on_host_B, copied)


def precision_on(device: torch.device, wanted: Precision) -> Literal["float32", "bfloat16"]:
    """Precision that is used on `device` when `wanted` is configured."""
    if wanted != "auto":
        return wanted
    if device.type != "cpu":
        return "bfloat16"
    # PyTorch emulates what the processor lacks, eight times slower than float32. A PyTorch that
    # cannot say what the processor has counts as one without.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_bfloat16 = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bfloat16" if has_bfloat16 else "float32"


def _copy_to_host(value: Any) -> Any:
    """Nested containers with every tensor copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy_to_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy_to_host(item) for item in value)
    return value
