"""What a look at a run says of its replay; docs/metrics.md explains every key."""

from __future__ import annotations

from records.progress import Progress, whole_counts
from replay.stats import TableStats
from replay.storage.quantiles import QUANTILES

_MEDIAN, _P90 = QUANTILES.index(0.5), QUANTILES.index(0.9)


def replay_figures(progress: Progress) -> dict[str, float]:
    """All that needs no earlier look; what has no value yet is left out."""
    snapshots, whole = progress.snapshots, progress.replay
    row: dict[str, float] = {
        "overwritten_unsampled": whole.counts.overwritten_unsampled,
        "stale_priorities": whole.counts.stale_priorities,
        "replay/bytes": whole.num_bytes,
        "replay/limiter_error": progress.limiter_error,
        "replay/waiting_actors": whole.waiting_actors,
        "replay/waiting_requests": progress.waiting_requests,
        "replay/snapshot_bytes": snapshots.num_bytes,
        "replay/snapshot_written_bytes": snapshots.num_bytes_written,
        "replay/snapshot_duration_s": snapshots.duration_s,
        "replay/snapshot_hold_s": snapshots.longest_hold_s,
        "replay/snapshot_failures": snapshots.failures,
    }
    if snapshots.age_s is not None:
        row["replay/snapshot_age_s"] = snapshots.age_s
    for name, game in progress.games.items():
        row |= {f"game/{name}/{key}": x for key, x in _game_figures(game.replay).items()}
    return row


def _game_figures(table: TableStats) -> dict[str, float]:
    row: dict[str, float] = {
        **dict(whole_counts(table.counts)),
        "replay_size": table.size,
        "replay_ready": table.ready,
        "replay_capacity": table.capacity,
        "replay_bytes": table.num_bytes,
        "share": table.share,
        "samples_per_insert_cap": table.samples_per_insert_cap,
        "waiting_actors": table.waiting_actors,
    }
    if table.num_bytes:
        row["replay_compression"] = table.num_raw_bytes / table.num_bytes
    for name, quantiles in (
        ("priority", table.priority_quantiles),
        ("sample_age", table.age_quantiles),
    ):
        if quantiles:
            row |= {f"{name}_median": quantiles[_MEDIAN], f"{name}_p90": quantiles[_P90]}
    return row
