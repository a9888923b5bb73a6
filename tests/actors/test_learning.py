"""Does it learn? Actors, replay and learner together, on games whose best policy is known."""

import numpy as np
import pytest
import signals
import torch
from players import build_expert, table_spec

from actors.actor import Actor
from actors.config import ActorConfig
from actors.evaluator import evaluate
from actors.inference import OwnInference
from actors.priorities import PolicyDistance, TdError
from games.registry import make_vector_env
from learner.batch import BatchLoader
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.objectives.config import DqnConfig, MimicConfig
from learner.objectives.mimic import ActorMimicObjective
from learner.objectives.value import DqnObjective
from learner.schedule import LearningRate
from networks.masking import legal_matrix
from networks.network import MultitaskNetwork
from networks.weights import LocalWeights
from replay.client import LocalReplayClient
from replay.config import ReplayConfig
from replay.shard import ReplayShard

CPU = torch.device("cpu")
TEMPERATURE = 0.2


def build_student(features=None):
    torch.manual_seed(1)
    return MultitaskNetwork(
        torso="minatar",
        observation_shape=signals.GAMES[0].observation_shape,
        num_actions=signals.NUM_ACTIONS,
        games=[spec.name for spec in signals.GAMES],
        teacher_feature_sizes=features or {},
    )


def build_env(spec, seed, num_envs=8):
    return make_vector_env(spec, num_envs=num_envs, protocol="classic", seed=seed)


def build_actor(spec, *, network, teacher, rule, replay, weights, serial, store_features=False):
    return Actor(
        ActorConfig(num_envs=8, chunk_steps=8),
        env=build_env(spec, serial),
        inference=OwnInference(network, weights),
        teachers=(teacher,) if teacher else (),
        store_features=store_features,
        priority_rule=rule,
        epsilons=np.full(8, 0.2, np.float32),
        life_loss_ends_return=True,
        replay=replay,
        serial=serial,
        seed=2,
    )


def train(learner, actors, replay, num_updates):
    """The two halves in turn, as replay lets them."""
    learner.publish()
    while learner.num_updates < num_updates:
        for actor in actors:
            actor.pull_weights()
            assert replay.add(actor.collect())
        while (batch := replay.sample()) is not None:
            learner.update(learner.load_batch(batch))


def build_replay(tables, samples_per_insert):
    config = ReplayConfig(
        batch_size=64,
        capacity_per_game=4_000,
        min_size_per_game=200,
        samples_per_insert=samples_per_insert,
        samples_per_insert_cap=4 * samples_per_insert,
        error_buffer=2_000.0,
    )
    return LocalReplayClient([ReplayShard(config, tables, seed=3)])


def build_learner(network, objective, replay, weights):
    config = LearnerConfig(learning_rate=2e-3, precision="float32", publish_period=10)
    return Learner(
        config,
        network=network,
        objective=objective,
        optimizer=torch.optim.Adam(network.parameters(), lr=config.learning_rate),
        learning_rate=LearningRate(
            start=config.learning_rate, num_updates=1, decay_share=config.learning_rate_decay
        ),
        load_batch=BatchLoader(CPU, gamma=0.9, reward_clip=1.0),
        replay=replay,
        weights=weights,
        device=CPU,
    )


@pytest.mark.slow
@pytest.mark.parametrize("feature_weight", [0.0, 0.01])
def test_a_student_of_two_games_comes_to_agree_with_its_teachers(feature_weight):
    experts = {}
    for index, spec in enumerate(signals.GAMES):
        experts[spec.name] = build_expert(spec, signals.fit_best_policy(spec, seed=10 + index))
        alone = evaluate(
            experts[spec.name], build_env(spec, 900), num_episodes=8, epsilon=0.0, seed=0
        )
        assert alone.mean > 0.97 * signals.BEST_RETURN
    sizes = {name: expert.num_features for name, expert in experts.items()}
    stored = sizes if feature_weight else {}
    student = build_student(stored)
    tables = [
        table_spec(
            spec,
            capacity=4_000,
            num_teacher_actions=spec.num_actions,
            num_teacher_features=stored.get(spec.name, 0),
        )
        for spec in signals.GAMES
    ]
    replay, weights = build_replay(tables, 4.0), LocalWeights()
    objective = ActorMimicObjective(
        MimicConfig(feature_weight=feature_weight),
        student,
        legal_GA=legal_matrix(signals.GAMES),
        temperatures=[TEMPERATURE] * 2,
    )
    learner = build_learner(student, objective, replay, weights)
    actors = [
        build_actor(
            spec,
            network=build_student(),
            teacher=experts[spec.name],
            store_features=bool(stored),
            rule=PolicyDistance(spec.legal_mask(), temperature=TEMPERATURE, kind="l1"),
            replay=replay,
            weights=weights,
            serial=serial,
        )
        for serial, spec in enumerate(signals.GAMES)
    ]

    def test_all():
        return [
            evaluate(
                student,
                build_env(spec, 901),
                num_episodes=40,
                epsilon=0.05,
                seed=1,
                teacher=experts[spec.name],
                temperature=TEMPERATURE,
            )
            for spec in signals.GAMES
        ]

    before = test_all()
    assert all(result.agreement < 0.7 for result in before)
    train(learner, actors, replay, num_updates=500)
    for untrained, result in zip(before, test_all(), strict=True):
        assert result.agreement > 0.95
        assert result.kl < untrained.kl / 3
        # One action in twenty is random, and some of those are right.
        assert result.mean > 0.9 * signals.BEST_RETURN


@pytest.mark.slow
def test_value_learning_finds_the_best_policy_from_rewards_alone():
    spec = signals.GAMES[1]

    def build_network():
        torch.manual_seed(1)
        return MultitaskNetwork(
            torso="minatar",
            observation_shape=spec.observation_shape,
            num_actions=spec.num_actions,
            dueling=True,
        )

    network = build_network()
    config = DqnConfig(num_steps=3, gamma=0.9, target_period=50)
    replay = build_replay([table_spec(spec, capacity=4_000, num_successors=3)], 8.0)
    weights = LocalWeights()
    objective = DqnObjective(config, network, legal_GA=legal_matrix([spec]))
    learner = build_learner(network, objective, replay, weights)
    rule = TdError(spec.legal_mask(), num_steps=3, gamma=0.9, reward_clip=1.0)
    actor = build_actor(
        spec,
        network=build_network(),
        teacher=None,
        rule=rule,
        replay=replay,
        weights=weights,
        serial=0,
    )

    def play():
        return evaluate(network, build_env(spec, 901), num_episodes=40, epsilon=0.0, seed=1).mean

    assert play() < 0.6 * signals.BEST_RETURN
    train(learner, [actor], replay, num_updates=3_000)
    assert play() > 0.95 * signals.BEST_RETURN
