"""Connects to a Redis server by its URL, and says in one line what is wrong with it."""

import secrets
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from records.hiding import hide_password


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
