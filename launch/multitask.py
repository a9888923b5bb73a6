#!/usr/bin/env python
"""Teach one student network to play several games (Actor-Mimic).

    python launch/multitask.py                          the quickstart preset, on this machine
    python launch/multitask.py --preset amn_8games --run-dir runs/eight
    python launch/multitask.py --resume runs/eight

Every setting is an option: see --help.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from games.registry import get_game
from launch.cli import Invocation, build_config, parse_invocation, run_command
from launch.config import MultitaskConfig, dump_config
from launch.console import Console
from launch.engines import check_roles, open_engine, open_redis, open_tester
from launch.recipe import MultitaskRecipe, check_replay_fits, choose_device
from launch.recorder import Recorder
from launch.run_dir import RunDir, available_memory_bytes
from launch.supervisor import Supervisor
from learner.checkpoint import load_newest


def main(argv: Sequence[str]) -> None:
    """Run to the end; ValueError for anything the user got wrong, before anything is written."""
    started = time.monotonic()
    invocation = parse_invocation(argv, default_preset="quickstart")
    config = build_config(MultitaskConfig, invocation, prog="multitask.py")
    recipe = MultitaskRecipe(config)
    state = load_newest(invocation.resumed.checkpoints) if invocation.resumed else None
    device = choose_device(config)
    check_recipe(recipe, state)
    with ExitStack() as stack:
        redis = open_redis(config, stack)
        run_dir = open_run_dir(config, invocation)
        console = stack.enter_context(Console(config))
        engine = open_engine(
            recipe,
            stack,
            device=device,
            state=state,
            link_name=run_dir.name,
            redis=redis,
            note=console.note,
        )
        started -= state["seconds"] if state else 0.0
        recorder = stack.enter_context(_build_recorder(recipe, run_dir, started))
        Supervisor(
            recipe,
            engine=engine,
            tester=open_tester(recipe),
            run_dir=run_dir,
            recorder=recorder,
            console=console,
            started=started,
        ).run()


def check_recipe(recipe: MultitaskRecipe, state: dict[str, Any] | None) -> None:
    """Raises ValueError for teachers, replay settings or a checkpoint that cannot be used."""
    for game in recipe.games:
        recipe.load_teacher(game)
    check_replay_fits(recipe, available_bytes=available_memory_bytes())
    check_roles(recipe, state)


def open_run_dir(config: MultitaskConfig, invocation: Invocation) -> RunDir:
    """The resumed run's folder, or a new one with the resolved configuration in it."""
    if invocation.resumed is not None:
        return invocation.resumed
    return RunDir.create(
        config.run_dir, preset=invocation.preset, config_text=dump_config(config), seed=config.seed
    )


def _build_recorder(recipe: MultitaskRecipe, run_dir: RunDir, started: float) -> Recorder:
    return Recorder(
        run_dir.metrics_path,
        run_dir.tensorboard,
        [get_game(game) for game in recipe.games],
        teachers={game: recipe.teacher_score(game) for game in recipe.games},
        started=started,
    )


if __name__ == "__main__":
    run_command(main)
