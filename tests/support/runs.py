"""Real commands in real processes, the small teachers they need, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from games.registry import get_game
from networks.network import MultitaskNetwork
from teachers.expert import save_expert

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("multitask.py", "experts.py", "evaluate.py")

PAGE_TOKEN = "a-token-that-is-long-enough"
"""Of a live page."""

_MARK = "ACTOR_MIMIC_TEST_RUN"
"""Environment variable by which the processes of a command are known, however deep they are."""


def save_random_expert(
    folder: Path, game: str, *, torso: str = "nature_quarter", seed: int = 0
) -> Path:
    """A teacher that has learned nothing: GAME.safetensors and its card in `folder`."""
    spec = get_game(game)
    torch.manual_seed(seed)
    network = MultitaskNetwork(
        torso=torso, observation_shape=spec.observation_shape, num_actions=spec.num_actions
    )
    return save_network(folder, game, network)


def save_network(folder: Path, game: str, network: MultitaskNetwork) -> Path:
    """A network as a teacher with a made-up card."""
    path = folder / f"{game}.safetensors"
    card = {
        "game": game,
        "algorithm": "none",
        "protocol": "classic",
        "trained_steps": 0,
        "scores": [
            {
                "mean": 3.0,
                "std": 1.0,
                "max": 5.0,
                "episodes": 3,
                "protocol": "classic",
                "epsilon": 0.05,
                "precision": "half",
            }
        ],
        "origin": "made by a test",
        "licence": "MIT",
    }
    save_expert(network, card, path)
    return path


def teacher_options(folder: Path, games: Sequence[str]) -> list[str]:
    """The option that names the teachers in `folder`."""
    return ["--teachers", *(f"{game}={folder / game}.safetensors" for game in games)]


@dataclass(slots=True)
class Command:
    """One of the project's commands in a session of its own, as from a terminal."""

    process: subprocess.Popen[str]
    scratch: Path
    """Its home and temporary folder; Ray and Redis live there, too."""
    started: float = field(default_factory=time.monotonic)

    @property
    def pids(self) -> list[int]:
        return pids_of(self.scratch)

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def wait_for(self, condition: Callable[[], object], *, timeout_s: float, what: str) -> None:
        """Look until a condition holds; AssertionError if the command ends before it does."""

        def is_over() -> bool:
            if condition():
                return True
            ended = self.process.poll() is not None
            assert not ended, (self.scratch / "errors").read_text()
            return False

        wait_until(is_over, timeout_s=timeout_s, what=what)

    def wait(self, timeout_s: float) -> Finished:
        status = self.process.wait(timeout_s)
        return Finished(
            status,
            (self.scratch / "output").read_text(),
            (self.scratch / "errors").read_text(),
            time.monotonic() - self.started,
        )


@dataclass(frozen=True, slots=True)
class Finished:
    status: int
    output: str
    errors: str
    seconds: float


@contextmanager
def command(
    script: str,
    *args: str | Path,
    cwd: Path,
    environment: dict[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[Command]:
    """Start `UNDER python launch/SCRIPT ARGS`; whatever is left of it at the end is killed.

    Nothing of it touches the user's home, a Ray that may be running, or the folders of other runs.
    """
    # Not under pytest's folder: the paths of Ray's sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="amt", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        with (scratch / "output").open("w") as out, (scratch / "errors").open("w") as errors:
            process = subprocess.Popen(
                [*under, sys.executable, str(ROOT / "launch" / script), *map(str, args)],
                cwd=cwd,
                env={**clean_environment(scratch), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        try:
            yield Command(process, scratch)
        finally:
            for pid in pids_of(scratch):
                kill(pid)
            process.wait(30.0)


def run_command(script: str, *args: str | Path, cwd: Path, timeout_s: float = 60.0) -> Finished:
    with command(script, *args, cwd=cwd) as running:
        return running.wait(timeout_s)


def clean_environment(scratch: Path) -> dict[str, str]:
    """This process's environment without what would change a run."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("RAY_AUTH_") or not name.startswith(("RAY_", "PYTEST_", "COVERAGE"))
    }
    return {**kept, **ray_environment(scratch), "HOME": str(scratch), "COLUMNS": "100"}


def ray_environment(scratch: Path) -> dict[str, str]:
    """Variables that keep Ray and Redis inside `scratch` and let workers import this folder."""
    return {
        _MARK: str(scratch),
        "TMPDIR": str(scratch),
        "RAY_TMPDIR": str(scratch),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
        "OMP_NUM_THREADS": "1",
        # Without a token of the caller's, Ray would write one into the user's home.
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled"),
        "RAY_USAGE_STATS_ENABLED": "0",
        # The usual 15 would leave the workers to starve behind the tests themselves.
        "RAY_worker_niceness": "0",
    }


def pids_of(scratch: Path) -> list[int]:
    """Processes that were started with `ray_environment(scratch)`, or use files in there."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            # Another user's, or gone meanwhile.
            with suppress(OSError):
                if _belongs(folder, str(scratch)):
                    found.append(int(folder.name))
    return found


def _belongs(process: Path, scratch: str) -> bool:
    if f"{_MARK}={scratch}".encode() in (process / "environ").read_bytes().split(b"\0"):
        return True
    # A process that shows a title of its own has overwritten its environment with it.
    links = [process / "cwd", *(process / "fd").iterdir()]
    return any(os.readlink(link).startswith(scratch) for link in links)


def title_of(pid: int) -> str:
    """What `ps` shows of a process; empty for one that has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_until(
    condition: Callable[[], object], *, timeout_s: float, what: str, period_s: float = 0.05
) -> None:
    """Look until a condition holds; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(period_s)


def read_metrics(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    whole_lines = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole_lines.splitlines()]


def read_summary(run: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary
