"""What is built from a configuration: the same parts for every engine."""

import cProfile
import dataclasses
import pstats

import numpy as np
import pytest
import signals
import torch
from fakes import FakeWeights
from runs import save_random_expert

from actors.config import ActorConfig
from engines.on_ray.room import num_roles
from engines.opening import check_roles
from games import ATARI_GAMES
from learner.objectives.config import MimicConfig
from networks.config import NetworkConfig
from networks.weights import LocalWeights
from recipes.config import RunConfig
from recipes.limits import check_replay_fits, choose_device
from recipes.recipe import Recipe
from recipes.roles import (
    build_actor,
    build_learner,
    build_own_inference,
    build_shard,
    evaluation_seed,
    largest_chunk,
)
from replay.client import LocalReplayClient
from replay.config import ReplayConfig

CPU = torch.device("cpu")
GAMES = tuple(spec.name for spec in signals.GAMES)
REPLAY = ReplayConfig(batch_size=8, capacity_per_game=200, min_size_per_game=40, error_buffer=1e4)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    return [f"{game}={save_random_expert(folder, game, torso='minatar')}" for game in GAMES]


@pytest.fixture
def multitask(teachers):
    return RunConfig(
        games=GAMES,
        num_steps=100,
        teachers=tuple(teachers),
        network=NetworkConfig(torso="minatar"),
        actor=ActorConfig(num_envs=3, chunk_steps=4),
        replay=REPLAY,
    )


@pytest.fixture
def experts():
    return RunConfig(
        games=GAMES,
        objective="dqn",
        num_steps=100,
        network=NetworkConfig(torso="minatar", dueling=True),
        actor=ActorConfig(num_envs=3, chunk_steps=4, exploration="ladder"),
        replay=dataclasses.replace(REPLAY, samples_per_insert=4.0, samples_per_insert_cap=8.0),
    )


def changed(recipe, **changes):
    """The recipe of a changed configuration."""
    return dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, **changes))


def actor_of(recipe, game, *, serial=0, rank=0, num_ranks=1):
    shard = build_shard(recipe)
    return build_actor(
        recipe,
        game,
        rank=rank,
        num_ranks=num_ranks,
        serial=serial,
        replay=LocalReplayClient([shard]),
        inference=build_own_inference(recipe, game, FakeWeights()),
    )


# What travels


def test_all_missing_experts_are_named_at_once_with_the_command_that_trains_them():
    config = RunConfig(games=("pong", "skiing", "qbert"), num_steps=100)
    with pytest.raises(ValueError, match=r"skiing, qbert; train them .*--games skiing qbert"):
        Recipe(config).check_teachers()


# Actors


def test_what_an_actor_sends_fits_into_its_shard(multitask, experts):
    features = dataclasses.replace(multitask, mimic=MimicConfig(feature_weight=0.1))
    for recipe in (
        Recipe(multitask),
        Recipe(features),
        Recipe(experts.for_games(GAMES[0])),
    ):
        shard = build_shard(recipe)
        for serial, game in enumerate(recipe.games):
            actor = actor_of(recipe, game, serial=serial)
            for _ in range(20):
                chunk = actor.collect()
                assert chunk.num_entries <= largest_chunk(recipe, game).num_entries == 12
                assert shard.add(chunk)
        shard.check_valid()
        assert shard.sample() is not None


@pytest.mark.parametrize("objective", ["joint", "actor_critic"])
def test_an_actor_of_a_game_without_a_teacher_sends_what_a_run_with_teachers_stores(
    multitask, teachers, objective
):
    """Beside a game that has one, its labels are there and count for nothing."""
    replay = dataclasses.replace(REPLAY, batch_size=16)
    recipe = changed(Recipe(multitask), objective=objective, teachers=(teachers[0],), replay=replay)
    shard = build_shard(recipe)
    for serial, game in enumerate(recipe.games):
        actor = actor_of(recipe, game, serial=serial)
        for _ in range(20):
            assert shard.add(actor.collect())
    shard.check_valid()


def test_no_two_actors_of_a_run_play_the_same(multitask):
    recipe = Recipe(multitask)
    frames = {
        actor_of(recipe, GAMES[0], serial=serial).collect()["frames"].tobytes()
        for serial in range(4)
    }
    assert len(frames) == 4


def test_the_seed_decides_what_an_actor_plays(multitask):
    recipe = Recipe(multitask)
    first = actor_of(recipe, GAMES[0]).collect()
    again = actor_of(recipe, GAMES[0]).collect()
    other = actor_of(changed(recipe, seed=2), GAMES[0]).collect()
    assert np.array_equal(first["frames"], again["frames"])
    assert not np.array_equal(first["frames"], other["frames"])


def test_tests_play_other_episodes_than_actors_and_than_each_other(multitask):
    """Their seeds are drawn from streams of their own."""
    seeds = {evaluation_seed(multitask, test) for test in range(100)}
    assert len(seeds) == 100
    assert evaluation_seed(dataclasses.replace(multitask, seed=2), 0) not in seeds


def test_the_ladder_is_spread_over_all_environments_of_a_game(experts):
    recipe = Recipe(experts.for_games(GAMES[0]))
    actors = [actor_of(recipe, GAMES[0], serial=rank, rank=rank, num_ranks=2) for rank in range(2)]
    rates = []
    for actor in actors:
        actor.collect()  # The first chunk lacks the steps that are held back for their returns.
        rates.append(actor.collect()["epsilons"].reshape(3, 4)[:, 0])
    # Ape-X: 0.4 ** (1 + 7 i / (N - 1)), every second one for each actor.
    expected = 0.4 ** (1 + 7 * np.arange(6) / 5)
    assert np.allclose(rates[0], expected[0::2])
    assert np.allclose(rates[1], expected[1::2])


# Replay


def test_features_are_stored_only_where_they_are_regressed(multitask):
    recipe = Recipe(multitask)
    assert recipe.table_spec(GAMES[0], 10).entry.num_teacher_features == 0
    regressing = changed(recipe, mimic=MimicConfig(feature_weight=0.1))
    assert regressing.table_spec(GAMES[0], 10).entry.num_teacher_features == 128


def test_shards_share_the_capacity_and_draw_differently(multitask):
    recipe = changed(
        Recipe(multitask), replay=dataclasses.replace(REPLAY, num_shards=2), actors=("2",)
    )
    shards = [build_shard(recipe, shard=index) for index in range(2)]
    for serial in (0, 1):
        actors = [actor_of(recipe, game, serial=serial + 2 * i) for i, game in enumerate(GAMES)]
        for actor in actors * 10:
            chunk = actor.collect()
            for shard in shards:
                assert shard.add(chunk)
    sizes = [table.size for shard in shards for table in shard.stats().tables.values()]
    assert sizes == [100] * 4
    batches = [shard.sample() for shard in shards]
    assert [batch.keys.shard for batch in batches] == [0, 1]
    assert not np.array_equal(batches[0].keys.generations, batches[1].keys.generations)


def test_replay_that_does_not_fit_is_refused_with_what_would(multitask):
    recipe = Recipe(multitask)
    needed = sum(recipe.table_spec(game, 200).nbytes for game in GAMES)
    check_replay_fits(recipe, available_bytes=int(1.3 * needed))
    with pytest.raises(ValueError, match=r"--replay.capacity-per-game (\d+) or less") as refused:
        check_replay_fits(recipe, available_bytes=needed)
    fitting = int(str(refused.value).split()[-3])
    assert 150 <= fitting < 200
    smaller = dataclasses.replace(REPLAY, capacity_per_game=fitting)
    check_replay_fits(changed(recipe, replay=smaller), available_bytes=needed)


# The learner


def learner_of(recipe, **options):
    replay = LocalReplayClient([build_shard(recipe)])
    return build_learner(recipe, replay=replay, weights=LocalWeights(), device=CPU, **options)


def test_a_gpu_is_taken_if_there_is_one_and_left_alone_if_so_said(multitask, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(multitask).type == "cuda"
    assert choose_device(dataclasses.replace(multitask, device="cpu")) == CPU


# What can be known before anything starts


def test_more_learners_than_gpus_are_refused_on_one_machine(multitask, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    learner = dataclasses.replace(multitask.learner, num_replicas=2)
    two = dataclasses.replace(multitask, engine="ray", learner=learner)
    with pytest.raises(ValueError, match=r"learner.num_replicas is 2, .* but 1 GPU is visible"):
        choose_device(two)
    assert choose_device(dataclasses.replace(two, device="cpu")) == CPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(two).type == "cuda"
    # A cluster's GPUs are counted when it is joined.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert choose_device(two).type == "cuda"


def test_every_learner_and_an_inference_server_need_a_cpu(multitask):
    recipe = Recipe(dataclasses.replace(multitask, engine="ray"))
    more = changed(
        recipe,
        learner=dataclasses.replace(multitask.learner, num_replicas=2),
        actor=dataclasses.replace(multitask.actor, inference="server"),
    )
    assert num_roles(more) == num_roles(recipe) + 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"error_buffer": 11.0}, "error_buffer"),
        ({"capacity_per_game": 1, "min_size_per_game": 1}, "capacity"),
        ({"capacity_per_game": 20, "min_size_per_game": 10}, "capacity"),
    ],
)
def test_replay_that_chunks_do_not_fit_is_refused(multitask, changes, message):
    """A chunk has 12 transitions here, a batch 8."""
    recipe = changed(Recipe(multitask), replay=dataclasses.replace(REPLAY, **changes))
    with pytest.raises(ValueError, match=message):
        check_roles(recipe, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": NetworkConfig(torso="minatar", heads="per_game")},
        {"mimic": MimicConfig(feature_weight=0.1)},
    ],
)
def test_a_checkpoint_of_something_else_is_refused(multitask, changes):
    recipe = Recipe(multitask)
    state = {"learner": learner_of(recipe).state()}
    with pytest.raises(ValueError, match="the checkpoint does not fit this run"):
        check_roles(changed(recipe, **changes), state)


def test_what_57_games_need_is_found_in_few_calls():
    # What is asked of each game for each game of all games would be asked millions of times.
    games = tuple(ATARI_GAMES)
    teachers = tuple(f"{game}={game}.safetensors" for game in games)
    recipe = Recipe(RunConfig(games=games, num_steps=1, teachers=teachers))
    profile = cProfile.Profile()
    profile.runcall(recipe.table_spec, "pong", 1)
    calls = pstats.Stats(profile).total_calls
    assert calls < 5_000
