"""Notices that Ray itself has died under a run, before Ray ends the launcher without a word."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from engines.on_ray.ray_internals import dead_daemons

# How often a run looks whether Ray is still there.
CHECK_PERIOD_S = 1.0

# How long a cluster's control store may refuse connections, as while it is started again. After
# 60 s Ray itself would end the launcher.
_CONTROL_STORE_PATIENCE_S = 30.0

_ray: Any = ray  # Some of its functions have no types.


class RayDiedError(ValueError):
    """Ray cannot carry the run any more: no role can be asked, and none can be started."""


class RayHealth:
    """Whether the processes of Ray that a run depends on are alive."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch the Ray that this process is connected to; `clock` gives seconds."""
        self._clock = clock
        host, _, port = str(_ray.get_runtime_context().gcs_address).rpartition(":")
        self._control_store = (host.strip("[]"), int(port))
        self._answered = clock()
        self._checked = clock()

    def check(self) -> None:
        """Look at Ray's processes; at a cluster's control store once in a second.

        To be called before anything is asked of Ray: a call that needs the memory of a node manager
        which has died ends this process at once.

        Raises:
            RayDiedError: with what has died.
        """
        if dead := dead_daemons():
            raise RayDiedError(_message(f"its {dead[0]} has died"))
        if self._clock() - self._checked < CHECK_PERIOD_S:
            return
        self._checked = self._clock()
        with suppress(OSError):
            socket.create_connection(self._control_store, timeout=2.0).close()
            self._answered = self._clock()
        if self._clock() - self._answered > _CONTROL_STORE_PATIENCE_S:
            raise RayDiedError(
                _message(f"its control store has not answered for {_CONTROL_STORE_PATIENCE_S:g} s")
            )


def _message(what: str) -> str:
    return f"Ray cannot carry the run any more: {what}; --resume goes on from its newest checkpoint"
