#!/usr/bin/env python
"""Change how many actors the games of a run have, and their part of replay, while it goes on.

    python launch/scale.py runs/latest pong=8 breakout=2
    python launch/scale.py runs/latest --file actors.yaml      games and numbers, as a mapping
    python launch/scale.py runs/latest --share pong=2 --quota pong=20000 --cap pong=4
    python launch/scale.py runs/latest --show
    python launch/scale.py runs/latest pong=0 --no-wait

The run is found by its folder, in which it leaves the address of its Redis while it goes on. From
another machine give the address with --redis-url, or in ACTOR_MIMIC_REDIS_URL, which others on
that machine cannot read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
import yaml
from annotated_types import Gt

from launch.options.command_line import RunOptions, parse_options
from launch.options.exit_status import run_command

if TYPE_CHECKING:
    from engines.on_redis.asking import GameActors
    from engines.on_redis.bus import RedisBus

_SETTINGS = {"share": "share", "quota": "quota", "cap": "samples_per_insert_cap"}
"""Options, and what replay calls the settings that they change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleOptions(RunOptions):
    """Change how many actors the games of a run have, and their part of replay."""

    entries: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="GAME=N")] = ()
    """Actors that a game is to have, 0 or more."""
    file: str = ""
    """YAML file with a mapping of games to numbers."""
    share: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GAME=X")] = ()
    """Relative part of a game in every batch."""
    quota: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GAME=N")] = ()
    """Transitions that replay keeps of a game."""
    cap: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GAME=X")] = ()
    """How often each transition of a game is drawn at most, on average."""
    show: bool = False
    """Show actors and settings as they are, and change nothing."""
    no_wait: bool = False
    """Ask, and return at once."""
    timeout_s: Annotated[float, Gt(0)] = 60.0
    """Longest wait for the run to follow, in seconds."""


def main(argv: Sequence[str], *, prog: str = "scale.py") -> None:
    """Ask, wait, and say what came of it; ValueError for anything the user got wrong."""
    options = parse_options(ScaleOptions, argv, prog=prog, doc=__doc__)
    actors = _read_file(options.file) if options.file else {}
    entries = _parse(options.entries, r"-?\d+", "GAME=N, such as pong=8")
    actors |= {game: int(text) for game, text in entries.items()}
    settings = _parse_settings(options)
    if not actors and not settings and not options.show:
        raise ValueError("name what is to change, for example pong=8, or use --show")
    from engines.on_redis.asking import find_run, read_actors, read_settings

    with find_run(options.run, redis_url=options.redis_url) as bus:
        _print(read_actors(bus))
        if options.show or settings:
            _print_settings(read_settings(bus))
        if actors:
            _change_actors(bus, actors, options)
        if settings:
            _change_settings(bus, settings, options)


def _change_actors(bus: RedisBus, actors: Mapping[str, int], options: ScaleOptions) -> None:
    from engines.on_redis.asking import ask, wait_until_followed

    ask(bus, actors)
    if options.no_wait:
        return
    print("asked for " + " ".join(f"{game}={n}" for game, n in actors.items()))
    after = wait_until_followed(bus, actors, timeout_s=options.timeout_s)
    _print({game: after[game] for game in actors})


def _change_settings(
    bus: RedisBus, settings: Mapping[str, Mapping[str, float]], options: ScaleOptions
) -> None:
    from engines.on_redis.asking import ask_settings, wait_until_set

    ask_settings(bus, settings)
    if not options.no_wait:
        wait_until_set(bus, settings, timeout_s=options.timeout_s)
        _print_settings(settings)


def _print_settings(settings: Mapping[str, Mapping[str, float]]) -> None:
    for game, values in settings.items():
        print(f"{game}: " + ", ".join(f"{name} {value:g}" for name, value in values.items()))


def _print(actors: Mapping[str, GameActors]) -> None:
    for game, state in actors.items():
        print(f"{game}: {state}")


def _parse(entries: Sequence[str], number: str, form: str, *, option: str = "") -> dict[str, str]:
    """Games and the texts of their numbers, which match `number`; each game once."""
    found: dict[str, str] = {}
    for entry in entries:
        match = re.fullmatch(rf"([^=]+)=({number})", entry)
        if match is None:
            raise ValueError(f"{option}{entry!r} is not of the form {form}")
        if match[1] in found:
            raise ValueError(f"{option and f'{option}of '}{match[1]!r} is given twice")
        found[match[1]] = match[2]
    return found


def _parse_settings(options: ScaleOptions) -> dict[str, dict[str, float]]:
    """What is to change, by game."""
    changes: dict[str, dict[str, float]] = {}
    for name, setting in _SETTINGS.items():
        option = f"--{name} "
        form = "GAME=NUMBER, such as pong=2"
        found = _parse(getattr(options, name), r"\d+(?:\.\d+)?", form, option=option)
        for game, text in found.items():
            if setting == "quota" and not float(text).is_integer():
                raise ValueError(f"{option}'{game}={text}' is not a whole number of transitions")
            number = int(float(text)) if setting == "quota" else float(text)
            changes.setdefault(game, {})[setting] = number
    return changes


def _read_file(path: str) -> dict[str, int]:
    try:
        document = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not document:
        raise ValueError(f"{path} must hold a mapping of games to numbers, such as pong: 8")
    return {str(game): number for game, number in document.items()}


if __name__ == "__main__":
    run_command(main)
