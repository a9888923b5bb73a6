#!/usr/bin/env python
"""Teach one student network to play several games (Actor-Mimic).

    python launch/multitask.py                          the quickstart preset, on this machine
    python launch/multitask.py --preset amn_8games --run-dir runs/eight
    python launch/multitask.py --resume runs/eight
    python launch/multitask.py --actors 2 --balance     actors go to the games that need them

Every setting is an option: see --help.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from operator import attrgetter
from typing import Any

from engines.on_ray.exporter import open_exporter
from engines.opening import (
    check_redis,
    check_roles,
    connect_to_ray,
    open_board,
    open_engine,
    open_redis,
    open_tester,
)
from engines.supervisor import Supervisor
from games.registry import get_game
from launch.options.exit_status import run_command
from learner.checkpoint import list_checkpoints, load_newest
from recipes.config import MultitaskConfig
from recipes.limits import check_replay_fits, choose_device
from recipes.loading import Invocation, build_config, dump_config, load_run_config, parse_invocation
from recipes.mimic import MultitaskRecipe
from recipes.teacher_check import describe_policies, with_policy_temperatures
from records.machine import available_memory_bytes
from records.recorder import Recorder
from records.run_dir import RunDir
from views.console import Console
from views.live.process import open_page
from views.report.writing import write_report_of_run


def main(argv: Sequence[str]) -> None:
    """Run to the end; ValueError for anything the user got wrong, before anything is written."""
    started = time.monotonic()
    invocation = parse_invocation(_spell_out(argv), default_preset="quickstart")
    config = build_config(MultitaskConfig, invocation, prog="multitask.py").with_absolute_paths()
    config = with_policy_temperatures(config)
    recipe = MultitaskRecipe(config)
    state = _load_state(config, invocation)
    device = choose_device(config)
    check_recipe(recipe, state)
    with ExitStack() as stack:
        resumed = invocation.resumed
        check_redis(config, run=resumed.redis_name if resumed else None)
        connect_to_ray(recipe, stack, device=device)
        run_dir = open_run_dir(config, invocation, stack)
        console = stack.enter_context(Console(config))
        if policies := describe_policies(recipe):
            console.note(policies)
        redis = open_redis(
            config,
            stack,
            run=run_dir.redis_name,
            url_path=run_dir.redis_url_path,
            note=console.note,
        )
        if redis is not None and config.dashboard.enabled:
            open_page(run_dir, config.dashboard, stack=stack, note=console.note)
        engine = open_engine(
            recipe,
            device=device,
            state=state,
            redis=redis,
            replay_dir=run_dir.replay,
            note=console.note,
        )
        started -= state["seconds"] if state else 0.0
        board = open_board(redis, stack)
        exporter = open_exporter(config.metrics, run_dir.path, stack) if redis else None
        recorder = stack.enter_context(
            Recorder(
                run_dir.metrics_path,
                run_dir.tensorboard,
                [get_game(game) for game in recipe.games],
                teachers={game: recipe.teacher_score(game) for game in recipe.games},
                started=started,
                outlets=[exporter.take] if exporter else [],
                probes=[board.figures] if board else [],
            )
        )
        Supervisor(
            recipe,
            engine=engine,
            tester=open_tester(recipe),
            run_dir=run_dir,
            recorder=recorder,
            console=console,
            board=board,
            started=started,
        ).run()
    # Last, when the roles have gone and the machine is free.
    write_report_of_run(run_dir.path, print)


def _spell_out(argv: Sequence[str]) -> list[str]:
    """The short form `--balance` as the setting that it stands for."""
    words: list[str] = []
    for word in argv:
        words += ["--balance.enabled", "True"] if word == "--balance" else [word]
    return words


def _load_state(config: MultitaskConfig, invocation: Invocation) -> dict[str, Any] | None:
    """State of the run that is resumed; None for a new one, or one that had not got that far."""
    run = invocation.resumed
    if run is None:
        return None
    check_same_student(load_run_config(MultitaskConfig, run), config)
    return load_newest(run.checkpoints) if list_checkpoints(run.checkpoints) else None


def check_same_student(before: MultitaskConfig, now: MultitaskConfig) -> None:
    """Raises ValueError for changes that a run's checkpoint would survive in shape only."""
    for name in ("games", "network", "protocol", "learner.optimizer"):
        value_of = attrgetter(name)
        if value_of(before) != value_of(now):
            raise ValueError(
                f"--resume cannot change {name}: the run has {value_of(before)}, the options "
                f"say {value_of(now)}; start a new run"
            )


def check_recipe(recipe: MultitaskRecipe, state: dict[str, Any] | None) -> None:
    """Raises ValueError for teachers, replay settings or a checkpoint that cannot be used."""
    for game in recipe.games:
        recipe.load_teacher(game)
    check_replay_fits(recipe, available_bytes=available_memory_bytes())
    check_roles(recipe, state)


def open_run_dir(config: MultitaskConfig, invocation: Invocation, stack: ExitStack) -> RunDir:
    """The resumed run's folder, or a new one; locked, with the resolved configuration in it."""
    text = dump_config(config)
    run = invocation.resumed or RunDir.create(
        config.run_dir, preset=invocation.preset, config_text=text, seed=config.seed
    )
    stack.enter_context(run.locked())
    run.write_config(text)
    return run


if __name__ == "__main__":
    run_command(main)
