"""Learners in several processes that make every update together, and batches for their parts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from batches import SPECS, build_student, build_value_network, random_batch
from fakes import FakeReplay, FakeWeights
from numpy.typing import NDArray
from players import table_spec

from learner.batch import BatchLoader
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.objectives.config import DqnConfig, MimicConfig
from learner.objectives.mimic import ActorMimicObjective
from learner.objectives.value import DqnObjective
from learner.optim import build_optimizer
from learner.replicas import LOOPBACK, Host, MeetingPoint, ReplicaGroup, Replicas
from learner.schedule import LearningRate
from networks.masking import legal_matrix
from replay.pace.allotment import BatchAllotment
from replay.types import ItemKeys, SampleBatch, Successors

CPU = torch.device("cpu")
SHARES = (1.0, 3.0)
"""Of the two games in every batch."""
BATCH_WEIGHT = 0.75
"""Mean loss weight of a transition, as of a shard that does not have all games."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    value_learning: bool = False
    mimic: MimicConfig = field(default_factory=lambda: MimicConfig(temperature=0.5))
    dqn: DqnConfig = field(
        default_factory=lambda: DqnConfig(target_period=7, importance_exponent=0.6)
    )
    learner: LearnerConfig = field(
        default_factory=lambda: LearnerConfig(precision="float32", max_gradient_norm=0.05)
    )


def build_case_learner(case: Case, *, batch_size: int, seed: int = 0) -> Learner:
    """A learner of the whole batch, or of a part of it once it has joined others."""
    objective: ActorMimicObjective | DqnObjective
    if case.value_learning:
        network: Any = build_value_network(seed)
        objective = DqnObjective(case.dqn, network, legal_GA=legal_matrix(SPECS))
    else:
        network = build_student(seed, features=case.mimic.feature_weight > 0)
        objective = ActorMimicObjective(
            case.mimic, network, legal_GA=legal_matrix(SPECS), temperatures=(0.5, 0.25)
        )
    return Learner(
        case.learner,
        network=network,
        objective=objective,
        optimizer=build_optimizer(case.learner, network.parameters(), mean_over=batch_size),
        learning_rate=LearningRate(
            start=case.learner.learning_rate, num_updates=100, decay_share=0.0
        ),
        load_batch=BatchLoader(CPU, gamma=0.9, reward_clip=1.0),
        replay=FakeReplay([table_spec(spec) for spec in SPECS], batch_size=batch_size),
        weights=FakeWeights(),
        device=CPU,
    )


def make_part(seed: int, counts: Sequence[int], *, num_successors: int = 0) -> SampleBatch:
    """A batch with loss weights as replay gives them to a batch of these counts."""
    batch = random_batch(seed, counts=counts, num_successors=num_successors)
    return replace(batch, loss_weights=_weights(counts)[batch.keys.game_index])


def concatenated(parts: Sequence[SampleBatch]) -> SampleBatch:
    """All rows in one batch, weighted as replay weights one of so many rows of each game."""
    game_index = np.concatenate([part.game_index for part in parts])
    order = np.argsort(game_index, kind="stable")
    counts = np.bincount(game_index, minlength=len(SHARES))
    whole = _concatenate(parts, order)
    return replace(whole, loss_weights=_weights(counts)[game_index[order]])


def _weights(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
    counts = np.asarray(counts, np.int64)
    weights = BatchAllotment(SHARES, int(counts.sum())).loss_weights(counts.tolist())
    return np.array(weights, np.float32) * np.float32(BATCH_WEIGHT)


def _concatenate(parts: Sequence[Any], order: NDArray[np.int64]) -> Any:
    """Field by field; what belongs to no single row is the first one's."""
    values = {}
    for item in fields(parts[0]):
        column = [getattr(part, item.name) for part in parts]
        if isinstance(column[0], np.ndarray):
            values[item.name] = np.concatenate(column)[order]
        elif item.name == "columns":
            values[item.name] = {
                name: np.concatenate([part[name] for part in column])[order] for name in column[0]
            }
        elif isinstance(column[0], ItemKeys | Successors):
            values[item.name] = _concatenate(column, order)
        else:
            values[item.name] = column[0]
    return type(parts[0])(**values)


Work = Callable[..., Any]


def run_replicas(work: Work, *args: Any, size: int = 2, timeout_s: float = 120.0) -> list[Any]:
    """What `work(replicas, *args)` returns in each of `size` processes; its error as it is."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for rank in range(size):
            here, there = context.Pipe()
            process = context.Process(target=_replica, args=(there, rank, size, work, args))
            process.start()
            there.close()
            pipes.append(here)
            processes.append(process)
        point = _receive(pipes[0], timeout_s)
        for pipe in pipes:
            pipe.send(point)
        return [_receive(pipe, timeout_s) for pipe in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join(timeout_s)


def _receive(pipe: Connection, timeout_s: float) -> Any:
    assert pipe.poll(timeout_s), f"a replica has said nothing for {timeout_s} s"
    try:
        return pipe.recv()
    except EOFError:
        return None  # It has died, as some are told to.


def _replica(pipe: Connection, rank: int, size: int, work: Work, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    host = None
    if rank == 0:
        host = Host(LOOPBACK)
        pipe.send(host.point)
    point: MeetingPoint = pipe.recv()
    replicas = ReplicaGroup(
        point, rank=rank, size=size, own_address=LOOPBACK, device=CPU, host=host, timeout_s=60.0
    )
    pipe.send(work(replicas, *args))
    # Not before all have had what they were waiting for.
    pipe.poll(60.0)


def learn_parts(
    replicas: Replicas, cases: Sequence[Case], updates: Sequence[Sequence[SampleBatch]]
) -> list[dict[str, Any]]:
    """Learn all cases; each update's batch is in as many parts as there are replicas."""
    results = []
    for case in cases:
        # Other weights in every replica, which must not matter: rank 0's are taken.
        learner = build_case_learner(case, batch_size=_size_of(updates[0]), seed=replicas.rank)
        learner.join(replicas)
        for parts in updates:
            learner.update(learner.load_batch(parts[replicas.rank]))
        results.append({**learner.state(), "metrics": learner.drain_metrics()})
    return results


def learn_whole(case: Case, updates: Sequence[Sequence[SampleBatch]]) -> dict[str, Any]:
    """What a lone learner makes of the same rows."""
    learner = build_case_learner(case, batch_size=_size_of(updates[0]))
    for parts in updates:
        learner.update(learner.load_batch(concatenated(parts)))
    return {**learner.state(), "metrics": learner.drain_metrics()}


def _size_of(parts: Sequence[SampleBatch]) -> int:
    return sum(len(part.game_index) for part in parts)
