"""What it costs a run to be watched: the same run with and without its looks, in turn.

    python launch/bench.py instrumentation --rounds 20

One run on Ray, in its steady state. With: a look every `report_period_s` as in any run (all roles
report; metrics.jsonl, TensorBoard, verdict, status in Redis, Prometheus' exporter), the live page's
process beside it with nobody at the page, and the exporter is asked once as Prometheus would.
Without: nobody looks between the beginning and the end, and the page's process is stopped. Both
halves of a pair follow each other at once and change places from pair to pair, so that what changes
slowly on a machine does not count.

The counters inside the roles are always there. What they cost is measured by itself and set
against the processor time that the run uses.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from benchmarks.processes.cpu import REST, cpu_seconds
from benchmarks.reporting import describe_versions
from benchmarks.system import settle
from engines.engine import Engine
from engines.live_control import LiveControl
from engines.on_ray.exporter import open_exporter
from engines.opening import connect_to_ray, open_board, open_engine, open_redis
from engines.supervisor import time_to_next_look
from games.registry import get_game
from learner.batch import DeviceBatch
from learner.game_means import GameMeans, sum_by_game
from recipes.errors import parse_or_fail
from recipes.limits import choose_device
from recipes.loading import dump_config, load_config, load_preset
from recipes.recipe import Recipe
from records.machine import describe_hardware
from records.prometheus import MetricsConfig, targets_path
from records.recorder import Recorder
from records.run_dir import RunDir
from views.live.process import open_page

_PROG = "bench.py instrumentation"
_TARGET = 0.98
_REPETITIONS = 10_000
_WARM_UP_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentationOptions:
    """Measure what it costs a run to be watched."""

    rounds: int = 20
    """Pairs."""
    phase_s: float = 12.0
    """Seconds of each half of a pair."""
    preset: str = "quickstart"
    games: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        if self.rounds < 2:
            raise ValueError(f"rounds must be at least 2, got {self.rounds}")
        if self.phase_s < 1:
            raise ValueError(f"phase_s must be at least 1, got {self.phase_s}")


Arm = Literal["with", "without"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One half of a pair."""

    arm: Arm
    seconds: float
    samples: int
    steps: int
    updates: int
    cpu_by_role: dict[str, float]
    """Processor time, s, of this process and all below it; see cpu_seconds."""

    @property
    def cpu_s(self) -> float:
        """Of all: roles, Ray, Redis, the page."""
        return sum(self.cpu_by_role.values())

    @property
    def aside_s(self) -> float:
        """Of all but the roles."""
        return self.cpu_by_role.get(REST, 0.0)


def main(argv: Sequence[str]) -> None:
    """Measure and print."""
    options = parse_or_fail(
        lambda: tyro.cli(InstrumentationOptions, args=argv, prog=_PROG), prog=_PROG
    )
    load_before = os.getloadavg()[0]
    recipe = _recipe(options)
    with ExitStack() as stack:
        watched = WatchedRun(recipe, stack)
        phases = alternate(watched.phase, rounds=options.rounds, phase_s=options.phase_s)
    report: dict[str, Any] = {
        "benchmark": "instrumentation",
        **compare(phases),
        "target": _TARGET,
        "counters": cost_of_counters(recipe, phases),
        "phases": [_as_row(phase) for phase in phases],
        "settings": {
            "preset": options.preset,
            "games": list(recipe.games),
            "rounds": options.rounds,
            "phase_s": options.phase_s,
            "report_period_s": recipe.config.report_period_s,
        },
        "versions": describe_versions(),
        "hardware": describe_hardware(),
        "load_before": load_before,
    }
    print(describe(report))
    print(json.dumps(report, allow_nan=False))


def _recipe(options: InstrumentationOptions) -> Recipe:
    words = ["--games", *options.games] if options.games else []
    config = load_config(words, preset_text=load_preset(options.preset), prog=_PROG)
    endless = replace(config, engine="ray", num_steps=2**40, metrics=MetricsConfig(prometheus=True))
    return Recipe(endless)


class WatchedRun:
    """A run in its steady state, and all that looks at it."""

    def __init__(self, recipe: Recipe, stack: ExitStack) -> None:
        """Start it and wait until learner and actors have found their pace."""
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        config = recipe.config
        run = RunDir.create(
            str(scratch / "run"), preset="bench", config_text=dump_config(config), seed=config.seed
        )
        device = choose_device(recipe.config)
        connect_to_ray(recipe, stack, device=device)
        redis = open_redis(
            config, stack, run=run.redis_name, url_path=run.redis_url_path, note=print
        )
        open_page(run, config.dashboard, stack=stack, note=print)
        self._page_pid = _find_page()
        stack.callback(self._set_page, signal.SIGCONT)
        self._engine: Engine = open_engine(
            recipe, device=device, state=None, redis=redis, note=print
        )
        stack.callback(self._engine.close)
        board = open_board(redis, stack)
        exporter = open_exporter(config.metrics, run.path, stack)
        assert board is not None
        assert exporter is not None
        self._targets = targets_path(run.path)
        self._period_s = config.report_period_s
        self._recorder = stack.enter_context(
            Recorder(
                run.metrics_path,
                run.tensorboard,
                [get_game(game) for game in recipe.games],
                outlets=[exporter.take],
                probes=[board.figures],
            )
        )
        self._control = LiveControl(
            recipe, engine=self._engine, board=board, tell=lambda event, progress: None
        )
        settle(self._engine)
        # Whoever was ahead when learning began has used that up by then.
        self._engine.advance(_WARM_UP_S)

    def phase(self, arm: Arm, seconds: float) -> Phase:
        """Go on for this long, watched or not."""
        self._set_page(signal.SIGCONT if arm == "with" else signal.SIGSTOP)
        before, start = self._engine.progress(), time.monotonic()
        cpu_before = cpu_seconds()
        if arm == "with":
            self._watch(start + seconds)
        else:
            self._engine.advance(seconds)
        now, end = self._engine.progress(), time.monotonic()
        return Phase(
            arm,
            end - start,
            samples=sum(game.sampled for game in now.games.values())
            - sum(game.sampled for game in before.games.values()),
            steps=now.steps - before.steps,
            updates=now.updates - before.updates,
            cpu_by_role={
                role: used - cpu_before.get(role, 0.0) for role, used in cpu_seconds().items()
            },
        )

    def _set_page(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._page_pid, number)

    def _watch(self, until: float) -> None:
        is_asked = False
        pause_s = self._period_s
        while (left := until - time.monotonic()) > 0:
            self._engine.advance(min(pause_s, left))
            began = time.monotonic()
            progress = self._engine.progress()
            row = self._recorder.record(progress)
            self._control.look(progress, row)
            pause_s = time_to_next_look(self._period_s, taken_s=time.monotonic() - began)
            if not is_asked:
                is_asked = True
                self._scrape()

    def _scrape(self) -> None:
        for target in json.loads(self._targets.read_text())[0]["targets"]:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=5.0) as answer:
                answer.read()


def _find_page() -> int:
    """Process id of the live page, which this process has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_text()
            # Ray has a process of that name, too.
            if parent == os.getpid() and "launch/dashboard.py" in command:
                return int(stat.parent.name)
    raise ValueError("the live page has not been started")


def alternate(
    run_phase: Callable[[Arm, float], Phase], *, rounds: int, phase_s: float
) -> list[Phase]:
    """Pairs of phases, each pair the other way round than the one before."""
    phases = []
    for number in range(rounds):
        arms: tuple[Arm, Arm] = ("with", "without") if number % 2 else ("without", "with")
        phases += [run_phase(arm, phase_s) for arm in arms]
    return phases


def compare(phases: Sequence[Phase]) -> dict[str, Any]:
    """Throughput with, divided by that without: geometric mean over the pairs, 95 % interval.

    The work is what the learner drew and what the actors played, half each (in logarithms): either
    of them may run ahead of the other for some seconds. `per_cpu` is the same for work per second
    of processor time. `aside` is what the processes beside the roles use more while the run is
    watched (launcher, page, Ray, Redis), as a part of all processor time: the least noisy of the
    three, but blind to what the roles spend on their answers.
    """
    pairs = [
        (first, second) if first.arm == "with" else (second, first)
        for first, second in zip(phases[::2], phases[1::2], strict=True)
    ]
    work = np.array([_log_work(watched) - _log_work(alone) for watched, alone in pairs])
    time_s = np.array([np.log(watched.seconds / alone.seconds) for watched, alone in pairs])
    cpu_s = np.array([np.log(watched.cpu_s / alone.cpu_s) for watched, alone in pairs])
    aside = np.array([_part_aside(watched) - _part_aside(alone) for watched, alone in pairs])
    return {
        **_ratio(work - time_s),
        "per_cpu": _ratio(work - cpu_s),
        "aside": _estimate(aside),
        "pairs": len(pairs),
    }


def _ratio(logs: NDArray[np.float64]) -> dict[str, float]:
    estimate = {name: round(float(np.exp(log)), 5) for name, log in _estimate(logs).items()}
    return {"ratio": estimate.pop("mean"), **estimate}


def _estimate(values: NDArray[np.float64]) -> dict[str, float]:
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(_REPETITIONS, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": round(float(values.mean()), 5),
        "low": round(float(low), 5),
        "high": round(float(high), 5),
    }


def _part_aside(phase: Phase) -> float:
    return phase.aside_s / phase.cpu_s


def _log_work(phase: Phase) -> float:
    return float(0.5 * (np.log(phase.samples) + np.log(phase.steps)))


def cost_of_counters(recipe: Recipe, phases: Sequence[Phase]) -> dict[str, float]:
    """Processor time of what the roles count for themselves, and its part of all that was used."""
    lap_s = _seconds_of(_lap, 20_000)
    figures_s = _seconds_of(_GameFigures(recipe).add, 200)
    num_envs = recipe.config.actor.num_envs
    steps, updates = sum(p.steps for p in phases), sum(p.updates for p in phases)
    # Two laps at every step of a vector. An update has one in the learner and three in replay
    # (storing, drawing, setting priorities), besides its figures of single games.
    spent_s = 2 * lap_s * steps / num_envs + (figures_s + 4 * lap_s) * updates
    return {
        "lap_s": lap_s,
        "game_figures_s_per_update": figures_s,
        "share_of_cpu": round(spent_s / sum(p.cpu_s for p in phases), 6),
    }


def _seconds_of(work: Callable[[], object], repeats: int) -> float:
    work()
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


class _Counts:
    seconds = 0.0


def _lap() -> None:
    """What is done around each stretch of time that is counted."""
    start = time.perf_counter()
    _Counts.seconds += time.perf_counter() - start


class _GameFigures:
    """The learner's figures of single games, on a batch of the run's size."""

    def __init__(self, recipe: Recipe) -> None:
        torch.set_num_threads(1)
        size, games = recipe.config.replay.batch_size, recipe.games
        counts = [size // len(games)] * len(games)
        counts[0] += size - sum(counts)
        self._terms = {"policy_loss": torch.rand(size), "policy_distance": torch.rand(size)}
        self._lag = np.ones(size, np.int64)
        self._means = GameMeans()
        empty: Any = None
        self._batch = DeviceBatch(
            games=games,
            keys=empty,
            game_counts=tuple(counts),
            observations_BCHW=empty,
            actions_B=empty,
            game_index_B=torch.from_numpy(np.repeat(np.arange(len(games)), counts)),
            teacher_logits_BA=empty,
            teacher_features_BD=empty,
            inverse_probabilities_B=empty,
            loss_weights_B=torch.ones(size),
            acting_versions=empty,
            temporal_difference=None,
        )

    def add(self) -> None:
        self._means.add(self._batch, sum_by_game(self._batch, self._terms), self._lag)


def _as_row(phase: Phase) -> dict[str, Any]:
    return {
        "arm": phase.arm,
        "steps_per_second": round(phase.steps / phase.seconds, 2),
        "samples_per_second": round(phase.samples / phase.seconds, 2),
        "cores": round(phase.cpu_s / phase.seconds, 3),
        "cores_aside": round(phase.aside_s / phase.seconds, 4),
    }


def describe(report: dict[str, Any]) -> str:
    """In words."""
    counters, per_cpu, aside = report["counters"], report["per_cpu"], report["aside"]
    return "\n".join(
        [
            f"throughput watched / not watched: {report['ratio']:.4f} "
            f"(95% {report['low']:.4f} to {report['high']:.4f}, {report['pairs']} pairs)",
            f"work per processor time, the same: {per_cpu['ratio']:.4f} "
            f"(95% {per_cpu['low']:.4f} to {per_cpu['high']:.4f})",
            f"more for processes beside the roles while watched: {aside['mean']:.2%} of all "
            f"processor time (95% {aside['low']:.2%} to {aside['high']:.2%})",
            f"counters inside the roles: {counters['share_of_cpu']:.2%} of the processor time",
            f"target: at least {report['target']}",
        ]
    )
