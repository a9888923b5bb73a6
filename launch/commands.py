#!/usr/bin/env python
"""Distributed Actor-Mimic: one network that plays many games as well as its experts.

    actor-mimic multitask                       train a student of three games, here
    actor-mimic multitask --preset amn_8games   of eight
    actor-mimic report runs/latest              a page about it
    actor-mimic games                           the games that there are
    actor-mimic completion bash                 what to put into ~/.bashrc for completion

Each command has its own --help, and is also a script: python launch/COMMAND.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

from launch.options.completion import completion_script
from launch.options.exit_status import run_command

COMMANDS: Mapping[str, str] = {
    "multitask": "teach one student network to play several games",
    "experts": "train an expert for each of several games",
    "transfer": "train a DQN on a new game, beginning with a student's weights",
    "population": "train several runs that learn from each other",
    "study": "compare settings: arms x seeds of a command, with one report",
    "evaluate": "test a student or an expert: whole episodes, raw scores",
    "report": "write a page about one or several runs",
    "compare": "compare runs at the terminal: settings, scores, speed",
    "dashboard": "show a run in the browser",
    "scale": "change how many actors the games of a run have, while it goes on",
    "play": "play a game with a student and its teacher side by side",
    "export": "export a student or an expert as weights, PyTorch program or ONNX",
    "zoo": "import, list, show, verify and query teachers",
    "plan": "what a run would come to, before it is started",
    "bench": "measure one part of the system",
    "chaos": "kill processes of a run and measure how soon it recovers",
}
"""The scripts beside this file, and what each does."""


def main(argv: Sequence[str]) -> None:
    """Run one command; without a name, or with one that is not known, say which there are."""
    name, words = (argv[0], list(argv[1:])) if argv else ("--help", [])
    if name in ("-h", "--help"):
        print(_help())
    elif name in COMMANDS:
        command = importlib.import_module(f"launch.{name}").main
        command(words, prog=f"actor-mimic {name}")
    elif name in _LISTS:
        if words:
            raise ValueError(f"actor-mimic {name} takes no options, got {' '.join(words)}")
        print("\n".join(_LISTS[name]()))
    elif name == "completion":
        print(completion_script(words, tuple(COMMANDS), tuple(_LISTS)))
    else:
        raise ValueError(
            f"unknown command {name!r}; choose one of {', '.join([*COMMANDS, *_LISTS])}"
        )


def script() -> None:
    """Start as the installed command `actor-mimic`."""
    run_command(main)


def _help() -> str:
    rows = [f"  {name:<11} {what}" for name, what in COMMANDS.items()]
    rows += [f"  {name:<11} list the {name} that there are" for name in _LISTS]
    rows.append("  completion  a script that completes commands and options: bash or zsh")
    return (
        f"usage: actor-mimic COMMAND ...\n\n{(__doc__ or '').strip()}\n\ncommands:\n"
        + "\n".join(rows)
    )


def _games() -> list[str]:
    from games import get_game, installed_games, known_games
    from teachers.shipped import shipped_experts

    shipped = shipped_experts()
    rows = []
    for name in sorted({*known_games(), *installed_games()}):
        spec = get_game(name)
        expert = "expert shipped" if name in shipped else ""
        rows.append(f"{name:<24} {spec.family:<8} {len(spec.legal_actions):>2} actions  {expert}")
    return [row.rstrip() for row in rows]


def _presets() -> list[str]:
    from recipes.loading import describe_preset, preset_names

    return [f"{name:<14} {describe_preset(name)}" for name in preset_names()]


def _torsos() -> list[str]:
    from networks.config import TORSO_DESCRIPTIONS

    return [f"{name:<15} {what}" for name, what in TORSO_DESCRIPTIONS.items()]


_LISTS: Mapping[str, Callable[[], list[str]]] = {
    "games": _games,
    "presets": _presets,
    "torsos": _torsos,
}


if __name__ == "__main__":
    run_command(main)
