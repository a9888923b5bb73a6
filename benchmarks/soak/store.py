"""Bytes in Ray's object store, asked of a running Ray from outside, in a process of its own.

    python -m benchmarks.soak.store GCS_ADDRESS

answers every line on its standard input with one number. Ray reads its token once, when it is
imported, so the asking process must be started with the environment of the Ray that it asks; and
that the way of asking is not part of Ray's public interface spoils nothing but this figure.
"""

from __future__ import annotations

import importlib
import re
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]
_ANSWER_TIMEOUT_S = 30.0


class StoreReader:
    """Asks for the bytes used; None when there is no answer."""

    def __init__(self, gcs_address: str, environment: Mapping[str, str]) -> None:
        """Start the asking process."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.store", gcs_address],
            cwd=_ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the asking process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # A question that nobody took.
                    stream.close()

    def bytes_used(self) -> int | None:
        """Bytes in use in the object stores of all nodes; waits half a minute at most."""
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        try:
            questions.write("\n")
            questions.flush()
        except OSError:
            return None
        if not select.select([answers], [], [], _ANSWER_TIMEOUT_S)[0]:
            return None
        line = answers.readline().strip()
        return int(line) if line.isdigit() else None


def gcs_address(raylet_title: str) -> str | None:
    """Where the control store of a raylet is, from its command line."""
    found = re.search(r"--gcs-address=(\S+)", raylet_title)
    return found[1] if found else None


def main() -> None:
    """Answer until the input ends."""
    raylet: Any = importlib.import_module("ray._raylet")
    api: Any = importlib.import_module("ray._private.internal_api")
    nodes = raylet.GcsClient(address=sys.argv[1]).get_all_node_info().values()
    places = [(node.node_manager_address, node.node_manager_port) for node in nodes]
    for _ in sys.stdin:
        stats = [api.node_stats(*place, include_memory_info=False) for place in places]
        print(sum(one.store_stats.object_store_bytes_used for one in stats), flush=True)


if __name__ == "__main__":
    main()
