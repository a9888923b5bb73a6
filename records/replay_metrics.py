"""What a look at a run says of its replay; docs/metrics.md explains every key."""

from __future__ import annotations

from records.progress import GameReplay, Progress
from replay.storage.quantiles import QUANTILES

_MEDIAN, _P90 = QUANTILES.index(0.5), QUANTILES.index(0.9)


def replay_figures(progress: Progress) -> dict[str, float]:
    """All that needs no earlier look; what has no value yet is left out."""
    games = progress.games.items()
    snapshots = progress.snapshots
    row: dict[str, float] = {
        "replay/bytes": sum(game.replay.num_bytes for _, game in games),
        "replay/limiter_error": progress.limiter_error,
        "replay/waiting_actors": sum(game.replay.waiting_actors for _, game in games),
        "replay/waiting_requests": progress.waiting_requests,
        "replay/snapshot_bytes": snapshots.num_bytes,
        "replay/snapshot_written_bytes": snapshots.num_bytes_written,
        "replay/snapshot_duration_s": snapshots.duration_s,
        "replay/snapshot_hold_s": snapshots.longest_hold_s,
        "replay/snapshot_failures": snapshots.failures,
    }
    if snapshots.age_s is not None:
        row["replay/snapshot_age_s"] = snapshots.age_s
    for name, game in games:
        row |= {f"game/{name}/{key}": x for key, x in _game_figures(game.replay).items()}
    return row


def _game_figures(game: GameReplay) -> dict[str, float]:
    row: dict[str, float] = {
        "replay_ready": game.ready,
        "replay_capacity": game.capacity,
        "replay_bytes": game.num_bytes,
        "share": game.share,
        "samples_per_insert_cap": game.samples_per_insert_cap,
        "overwritten_unsampled": game.overwritten_unsampled,
        "stale_priorities": game.stale_priorities,
        "yielded": game.yielded,
        "waiting_actors": game.waiting_actors,
    }
    if game.num_bytes:
        row["replay_compression"] = game.num_raw_bytes / game.num_bytes
    for name, quantiles in (
        ("priority", game.priority_quantiles),
        ("sample_age", game.age_quantiles),
    ):
        if quantiles:
            row |= {f"{name}_median": quantiles[_MEDIAN], f"{name}_p90": quantiles[_P90]}
    return row


def replay_rates(before: Progress, now: Progress, seconds: float) -> dict[str, float]:
    """What happened per second between two looks."""
    return {
        f"game/{name}/insert_waiting": (
            game.replay.insert_wait_s - before.games[name].replay.insert_wait_s
        )
        / seconds
        for name, game in now.games.items()
    }
