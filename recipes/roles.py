"""Builds every role of a run from its recipe, the same for both engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from actors.actor import Actor
from actors.inference import Inference, InferenceServer, OwnInference
from actors.policy import epsilon_ladder
from actors.rows import RowWindow
from games.env import VectorEnv, get_protocol
from games.registry import get_game, make_vector_env
from learner.batch import BatchLoader
from learner.learner import Learner
from learner.optim import build_optimizer
from learner.probe import Probe
from learner.schedule import LearningRate
from networks.build import use_channels_last
from networks.weights import WeightSink, WeightSource
from recipes.config import RunConfig
from recipes.recipe import Recipe
from recipes.starting import begin
from replay.client import ReplayReader, ReplayWriter
from replay.pace.slices import GameSlice, slice_of
from replay.shard import ReplayShard
from replay.types import Chunk

# Streams of seeds of one run: no two of them ever give an environment the same seed.
_ACTING = 1
_EVALUATING = 2
_CHECKING = 3
_CONFIRMING = 4


def build_env(config: RunConfig, game: str, *, num_envs: int, seed: int) -> VectorEnv:
    """Environments by the run's protocol, stepped in the calling process's one thread."""
    return make_vector_env(
        get_game(game), num_envs=num_envs, protocol=get_protocol(config.protocol), seed=seed
    )


def build_shard(recipe: Recipe, *, shard: int = 0) -> ReplayShard:
    """Shard number `shard` of the run's replay."""
    settings = recipe.game_settings
    slices = slices_of(recipe, shard=shard, num_actors=recipe.num_actors)
    config = recipe.config
    return ReplayShard(
        # Each learner asks for its own part of a batch.
        replace(config.replay, batch_size=config.learner.part_of(config.replay.batch_size)),
        [
            recipe.table_spec(game, slices[game].part_of(settings[game].quota))
            for game in recipe.games
        ],
        settings=settings,
        slices=slices,
        shard=shard,
        seed=recipe.config.seed,
    )


def slices_of(recipe: Recipe, *, shard: int, num_actors: Mapping[str, int]) -> dict[str, GameSlice]:
    """What shard number `shard` has of each game when the games have so many actors."""
    num_shards = recipe.config.replay.num_shards
    return {
        game: slice_of(index, num_actors=num_actors[game], shard=shard, num_shards=num_shards)
        for index, game in enumerate(recipe.games)
    }


def largest_chunk(recipe: Recipe, game: str) -> Chunk:
    """A blank chunk of the greatest size that an actor may send."""
    config, spec = recipe.config.actor, recipe.table_spec(game, 1)
    rows = RowWindow(
        spec.entry, num_envs=config.num_envs, chunk_steps=config.chunk_steps, num_lookahead=0
    )
    rows.is_entry[:] = rows["is_transition"][:] = True
    priorities = np.zeros((config.chunk_steps, config.num_envs), np.float32)
    return rows.take_chunk(game=game, actor_serial=0, priorities=priorities, weights_version=0)


def build_actor(
    recipe: Recipe,
    game: str,
    *,
    rank: int,
    num_ranks: int,
    serial: int,
    replay: ReplayWriter,
    inference: Inference,
    start_step: int = 0,
) -> Actor:
    """Actor number `rank` of the game's `num_ranks`; `serial` is never used twice in a run."""
    config = recipe.config
    return Actor(
        config.actor,
        env=build_env(
            config,
            game,
            num_envs=config.actor.num_envs,
            seed=_seed_of(config.seed, _ACTING, serial),
        ),
        inference=inference,
        teachers=recipe.find_teachers(game),
        store_features=recipe.needs.features,
        extra_columns=recipe.needs.extra_columns,
        draws_actions=recipe.needs.draws_actions,
        label_room=recipe.max_teachers,
        memory_size=recipe.needs.memory_size,
        priority_rule=recipe.build_priority_rule(game),
        epsilons=exploration_rates(config, rank, num_ranks),
        life_loss_ends_return=get_protocol(config.protocol).life_loss_ends_return,
        replay=replay,
        serial=serial,
        seed=config.seed,
        start_step=start_step,
    )


def build_own_inference(recipe: Recipe, game: str, weights: WeightSource) -> OwnInference:
    """The acting network of one game, in the actor's own process."""
    return OwnInference(recipe.build_acting_network(game), weights)


def build_inference_server(
    recipe: Recipe, *, weights: WeightSource, device: torch.device
) -> InferenceServer:
    """The acting network of all games on `device`, for many actors."""
    network = recipe.build_acting_network(recipe.games[0]).to(device)
    use_channels_last(network)
    return InferenceServer(
        network,
        weights=weights,
        device=device,
        max_batch=recipe.config.actor.inference_max_batch,
        max_wait_s=recipe.config.actor.inference_max_wait_s,
    )


def build_learner(
    recipe: Recipe,
    *,
    replay: ReplayReader,
    weights: WeightSink,
    device: torch.device,
    incarnation: int = 0,
    is_restored: bool = False,
) -> Learner:
    """The learner on `device`, with the weights that a run begins with.

    Args:
        recipe: what to train.
        replay: gives batches.
        weights: takes what is published.
        device: where to compute.
        incarnation: above that of any learner whose weights somebody may still have.
        is_restored: whether the caller loads a checkpoint's state next; what `start_from` names
            is not read then, and need not be there any more.
    """
    config = recipe.config
    torch.manual_seed(config.seed)
    network = recipe.build_network()
    if not is_restored:
        begin(network, config)
    network.to(device)
    use_channels_last(network)
    needs = recipe.needs
    objective = recipe.build_objective(network, device)
    optimizer = build_optimizer(
        config.learner, network.parameters(), mean_over=config.replay.batch_size
    )
    probe = None
    if period := config.learner.probe_period:
        probe = Probe(network, objective=objective, optimizer=optimizer, period=period)
    return Learner(
        config.learner,
        network=network,
        objective=objective,
        optimizer=optimizer,
        probe=probe,
        learning_rate=_learning_rate(config),
        load_batch=BatchLoader(device, gamma=needs.gamma, reward_clip=needs.reward_clip),
        replay=replay,
        weights=weights,
        device=device,
        incarnation=incarnation,
    )


def change_learner(learner: Learner, recipe: Recipe, *, state: dict[str, Any] | None) -> None:
    """Have a learner of `build_learner` go on by the settings of another recipe, and publish.

    Args:
        learner: learns a recipe that differs from the new one in tunable settings alone.
        recipe: what to go on with.
        state: of another learner, whose weights and optimizer's state are taken over; None to keep
            this one's.
    """
    learner.change(
        recipe.config.learner,
        objective=recipe.build_objective(learner.network, learner.device),
        learning_rate=_learning_rate(recipe.config),
    )
    if state is not None:
        learner.take_over(state)
        learner.publish()


def _learning_rate(config: RunConfig) -> LearningRate:
    return LearningRate(
        start=config.learner.learning_rate,
        num_updates=config.num_updates,
        decay_share=config.learner.learning_rate_decay,
    )


def evaluation_seed(config: RunConfig, test: int) -> int:
    """Seed of test number `test`; never one that an actor has."""
    return _seed_of(config.seed, _EVALUATING, test)


def confirming_seed(config: RunConfig) -> int:
    """Seed of the last test of weights that other tests have picked out."""
    return _seed_of(config.seed, _CONFIRMING)


def checking_seed(config: RunConfig) -> int:
    """Seed of the episodes that teachers play beside a run."""
    return _seed_of(config.seed, _CHECKING)


def _seed_of(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def exploration_rates(config: RunConfig, rank: int, num_ranks: int) -> NDArray[np.float32]:
    """Exploration rates [num_envs] of actor number `rank` of a game's `num_ranks`."""
    num_envs = config.actor.num_envs
    if Recipe(config).needs.draws_actions:
        # A policy that is drawn from explores by itself.
        return np.zeros(num_envs, np.float32)
    if config.actor.exploration == "constant":
        return np.full(num_envs, config.actor.epsilon, np.float32)
    # Interleaved, so that every actor has some of each end of the ladder.
    return epsilon_ladder(num_envs * num_ranks)[rank::num_ranks]
