"""Carries a run from its configuration to its summary: the one way in for every command.

check (nothing is written) -> Ray -> folder -> display, Redis, page, engine -> Supervisor.run
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch

from engines.display import Display
from engines.keeping import Keeper
from engines.membership import Membership
from engines.opening import (
    check_redis,
    check_roles,
    connect_to_ray,
    open_board,
    open_engine,
    open_redis,
    open_tester,
)
from engines.slices import Position, run_through
from engines.supervisor import Supervisor
from games.registry import get_game
from learner.checkpoint import list_checkpoints, load_newest
from recipes.config import RunConfig
from recipes.limits import check_replay_fits, choose_device
from recipes.loading import Invocation, dotted_settings, dump_config, load_run_config
from recipes.recipe import Recipe
from recipes.teacher_check import describe_policies
from records.machine import available_memory_bytes
from records.recorder import Recorder
from records.run_dir import RunDir
from records.run_record import read_document
from records.safe_writing import SafeWriting
from records.session_clock import SessionClock, last_wall_seconds
from records.trackers import Tracker, build_service, check_tracker

# Makes what decides which weights of a run are kept.
KeeperOf: TypeAlias = Callable[[Recipe, RunDir], Keeper]
# Makes what a run is in a population, from its checkpoint's state if it goes on.
MemberOf: TypeAlias = Callable[[Recipe, RunDir, dict[str, Any] | None], Membership]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be carried, and where."""

    config: RunConfig
    # Name of the preset that the run begins from; part of a new folder's default name.
    preset: str
    # Folder of a new run; empty for runs/PRESET-DATE-TIME.
    folder: str | Path = ""
    # Run to go on with; None for a new one.
    resumed: RunDir | None = None

    @classmethod
    def of(cls, invocation: Invocation, config: RunConfig) -> Order:
        """What a command line asks for, as `config` says in full."""
        return cls(
            config=config,
            preset=invocation.preset,
            folder=config.run_dir,
            resumed=invocation.resumed,
        )

    @property
    def recipe(self) -> Recipe:
        """The order's recipe; ValueError for a teacher that cannot be had."""
        recipe = Recipe(self.config.with_absolute_paths())
        recipe.check_teachers()
        return recipe.with_policy_temperatures()


class Screens(Protocol):
    """What people see of a run, opened when there is something to see."""

    def open_display(self, config: RunConfig, stack: ExitStack) -> Display:
        """Show the run to whoever started it until `stack` is closed."""
        ...

    def open_page(
        self, run_dir: RunDir, config: RunConfig, stack: ExitStack, note: Callable[[str], None]
    ) -> None:
        """Serve the live page of a run on Ray until `stack` is closed; never raises."""
        ...

    def report(self, run_dir: RunDir) -> None:
        """Write the report of a run that has ended; never raises."""
        ...


def check_order(order: Order) -> None:
    """Try all that can be tried before anything is written; ValueError for what cannot be used."""
    _Preparation(order)


def carry(order: Order, *, keeper_of: KeeperOf, screens: Screens) -> RunDir:
    """Carry a run to its end; its summary and its report are in the folder that is returned.

    ValueError, before anything is written, for anything that the user got wrong. When interrupted,
    a checkpoint and a summary of what was reached are written.
    """
    return run_through(carry_in_slices(order, keeper_of=keeper_of, screens=screens))


def carry_in_slices(
    order: Order, *, keeper_of: KeeperOf, screens: Screens, member_of: MemberOf | None = None
) -> Generator[Position, None, RunDir]:
    """Do the same for a member of a population; see Supervisor.slices."""
    started = time.monotonic()
    with ExitStack() as outer:
        with ExitStack() as stack:
            if order.resumed is not None:
                # First of all: a run that somebody else carries is refused at once.
                stack.enter_context(order.resumed.locked())
            else:
                RunDir.check_new(order.folder)
            prepared = _Preparation(order)
            config = prepared.recipe.config
            connect_to_ray(prepared.recipe, stack, device=prepared.device)
            run_dir = _open_folder(order, config, stack)
            display = screens.open_display(config, stack)
            # It gets the report as well, so it ends after it.
            tracking = _open_tracker(config, run_dir, display, outer)
            outlets = [*_outlets(config, run_dir, stack), *tracking]
            supervisor = _build_supervisor(
                prepared,
                run_dir,
                keeper_of=keeper_of,
                member_of=member_of,
                screens=screens,
                display=display,
                outlets=outlets,
                started=started,
                stack=stack,
            )
            yield from supervisor.slices()
        # When the roles have gone and the machine is free.
        if config.report_at_end:
            screens.report(run_dir)
    return run_dir


class _Preparation:
    """A recipe, a device and a checkpoint that fit together."""

    def __init__(self, order: Order) -> None:
        """Check all of it; ValueError if something cannot be used."""
        self.recipe = order.recipe
        self.state = _load_state(order)
        config = self.recipe.config
        self.device: torch.device = choose_device(config)
        check_tracker(config.metrics.tracker)
        check_replay_fits(self.recipe, available_bytes=available_memory_bytes())
        check_roles(self.recipe, self.state)
        check_redis(config, run=order.resumed.redis_name if order.resumed else None)


def _load_state(order: Order) -> dict[str, Any] | None:
    """State of the run that is resumed; None for a new one, or one that had not got that far."""
    run = order.resumed
    if run is None:
        return None
    check_same_run(load_run_config(run), order.config.with_absolute_paths())
    if not list_checkpoints(run.checkpoints):
        return None
    state = load_newest(run.checkpoints)
    made, wanted = state["learner"]["num_updates"], order.config.num_updates
    if made > wanted:
        raise ValueError(
            f"the run has made {made:,} updates, and --num-steps {order.config.num_steps} asks for "
            f"{wanted:,}; ask for more steps to go on with it"
        )
    return state


# Settings that make a run what it is.
_FIXED = (
    "games",
    "objective",
    "network",
    "protocol",
    "learner.optimizer",
    # Updates are counted in batches: with other sizes, those made would stand for other steps.
    "replay.batch_size",
    "replay.samples_per_insert",
    # A student that began with one teacher would be called the student of another.
    "teachers_of",
    "start_of",
    "start_head",
    # A schedule goes by all steps of the run; another one would leave a jump in its weight.
    "distillation",
)


def check_same_run(before: RunConfig, now: RunConfig) -> None:
    """Raises ValueError for changes that a run's checkpoint would survive in shape only."""
    for name in _FIXED:
        for setting, had, wanted in _differences(name, before, now):
            raise ValueError(
                f"--resume cannot change {setting}: the run has {had}, the options say {wanted}; "
                "start a new run"
            )


def _differences(name: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, value before, value now) of the settings that differ, in a group one by one."""
    had, wanted = attrgetter(name)(before), attrgetter(name)(now)
    if had == wanted:
        return
    if not is_dataclass(had):
        yield name, had, wanted
        return
    for field in fields(had):
        if getattr(had, field.name) != getattr(wanted, field.name):
            yield f"{name}.{field.name}", getattr(had, field.name), getattr(wanted, field.name)


def _open_folder(order: Order, config: RunConfig, stack: ExitStack) -> RunDir:
    """The run's folder with the resolved configuration in it, locked."""
    text = dump_config(config)
    if order.resumed is not None:
        order.resumed.write_config(text)
        return order.resumed
    run_dir = RunDir.create(order.folder, preset=order.preset, config_text=text, seed=config.seed)
    stack.enter_context(run_dir.locked())
    return run_dir


def _build_supervisor(
    prepared: _Preparation,
    run_dir: RunDir,
    *,
    keeper_of: KeeperOf,
    member_of: MemberOf | None,
    screens: Screens,
    display: Display,
    outlets: Sequence[Callable[..., None]],
    started: float,
    stack: ExitStack,
) -> Supervisor:
    recipe, state, device = prepared.recipe, prepared.state, prepared.device
    config = recipe.config
    if policies := describe_policies(recipe):
        display.note(policies)
    redis = open_redis(
        config,
        stack,
        run=run_dir.redis_name,
        url_path=run_dir.redis_url_path,
        note=display.note,
    )
    if redis is not None and config.dashboard.enabled:
        screens.open_page(run_dir, config, stack, display.note)
    engine = open_engine(
        recipe,
        device=device,
        state=state,
        redis=redis,
        replay_dir=run_dir.replay,
        note=display.note,
    )
    session = SessionClock(
        started=started,
        counted_s=state["seconds"] if state else 0.0,
        wall_s=last_wall_seconds(run_dir.metrics_path, read_document(run_dir.summary_path)),
    )
    writing = SafeWriting(display.warn)
    board = open_board(redis, stack)
    recorder = stack.enter_context(
        Recorder(
            run_dir.metrics_path,
            run_dir.tensorboard,
            [get_game(game) for game in recipe.games],
            teachers={game: recipe.teacher_score(game) for game in recipe.games},
            num_updates=config.num_updates,
            clock=session,
            writing=writing,
            outlets=outlets,
            probes=[board.figures] if board else [],
        )
    )
    return Supervisor(
        recipe,
        engine=engine,
        tester=open_tester(recipe),
        keeper=keeper_of(recipe, run_dir),
        run_dir=run_dir,
        recorder=recorder,
        display=display,
        board=board,
        session=session,
        writing=writing,
        member=member_of(recipe, run_dir, state) if member_of else None,
        steps_before=sum(state["steps"].values()) if state else 0,
    )


def _outlets(config: RunConfig, run_dir: RunDir, stack: ExitStack) -> list[Callable[..., None]]:
    """Where metrics go besides the run's folder: Prometheus, through Ray's exporter."""
    if config.engine == "local":
        return []
    from engines.on_ray.session import open_exporter

    exporter = open_exporter(config.metrics, run_dir.path, stack)
    return [exporter.take] if exporter else []


def _open_tracker(
    config: RunConfig, run_dir: RunDir, display: Display, stack: ExitStack
) -> list[Callable[..., None]]:
    """Where an experiment tracker takes metrics; when `stack` is closed, it gets the results."""
    if config.metrics.tracker == "none":
        return []
    service = build_service(
        config.metrics.tracker,
        project=config.metrics.project,
        run=run_dir.path.name,
        key=run_dir.redis_name,
        config=dotted_settings(config),
    )
    tracker = Tracker(service, warn=display.warn)
    results = (run_dir.summary_path, run_dir.path / "report.html", run_dir.config_path)
    stack.callback(tracker.finish, results)
    return [tracker.take]
