"""Connects to a Redis server by its URL, and says in one line what is wrong with it.

A RedisLink outlives the server: failures are counted, and followed by pauses.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from records.hiding import hide_password

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class RedisUnavailableError(ConnectionError):
    """Redis did not answer, or did not lately and is being left alone for a moment."""


class RedisRefusedError(RedisUnavailableError):
    """Redis is there, but does not do what it is asked to; for want of memory, for example."""


class RedisLink:
    """One client that outlives its server. Thread-safe.

    A lost connection is tried again once at once, since after a restart of the server every open
    connection is stale. After that each failure doubles the time during which calls fail without
    touching the network.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        first_pause_s: float = 0.05,
        max_pause_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect nothing yet; ValueError for a malformed URL."""
        self._client = build_client(url, timeout_s=timeout_s, num_retries=0)
        self._shown_url = hide_password(url)
        self._first_pause_s = first_pause_s
        self._max_pause_s = max_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self._paused_until = -float("inf")
        self._lost = False
        self._said = ""
        self.num_reconnects = 0
        self.num_failures = 0

    def call(self, operation: Callable[[Any], _T]) -> _T:
        """Run an operation, which may happen twice, on the client.

        RedisUnavailableError if it failed twice, or Redis is being left alone at the moment;
        RedisRefusedError if Redis answers, but refuses it.
        """
        with self._lock:
            if self._clock() < self._paused_until:
                raise RedisUnavailableError(f"Redis at {self._shown_url} is not reachable")
        try:
            try:
                result = operation(self._client)
            except (redis.ConnectionError, redis.TimeoutError):
                self._note_lost()
                result = operation(self._client)
        except redis.OutOfMemoryError as error:
            # The connection is well, and what needs no memory goes on.
            self._note_refused(error)
            raise RedisRefusedError(
                f"Redis at {self._shown_url} has no memory left for it ({error})"
            ) from error
        except (redis.RedisError, OSError) as error:
            self._note_failure()
            raise RedisUnavailableError(
                f"Redis at {self._shown_url} is not usable: {error}"
            ) from error
        self._note_success()
        return result

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _note_lost(self) -> None:
        with self._lock:
            self._lost = True

    def _note_failure(self) -> None:
        with self._lock:
            self.num_failures += 1
            self._lost = True
            self._pause_s = min(max(2.0 * self._pause_s, self._first_pause_s), self._max_pause_s)
            self._paused_until = self._clock() + self._pause_s
            first = self._pause_s == self._first_pause_s
        if first:
            _LOG.warning("Redis at %s is lost; going on without it", self._shown_url)

    def _note_refused(self, error: redis.RedisError) -> None:
        with self._lock:
            self.num_failures += 1
            is_new, self._said = self._said != str(error), str(error)
        if is_new:
            _LOG.warning(
                "Redis at %s takes no more data (%s): raise its maxmemory, or delete what others "
                "have left in it; going on without it",
                self._shown_url,
                error,
            )

    def _note_success(self) -> None:
        with self._lock:
            if not self._lost:
                return
            self._lost = False
            self._pause_s = 0.0
            self._paused_until = -float("inf")
            self.num_reconnects += 1
        _LOG.warning("Redis at %s is back", self._shown_url)


def connect(url: str, *, timeout_s: float = 5.0, num_retries: int = 3) -> redis.Redis:
    """A client whose server has just answered; safe to share between threads, replies are bytes.

    After a lost connection or a timeout it tries `num_retries` times, with growing pauses of up to
    half a second. ValueError, which names the URL without its password, if that is malformed,
    nobody answers, or the password is refused.
    """
    client = build_client(url, timeout_s=timeout_s, num_retries=num_retries)
    try:
        client.ping()
    except redis.AuthenticationError as error:
        client.close()
        raise ValueError(
            f"Redis at {hide_password(url)} refuses the user or the password in the URL; correct it"
        ) from error
    except (redis.RedisError, OSError) as error:
        client.close()
        raise ValueError(
            f"cannot reach Redis at {hide_password(url)} ({error}); start that server, correct the "
            "URL, or leave it out to get a private server"
        ) from error
    return client


def check_takes_data(client: redis.Redis, url: str) -> None:
    """Write a few bytes below `am:` and delete them again; ValueError if that is refused."""
    key = f"am:probe:{secrets.token_hex(8)}"
    try:
        client.set(key, b"", ex=10)
        client.delete(key)
    except redis.OutOfMemoryError as error:
        raise ValueError(
            f"Redis at {hide_password(url)} has no memory left ({error}); raise its maxmemory, or "
            "delete what others have left in it"
        ) from error
    except redis.RedisError as error:
        raise ValueError(
            f"Redis at {hide_password(url)} takes no data ({error}); a run must be able to read "
            "and write keys below am:"
        ) from error


def build_client(url: str, *, timeout_s: float = 5.0, num_retries: int = 3) -> redis.Redis:
    """The client of `connect`, without asking whether anybody is there."""
    _check_database(url)
    retry = Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), num_retries)
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=False,
            socket_timeout=timeout_s,
            socket_connect_timeout=min(timeout_s, 2.0),
            retry=retry,
            legacy_responses=False,
        )
    except (ValueError, TypeError):
        # Without the cause: its text may quote the part that holds the password.
        raise ValueError(_not_a_url(url)) from None


def _check_database(url: str) -> None:
    """Raises ValueError for a path that is no number: the client would quietly take database 0."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_not_a_url(url)) from None
    if parts.scheme not in ("redis", "rediss"):
        return
    database = parts.path.strip("/")
    if "@" in database or parts.fragment:
        raise ValueError(_not_a_url(url))  # Of a password that is not encoded: not to be shown.
    if database and not database.isdigit():
        raise ValueError(
            f"{hide_password(url)} ends in /{database}, which is no number of a database; write /0"
        )


def _not_a_url(url: str) -> str:
    return (
        f"{hide_password(url)!r} is not a Redis URL; write redis://HOST:PORT/0, "
        "rediss://:PASSWORD@HOST:PORT/0 or unix:///PATH/TO/SOCKET, with special characters of a "
        "password as %XX: %40 for @, %2F for /, %23 for #, %3A for :"
    )
