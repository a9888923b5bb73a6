"""Where the live page gets a run from: its folder, and Redis while it goes on.

Looks cost nothing while nobody looks: nothing is read, and no thread runs, between two calls.
Whatever is missing or does not answer is left out and said; the run itself is never waited for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.on_redis.bus import RedisBus
from engines.on_redis.link import RedisLink
from records.run_dir import RunDir
from records.run_record import as_row, read_config, read_document
from views.live.history import History
from views.live.population import describe_population, find_population, members_silent_s

REDIS_URL_VARIABLE = "ACTOR_MIMIC_REDIS_URL"
# A run without Redis counts as going on if it has written within this time, or within three of
# its report periods.
_FRESH_FILE_S = 20.0
_MAX_EVENTS = 200
_MAX_RECORDS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a run at one time."""

    name: str
    # Settings as config.yaml has them, not checked.
    config: Mapping[str, Any]
    meta: Mapping[str, Any]
    history: History
    # What the launcher says of the run; None where nothing is heard of it.
    status: Mapping[str, Any] | None = None
    # How Redis is: `ok`, `none` (the run has none that is known) or `lost`.
    redis: str = "none"
    summary: Mapping[str, Any] | None = None
    # The newest events, the oldest of them first.
    events: list[dict[str, Any]] = field(default_factory=list)
    # Seconds since metrics.jsonl was written; None without one. Of a population, those of members.
    silent_s: float | None = None
    # The population that the run is or belongs to; None for a run by itself.
    population: Mapping[str, Any] | None = None

    @property
    def period_s(self) -> float:
        """Seconds between two looks of the launcher."""
        period = self.config.get("report_period_s")
        return float(period) if isinstance(period, int | float) else 1.0

    @property
    def is_written(self) -> bool:
        """Whether somebody seems to be writing the run's files."""
        limit = max(_FRESH_FILE_S, 3 * self.period_s)
        return self.silent_s is not None and self.silent_s < limit


class RunSource:
    """Looks at one run. `look` is for one thread at a time, the rest for any."""

    def __init__(self, run: RunDir, *, redis_url: str = "") -> None:
        """Prepare to look; nothing is read yet.

        Args:
            run: the folder; config.yaml and meta.json of a run on another machine are enough.
            redis_url: address of its Redis; without, the environment's or what the folder says.
        """
        self.run = run
        self._given_url = redis_url or os.environ.get(REDIS_URL_VARIABLE, "")
        self._history = History(run.metrics_path)
        self._config = read_config(run.config_path)
        self._meta = read_document(run.path / "meta.json") or {}
        self._bus: RedisBus | None = None
        self._bus_url = ""
        self._num_fetched = _MAX_RECORDS
        self._population = find_population(run.path)

    @property
    def games(self) -> tuple[str, ...]:
        """Games of the run, in the order of its settings."""
        return tuple(self._config["games"])

    def look(self) -> Seen:
        """What is known now; takes milliseconds, and seconds at most where Redis hangs."""
        self._history.read_file()
        status, redis = self._ask_redis()
        events = _read_events(self.run.path / "events.jsonl")
        if not events and status:
            events = [event for event in status.get("events", []) if isinstance(event, dict)]
        return Seen(
            name=self.run.path.name,
            config=self._config,
            meta=self._meta,
            history=self._history,
            status=status,
            redis=redis,
            summary=read_document(self.run.summary_path),
            events=events,
            silent_s=self._silent_s(),
            population=describe_population(self._population) if self._population else None,
        )

    def _silent_s(self) -> float | None:
        own = _silent_s(self.run.metrics_path)
        if own is not None or self._population is None:
            return own
        return members_silent_s(self._population, now=time.time())

    @property
    def bus(self) -> RedisBus | None:
        """The run's Redis; None for a run that has none, or none any more."""
        url = self._find_url()
        if url and url != self._bus_url:
            with suppress(ValueError):  # A malformed address, which the run itself would refuse.
                link = RedisLink(url, timeout_s=2.0, max_pause_s=1.0)
                bus = RedisBus(url, self.run.redis_name, link=link)
                old, self._bus, self._bus_url = self._bus, bus, url
                if old is not None:
                    old.close()
        return self._bus

    def close(self) -> None:
        """Close connections."""
        if self._bus is not None:
            self._bus.close()

    def _find_url(self) -> str:
        if self._given_url:
            return self._given_url
        with suppress(OSError, UnicodeDecodeError):
            return self.run.redis_url_path.read_text().strip()
        return ""

    def _ask_redis(self) -> tuple[dict[str, Any] | None, str]:
        """The run's status, and how Redis is; takes in metrics that the file does not have."""
        bus = self.bus
        if bus is None or not self._find_url():
            return None, "none"
        try:
            status = bus.status()
            if status is not None and not self._is_in_file():
                records = bus.latest_metrics(self._num_fetched)
                self._num_fetched = 10
                self._take_records(records)
        except ConnectionError:
            return None, "lost"
        return status, "ok"

    def _is_in_file(self) -> bool:
        """Whether the file keeps up with the run, so that Redis need not be asked for metrics."""
        silent_s = _silent_s(self.run.metrics_path)
        return silent_s is not None and silent_s < _FRESH_FILE_S

    def _take_records(self, records: list[dict[str, Any]]) -> None:
        rows = [row for record in records if (row := as_row(record)) is not None]
        # Newest first until one is known: a resumed run begins again at an earlier time.
        known = self._history.looks[-1] if self._history.looks else None
        fresh: list[dict[str, float]] = []
        for row in reversed(rows):
            if row == known:
                break
            fresh.append(row)
        self._history.add(reversed(fresh))


def _silent_s(path: Path) -> float | None:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


def _read_events(path: Path) -> list[dict[str, Any]]:
    """The newest ones, oldest of them first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (64 << 10)))
            lines = file.read().splitlines()[-_MAX_EVENTS:]
    except OSError:
        return []
    events = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                events.append(event)
    return events
