"""The launcher's side of what can be seen and asked of a run from outside, through Redis.

A thread of its own reads what is wanted and writes what there is to see: whatever Redis does, the
run does not wait for it. The other side is launch/scale.py.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from engines.on_redis.bus import RedisBus
from engines.on_redis.link import RedisUnavailableError

# A run whose launcher has died is seen to have gone after so many seconds.
STATUS_TTL_S = 20

# Records that are kept for a Redis that is away; older ones fall out.
_MAX_UNSENT = 100


def check_not_carried(url: str, run: str, *, patience_s: float = 3.0) -> None:
    """Returns when no launcher shows a run, or only the last words of one that has gone are left.

    One that has not been heard of for `patience_s` is taken to have gone. ValueError if another
    launcher carries the run, on whatever machine.
    """
    bus = RedisBus(url, run)
    deadline = time.monotonic() + patience_s
    try:
        least_s = bus.status_ttl_s()
        while least_s is not None and time.monotonic() < deadline:
            time.sleep(0.05)
            left_s = bus.status_ttl_s()
            if left_s is None:
                return
            if left_s > least_s:  # It has been shown again meanwhile.
                raise ValueError(_refusal(bus.status() or {}))
            least_s = left_s
    except RedisUnavailableError:
        return  # Whoever uses it next says so.
    finally:
        bus.close()


def _refusal(status: Mapping[str, Any]) -> str:
    who = f"pid {status.get('pid', '?')} on {status.get('host', '?')}"
    return f"another program ({who}) is carrying this run; stop it first"


class RunLink:
    """Shows a run, and learns what is wanted of it. Never blocks but in `close`."""

    def __init__(
        self,
        url: str,
        run: str,
        *,
        whereabouts: Callable[[], Mapping[str, Any]] = dict,
        period_s: float = 0.5,
    ) -> None:
        """Start the thread, which asks Redis what is wanted once in `period_s`.

        What is new Redis is told at once. `whereabouts` says where to find what carries the run.
        """
        self._bus = RedisBus(url, run)
        self._whereabouts = whereabouts
        self._period_s = period_s
        self._lock = threading.Lock()
        self._wanted: dict[str, int] = {}
        self._settings: dict[str, dict[str, float]] = {}
        self._status: dict[str, Any] = {}
        self._is_up: bool | None = None
        self._unsent: deque[dict[str, Any]] = deque(maxlen=_MAX_UNSENT)
        self._closed = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="run-link", daemon=True)
        self._thread.start()

    def wanted(self) -> dict[str, int]:
        """The number of actors that somebody has asked for, by game; as of the last reading."""
        with self._lock:
            return dict(self._wanted)

    def settings(self) -> dict[str, dict[str, float]]:
        """The settings of replay that somebody has asked for, by game; as of the last reading."""
        with self._lock:
            return dict(self._settings)

    def show(self, status: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> None:
        """Have this status seen from now on, and a record of metrics added to those before."""
        with self._lock:
            self._status = dict(status)
            if record is not None:
                self._unsent.append(dict(record))
        self._woken.set()

    def figures(self) -> dict[str, float]:
        """For the run's metrics: whether Redis has answered the last time, once it was asked."""
        return {} if self._is_up is None else {"redis_up": float(self._is_up)}

    def close(self, timeout_s: float = 10.0) -> None:
        """Write the last status if Redis takes it, then stop."""
        self._closed.set()
        self._woken.set()
        self._thread.join(timeout_s)
        self._bus.close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            self._exchange()
            self._woken.wait(self._period_s)
            self._woken.clear()
        self._exchange()

    def _exchange(self) -> None:
        wanted = self._bus.wanted()
        with self._lock:
            self._wanted = wanted
            status, records = self._status, deque(self._unsent)
            self._unsent.clear()
        try:
            settings = self._bus.settings()
            with self._lock:
                self._settings = settings
            # Also unchanged: it says that the launcher lives.
            if status:
                self._bus.set_status({**status, **self._whereabouts()}, ttl_s=STATUS_TTL_S)
            was_asked = bool(status or records)
            while records:
                self._bus.push_metrics(records[0])
                records.popleft()
            if was_asked:
                self._is_up = True
        except RedisUnavailableError:
            self._is_up = False
            with self._lock:
                self._unsent = deque([*records, *self._unsent], maxlen=_MAX_UNSENT)
