"""Measures on this machine what the parts of one run cost: a step, a sample, and their bytes.

In this process, one after the other and without Ray, in CPU seconds, which hardly depend on what
else the machine is doing. Only a learner on a GPU or with several threads is timed by the clock.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.learning import learner_threads
from benchmarks.memory import num_bytes
from benchmarks.role_work import RoleWork
from benchmarks.setup import random_experts, without_pacing
from benchmarks.timing import Part, measure_rounds, medians
from networks.snapshots import take_snapshot
from networks.weights import WeightsVersion
from recipes.config import RunConfig
from recipes.limits import choose_device
from recipes.recipe import Recipe
from teachers.shipped import shipped_experts

# Games that are probed at most: others of the run, which are of one family, cost what these cost in
# the mean, and 57 of them would take longer than anybody waits for a plan.
_MAX_GAMES = 8
# Transitions of a game in the probe's own replay: it fills no more, and a cluster's tables may be
# larger than this machine.
_MAX_CAPACITY = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Costs of one run on one core of this machine."""

    # CPU seconds of a step by game: emulator, student, teacher, labels. Of many games some are
    # measured, and the others have their mean.
    act_s: Mapping[str, float]
    # CPU seconds of a transition that replay stores.
    insert_s: float
    # CPU seconds of a sample that replay draws.
    gather_s: float
    # CPU seconds of a sample that one thread of the learner takes.
    learn_s: float
    # Speed of a learner alone, with the threads or the GPU that it has here.
    learner_samples_per_s: float
    # `cpu`, or the GPU's name.
    learner_device: str
    chunk_bytes_per_step: float
    batch_bytes_per_sample: float
    # Size of a snapshot of the weights as it travels.
    weights_bytes: int
    # Arithmetic of an update; 0 if the network has layers that are not counted.
    flops_per_sample: float
    # Memory of full tables.
    replay_bytes: int
    # Games whose expert was missing; one with random weights is as fast.
    made_up_teachers: tuple[str, ...] = ()
    # Processes that wanted a core when it began.
    load: float = 0.0
    # Share of a core that the probe got; below 1 where other programs wanted it, too.
    core_share: float = 1.0


def measure(config: RunConfig, *, seconds: float) -> Probe:
    """Probe for about this long, preparations apart; ValueError for a teacher that cannot be read.

    Experts are made up for the games that have none.
    """
    load = os.getloadavg()[0]
    missing = [
        game
        for game, references in config.teachers_of.items()
        if references == (game,) and game not in shipped_experts()
    ]
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        made_up = random_experts(missing, Path(folder), torso="nature")
        named = [f"{game}={path}" for game, path in made_up.items()]
        torch.manual_seed(config.seed)
        torch.set_num_threads(1)
        recipe = Recipe(replace(config, teachers=(*config.teachers, *named)))
        return _probe(recipe, seconds, made_up_teachers=tuple(missing), load=load)


def _probe(recipe: Recipe, seconds: float, **known: Any) -> Probe:
    device = choose_device(recipe.config)
    some = _with_some_games(_with_small_tables(without_pacing(recipe)))
    with RoleWork(some, device) as work:
        parts: dict[str, Part] = {game: partial(work.act, game) for game in some.games}
        # As many batches as come to a chunk of every game, so that rounds are not all acting.
        parts |= {"insert": work.insert, "gather": work.gather}
        parts["learn"] = work.learn_by_the_clock if device.type == "cuda" else work.learn
        with_threads = device.type == "cpu" and learner_threads() > 1
        if with_threads:
            parts["learn with threads"] = partial(
                work.learn_by_the_clock, num_threads=learner_threads()
            )
        begun, begun_cpu = time.perf_counter(), time.process_time()
        cost = medians(measure_rounds(parts, seconds=seconds))
        used = (time.process_time() - begun_cpu) / (time.perf_counter() - begun)
    chunks = work.chunks.values()
    batch_bytes = num_bytes(work.batch) - num_bytes(work.batch.keys)
    mean_s = statistics.fmean(cost[game] for game in some.games)
    return Probe(
        act_s={game: cost.get(game, mean_s) for game in recipe.games},
        insert_s=cost["insert"],
        gather_s=cost["gather"],
        learn_s=cost["learn"],
        learner_samples_per_s=1 / cost["learn with threads" if with_threads else "learn"],
        learner_device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        chunk_bytes_per_step=sum(c.num_bytes for c in chunks)
        / sum(c.num_transitions for c in chunks),
        batch_bytes_per_sample=batch_bytes / work.batch.batch_size,
        weights_bytes=take_snapshot(
            recipe.build_acting_network(recipe.games[0]), WeightsVersion(0, 0), half=True
        ).num_bytes,
        flops_per_sample=count_flops(work.network, work.batch.observations.shape[1:]),
        replay_bytes=sum(
            recipe.table_spec(game, settings.quota).nbytes
            for game, settings in recipe.game_settings.items()
        ),
        # A GPU is waited for, and several threads use more than a core.
        core_share=min(1.0, used) if device.type == "cpu" else 1.0,
        **known,
    )


def _with_some_games(recipe: Recipe) -> Recipe:
    games = recipe.games
    return Recipe(recipe.config.for_games(*games[:: -(-len(games) // _MAX_GAMES)]))


def _with_small_tables(recipe: Recipe) -> Recipe:
    config = recipe.config
    small = replace(
        config.replay, capacity_per_game=min(config.replay.capacity_per_game, _MAX_CAPACITY)
    )
    return Recipe(replace(config, replay=small, quotas=()))


def count_flops(network: nn.Module, observation_shape: tuple[int, ...]) -> float:
    """Operations of an update for one sample: forward, and twice as many backward.

    Of convolutions and linear layers, two for each multiplication; 0 if the network cannot be run
    on an observation alone.
    """
    total = 0.0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += 2.0 * module.in_features * output.numel()
        elif isinstance(module, nn.Conv2d):
            kernel = module.in_channels // module.groups * module.kernel_size[0]
            total += 2.0 * kernel * module.kernel_size[1] * output.numel()

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    device = next(network.parameters()).device
    dtype = torch.float32 if len(observation_shape) == 1 else torch.uint8
    try:
        with torch.inference_mode():
            network(torch.zeros(1, *observation_shape, dtype=dtype, device=device))
    except (TypeError, ValueError, RuntimeError):
        return 0.0
    finally:
        for hook in hooks:
            hook.remove()
    return 3 * total
