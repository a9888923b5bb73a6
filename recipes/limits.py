"""Holds a run's wishes against this machine: its device, and memory for tables and actors."""

from __future__ import annotations

import os

import torch

from recipes.config import RunConfig
from recipes.recipe import Recipe
from replay.shard import ReplayShard


def choose_device(config: RunConfig) -> torch.device:
    """The learner's device; ValueError if a GPU is asked for and there is none.

    In a cluster the learner may be on another node: whether there is a GPU is found out when the
    cluster is joined.
    """
    if config.device == "cuda" and config.engine == "ray" and os.environ.get("RAY_ADDRESS"):
        return torch.device("cuda")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but no GPU is visible; use --device auto or cpu")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    _check_gpus(config)
    return torch.device("cuda")


def _check_gpus(config: RunConfig) -> None:
    """Raises ValueError if this machine, on which everything is to run, has too few."""
    wanted, have = config.learner.num_replicas, torch.cuda.device_count()
    if wanted > 1 and wanted > have and not os.environ.get("RAY_ADDRESS"):
        raise ValueError(
            f"learner.num_replicas is {wanted}, one GPU for each, but {have} GPU"
            f"{' is' if have == 1 else 's are'} visible; use --learner.num-replicas {have}, "
            "or --device cpu"
        )


def check_replay_fits(recipe: Recipe, *, available_bytes: int) -> None:
    """Raises ValueError if the tables would not fit into the machine's memory."""
    quotas = {game: settings.quota for game, settings in recipe.game_settings.items()}
    needed = sum(recipe.table_spec(game, quota).nbytes for game, quota in quotas.items())
    if needed > 0.8 * available_bytes:
        fitting = 0.8 * available_bytes / needed
        capacity = recipe.config.replay.capacity_per_game
        raise ValueError(
            f"replay of {sum(quotas.values())} transitions in {len(quotas)} games needs "
            f"{needed / 2**30:.1f} GiB, but {available_bytes / 2**30:.1f} GiB are available; use "
            f"{'smaller --quotas, or ' if len(set(quotas.values())) > 1 else ''}"
            f"--replay.capacity-per-game {int(capacity * fitting)} or less"
        )


def check_memory_for_quota(shard: ReplayShard, game: str, quota: int, available_bytes: int) -> None:
    """Raises ValueError if this machine has no room for a shard's table of another size.

    The old table and the new one are both there while one is copied to the other.
    """
    for spec in shard.specs:
        needed = shard.slices[game].part_of(quota) * spec.bytes_per_entry
        if spec.game == game and needed > 0.8 * available_bytes:
            raise ValueError(
                f"a quota of {quota} for {game} needs {needed / 2**30:.1f} GiB beside the present "
                f"table, but {available_bytes / 2**30:.1f} GiB are available"
            )


# Memory of one more process of a role, with PyTorch and two networks of the usual size.
ACTOR_BYTES = 450 << 20


def check_memory_for_processes(
    num_more: int, available_bytes: int, *, kind: str = "actors"
) -> None:
    """Raises ValueError if this machine has no memory for so many more processes of a role."""
    needed = num_more * ACTOR_BYTES
    if num_more > 0 and needed > available_bytes:
        raise ValueError(
            f"{num_more} more {kind} need about {needed / 2**30:.1f} GiB of memory, "
            f"but {available_bytes / 2**30:.1f} GiB are available; add at most "
            f"{available_bytes // ACTOR_BYTES}"
        )
