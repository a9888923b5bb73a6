"""Where logits come from: the actor's own network, or a server for many actors."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import pytest
import torch
from batches import SPECS, build_student
from players import TagTeacher
from runs import wait_until

from actors.actor import Actor
from actors.config import ActorConfig
from actors.inference import InferenceServer, OwnInference
from actors.priorities import PolicyDistance
from games.registry import make_vector_env
from networks.snapshots import take_snapshot
from networks.weights import LocalWeights, WeightsVersion

CPU = torch.device("cpu")
SHAPE = SPECS[0].observation_shape
PATIENCE_S = 60.0


class MeanNetwork(torch.nn.Module):
    """Logits: each observation's mean, and its game; keeps the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))
        self.sizes = []

    def forward(self, observations, games):
        self.sizes.append(len(observations))
        means = observations.float().mean((1, 2, 3)) + self.bias
        return torch.stack([means, games.float()], 1)


class FailingNetwork(MeanNetwork):
    """Cannot compute the first batch."""

    def forward(self, observations, games):
        logits = super().forward(observations, games)
        if len(self.sizes) == 1:
            raise ZeroDivisionError("no such luck")
        return logits


def build_server(network, *, weights=None, max_batch=64, max_wait_s=0.0):
    return InferenceServer(
        network,
        weights=weights or LocalWeights(),
        device=CPU,
        max_batch=max_batch,
        max_wait_s=max_wait_s,
    )


@contextmanager
def running(server):
    """The server's loop in a thread."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def observations_of(value, count):
    return np.full((count, *SHAPE), value, np.uint8)


def ask_all(server, sizes, pool):
    """One request of each size, all waiting before the server begins; in this order."""
    answers = []
    for number, size in enumerate(sizes):
        answers.append(
            pool.submit(
                server.infer, observations_of(10 * number, size), number % 2, timeout_s=PATIENCE_S
            )
        )
        wait_until(
            lambda: len(server._requests) == len(answers), timeout_s=PATIENCE_S, what="it waits"
        )
    return answers


# The server


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([3, 2, 4], [9]),
        ([3, 5, 8, 1], [8, 9]),
        ([6, 6, 6], [6, 6, 6]),
        ([20, 2, 2], [20, 4]),
    ],
)
def test_requests_are_answered_in_as_few_batches_as_they_fit_into(sizes, batches):
    network = MeanNetwork()
    server = build_server(network, max_batch=9)
    with ThreadPoolExecutor(len(sizes)) as pool:
        answers = ask_all(server, sizes, pool)
        with running(server):
            for number, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
                expected = np.tile([10.0 * number, number % 2], (size, 1))
                np.testing.assert_array_equal(answer.result(PATIENCE_S).logits, expected)
    assert network.sizes == batches
    assert (server.counts.states, server.counts.batches) == (sum(sizes), len(batches))


def test_a_request_waits_for_others_until_the_batch_is_full():
    """Not for the whole of the longest wait, which would be an hour here."""
    network = MeanNetwork()
    with (
        running(build_server(network, max_batch=6, max_wait_s=3_600.0)) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        answers = [
            pool.submit(server.infer, observations_of(1, 3), 0, timeout_s=PATIENCE_S)
            for _ in range(2)
        ]
        assert all(len(answer.result(PATIENCE_S).logits) == 3 for answer in answers)
    assert network.sizes == [6]


def test_an_error_reaches_those_who_asked_and_nobody_else():
    with running(build_server(FailingNetwork())) as server:
        with pytest.raises(ZeroDivisionError, match="no such luck"):
            server.infer(observations_of(1, 1), 0, timeout_s=PATIENCE_S)
        assert len(server.infer(observations_of(1, 1), 0, timeout_s=PATIENCE_S).logits) == 1


def test_those_who_wait_for_a_server_that_is_closed_are_told():
    server = build_server(MeanNetwork())
    with ThreadPoolExecutor(1) as pool:
        (answer,) = ask_all(server, [2], pool)
        server.close()
        with pytest.raises(RuntimeError, match="closed"):
            answer.result(PATIENCE_S)
    with pytest.raises(RuntimeError, match="closed"):
        server.infer(observations_of(1, 1), 0, timeout_s=PATIENCE_S)
    server.run()  # Returns at once.


# An actor that is served


class Served:
    """A server in this process; see Inference."""

    def __init__(self, server, game_index):
        self.server = server
        self.game_index = game_index
        self.version = None

    def follow_weights(self):
        pass

    def begin(self, observations, is_first):
        self.observations = observations

    def finish(self):
        answer = self.server.infer(self.observations, self.game_index, timeout_s=PATIENCE_S)
        self.version = answer.version
        return answer.logits


def build_actor(spec, inference, *, serial=1):
    return Actor(
        ActorConfig(num_envs=3, chunk_steps=6),
        env=make_vector_env(spec, num_envs=3, protocol="classic", seed=5),
        inference=inference,
        teachers=(TagTeacher(spec),),
        store_features=False,
        priority_rule=PolicyDistance(spec.legal_mask(), temperature=0.5, kind="l1"),
        epsilons=np.full(3, 0.3, np.float32),
        life_loss_ends_return=True,
        replay=None,
        serial=serial,
        seed=4,
    )


def test_a_served_actor_plays_what_one_with_its_own_network_plays():
    weights = LocalWeights()
    weights.publish(take_snapshot(build_student(3), WeightsVersion(0, 9)))
    server = build_server(build_student(1), weights=weights)
    with running(server):
        for index, spec in enumerate(SPECS):
            own = build_actor(spec, OwnInference(build_student(2).act_as(spec.name), weights))
            served = build_actor(spec, Served(server, index))
            for _ in range(4):
                own.pull_weights()
                served.pull_weights()
                assert_same(own.collect(), served.collect())


def assert_same(one, other):
    assert one.columns.keys() == other.columns.keys()
    for name, ours in one.columns.items():
        if np.issubdtype(ours.dtype, np.floating):
            # Other batches are computed in another order.
            np.testing.assert_allclose(
                ours, other.columns[name], rtol=2e-3, atol=1e-5, err_msg=name
            )
        else:
            np.testing.assert_array_equal(ours, other.columns[name], err_msg=name)
    for name in {item.name for item in fields(one)} - {"columns"}:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
