"""The folder of one run: what was asked for, where it ran, what came of it.

    config.yaml       everything resolved; itself a valid preset
    meta.json         program versions, commit, hardware, seed, command line, warnings
    metrics.jsonl     a line per look at the run
    events.jsonl      a line for each change, checkpoint and restart
    redis_url         while the run goes on: a secret, readable for its owner alone
    summary.json      the result
    report.html       the result for people, with report_files/ (launch/report.py)
    tensorboard/  checkpoints/  replay/  student/

records/run_meta.py defines meta.json, records/summary.py summary.json, and docs/metrics.md explains
the figures.
"""

import contextlib
import json
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from networks.atomic_file import write_atomically
from records.latest import LATEST, follow_latest, name_latest
from records.locking import try_lock
from records.run_meta import RunMeta, describe_run, read_meta, write_meta

_META = "meta.json"
_LOCK = ".lock"


class RunDir:
    """The paths of one run. Make it with `create` or `open_existing`."""

    def __init__(self, path: Path, preset: str, run_id: str) -> None:
        """Nothing is looked at; `path` is absolute, its last part is the run's name."""
        self.path = path
        # Name of the preset that the run was started from.
        self.preset = preset
        # Random; tells runs of the same name apart.
        self.run_id = run_id
        # The resolved configuration.
        self.config_path = path / "config.yaml"
        # One JSON object a line.
        self.metrics_path = path / "metrics.jsonl"
        # The result; there once the run has reached its end.
        self.summary_path = path / "summary.json"
        # TensorBoard's event files.
        self.tensorboard = path / "tensorboard"
        # The newest checkpoints of the learner.
        self.checkpoints = path / "checkpoints"
        # Snapshots of the replay shards.
        self.replay = path / "replay"
        # Address of the run's Redis, with its password; there only while the run goes on.
        self.redis_url_path = path / "redis_url"
        # The student network and its configuration.
        self.student = path / "student"
        self._meta_path = path / _META

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        preset: str,
        config_text: str,
        seed: int,
        argv: Sequence[str] | None = None,
        games: Sequence[str] = (),
        root: str | Path = "runs",
    ) -> Self:
        """Make the folder of a new run and write config.yaml and meta.json into it.

        An empty `path` stands for ROOT/PRESET-DATE-TIME, and no `argv` for this program's command
        line. `games` get a run each in this folder, which has none of its own then. ValueError as
        for `check_new`, and if the folder cannot be made.
        """
        cls.check_new(path)
        folder = Path(path).resolve() if str(path) else _find_unused(Path(root), preset)
        _check_name(folder)
        _make(folder)
        run = cls(folder, preset, secrets.token_hex(4))
        meta = describe_run(
            run_id=run.run_id,
            preset=preset,
            seed=seed,
            argv=sys.argv if argv is None else argv,
            games=games,
        )
        try:
            write_atomically(run.config_path, config_text.encode())
            # Last, since it is what makes the folder a run.
            write_meta(run._meta_path, meta)
        except OSError as error:
            with contextlib.suppress(OSError):
                run.config_path.unlink(missing_ok=True)
                folder.rmdir()
            raise ValueError(
                f"cannot write into the run's folder {folder}: {error.strerror}"
            ) from None
        # Else it is a part of another run's folder: a game's, or a member's of a population.
        if not any((above / _META).is_file() for above in (folder.parent, folder.parent.parent)):
            name_latest(folder)
        return run

    @staticmethod
    def check_new(path: str | Path) -> None:
        """Refuse (ValueError), without making anything, a folder that `create` could not use."""
        if not str(path):
            return
        folder = Path(path).resolve()
        _check_name(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cannot make the run's folder {folder}: a file has that name")
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"{folder} has something in it already; choose another folder, or go on with the "
                f"run in it with --resume {folder}"
            )

    @classmethod
    def open_existing(cls, path: str | Path) -> Self:
        """A run that was created before; ValueError if there is none. Changes nothing in it."""
        folder = Path(follow_latest(str(path))).resolve()
        if not folder.is_dir():
            raise ValueError(f"there is no run in {path}: the folder does not exist")
        run = cls(folder, "", "")
        for needed in (run._meta_path, run.config_path):
            if not needed.is_file():
                raise ValueError(f"{path} is not the folder of a run: it has no {needed.name}")
        meta = run.meta
        return cls(folder, meta.preset, meta.id)

    @classmethod
    def open_carried(cls, path: str | Path) -> Self:
        """The run in a folder; in a folder with a run for each game, the one carried last.

        ValueError if no run has begun there.
        """
        runs = cls.open_existing(path).parts()
        if not runs:
            raise ValueError(f"no run has begun in {path} yet")
        return max(runs, key=cls._last_carried)

    def _last_carried(self) -> float:
        """When a program last took the run up, since the epoch; 0 for a copy without a lock."""
        try:
            # A lock's file is opened anew by every program that carries its run.
            return (self.path / _LOCK).stat().st_mtime
        except OSError:
            return 0.0

    def parts(self) -> tuple[Self, ...]:
        """The run itself; for a folder with a run for each game, those that have begun."""
        if not self.games:
            return (self,)
        folders = [self.path / game for game in self.games]
        return tuple(type(self).open_existing(path) for path in folders if (path / _LOCK).is_file())

    @property
    def redis_name(self) -> str:
        """The run's name in Redis, which other runs may share."""
        return f"{self.path.name}-{self.run_id}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only program that writes into the folder, inside the `with` block.

        ValueError if another program is at it, or nothing can be written into the folder. A file
        system without locks, as some network file systems are, cannot keep others out: that is
        noted as a warning, and the run goes on.
        """
        folder = self.path

        def warn(error: OSError) -> None:
            self.add_warning(
                f"the file system of {folder} has no locks ({error.strerror}): nothing keeps "
                "a second program from carrying the same run"
            )

        try:
            file = try_lock(folder / _LOCK, without_locks=warn)
        except OSError as error:
            raise ValueError(
                f"cannot write into the run's folder {folder}: {error.strerror}"
            ) from None
        if file is None:
            raise ValueError(f"another program is carrying the run in {folder}; stop it first")
        with file:
            yield

    def write_config(self, config_text: str) -> None:
        """Replace config.yaml, when a run goes on with other settings; YAML without secrets."""
        write_atomically(self.config_path, config_text.encode())

    @property
    def meta(self) -> RunMeta:
        """What meta.json says of the run now; ValueError if it is damaged."""
        return read_meta(self._meta_path)

    @property
    def games(self) -> tuple[str, ...]:
        """Games that have a run each in this folder; empty for a run by itself."""
        return tuple(self.meta.games)

    @property
    def command(self) -> list[str]:
        """The command line that began the run, without secrets."""
        return ["python", *self.meta.argv]

    def student_at(self, steps: int) -> Path:
        """The student that is kept for good after so many steps (checkpoint.keep_at_steps)."""
        return self.path / "student_at" / str(steps)

    def add_warning(self, text: str) -> None:
        """Add a line to the `warnings` of meta.json, for whoever reads the result later."""
        meta = self.meta
        if text not in meta.warnings:
            warnings = (*meta.warnings, text)
            write_meta(self._meta_path, meta.model_copy(update={"warnings": warnings}))

    def read_summary(self) -> dict[str, Any]:
        """What summary.json says; FileNotFoundError before there is one."""
        summary: dict[str, Any] = json.loads(self.summary_path.read_bytes())
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which `build_summary` has made, whole or not at all."""
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        write_atomically(self.summary_path, text.encode())


def _find_unused(root: Path, preset: str) -> Path:
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", preset) or "run"
    folder = root.resolve() / f"{stem}-{started}"
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{stem}-{started}-{number}")
        number += 1
    return folder


def _check_name(folder: Path) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", folder.name):
        raise ValueError(
            f"{folder.name!r} cannot be the name of a run: use up to 200 letters, digits, '.', "
            "'_', '-'"
        )
    if folder.name == LATEST:
        raise ValueError(
            f"a run cannot be called {LATEST!r}: that is the file that names the newest run"
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the run's folder {folder}: {error.strerror}") from error
