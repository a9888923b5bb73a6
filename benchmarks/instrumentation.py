"""What it costs a run to be watched: its work with the live page's looks against without.

    python launch/bench.py instrumentation --rounds 20

One run on Ray goes on in its steady state, in pairs of phases. With: launcher and page do what they
always do, a look every report period (metrics, TensorBoard, Redis, the page's own reading), and the
exporter is asked once as Prometheus would. Without: nobody looks between the beginning and the end,
and the page's process is stopped. Both phases of a pair follow each other at once and change places
from pair to pair, so that what changes slowly on a machine does not count. What the roles count for
themselves is always there, and not measured here.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil

from benchmarks.options import InstrumentationOptions
from benchmarks.reporting import describe_versions
from benchmarks.system import Look, settle
from engines.engine import Engine
from engines.live_control import LiveControl
from engines.on_ray.session import open_exporter
from engines.opening import connect_to_ray, open_board, open_engine, open_redis
from engines.supervisor import time_to_next_look
from games.registry import get_game
from recipes.limits import choose_device
from recipes.loading import dump_config, load_config, load_preset
from recipes.recipe import Recipe
from records.machine import describe_hardware, title_of
from records.prometheus import targets_path
from records.recorder import Recorder
from records.run_dir import RunDir
from records.run_statistics import estimate
from records.trackers import MetricsConfig
from views.live.process import open_page

_TARGET = 0.98
_WARM_UP_S = 20.0

Arm = Literal["with", "without"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One half of a pair."""

    arm: Arm
    did: Look

    @property
    def work(self) -> float:
        """What the learner drew and the actors played, their geometric mean.

        Either of them may run ahead of the other for some seconds.
        """
        return float(np.sqrt(self.did.updates * self.did.steps))

    @property
    def cpu_s(self) -> float:
        """Processor time of all: roles, Ray, Redis, the page."""
        return sum(self.did.cpu_s.values())


def run(options: InstrumentationOptions) -> dict[str, Any]:
    """Measure; returns the report."""
    load_before = os.getloadavg()[0]
    words = ["--games", *options.games] if options.games else []
    config = load_config(words, preset_text=load_preset(options.preset), prog="bench.py")
    recipe = Recipe(
        replace(config, engine="ray", num_steps=2**40, metrics=MetricsConfig(prometheus=True))
    )
    with ExitStack() as stack:
        watched = WatchedRun(recipe, stack)
        phases = alternate(watched.phase, rounds=options.rounds, phase_s=options.phase_s)
    return {
        "benchmark": "instrumentation",
        **compare(phases),
        "target": _TARGET,
        "phases": [{"arm": phase.arm, **asdict(phase.did)} for phase in phases],
        "settings": {
            "preset": options.preset,
            "games": list(recipe.games),
            "rounds": options.rounds,
            "phase_s": options.phase_s,
            "report_period_s": config.report_period_s,
        },
        "versions": describe_versions(),
        "hardware": describe_hardware(),
        "load_before": load_before,
    }


class WatchedRun:
    """A run in its steady state, and all that looks at it."""

    def __init__(self, recipe: Recipe, stack: ExitStack) -> None:
        """Start it and wait until learner and actors have found their pace."""
        config, device = recipe.config, choose_device(recipe.config)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        run = RunDir.create(
            str(scratch / "run"), preset="bench", config_text=dump_config(config), seed=config.seed
        )
        connect_to_ray(recipe, stack, device=device)
        redis = open_redis(
            config, stack, run=run.redis_name, url_path=run.redis_url_path, note=print
        )
        open_page(run, config.dashboard, stack=stack, note=print)
        self._page = _find_page()
        stack.callback(self._page.resume)
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
        self._page.send_signal(signal.SIGCONT if arm == "with" else signal.SIGSTOP)
        before = Look.take(self._engine)
        if arm == "with":
            self._watch(before.seconds + seconds)
        else:
            self._engine.advance(seconds)
        return Phase(arm, Look.take(self._engine).since(before))

    def _watch(self, until: float) -> None:
        for target in json.loads(self._targets.read_text())[0]["targets"]:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=5.0) as answer:
                answer.read()
        pause_s = self._period_s
        while (left := until - time.monotonic()) > 0:
            self._engine.advance(min(pause_s, left))
            began = time.monotonic()
            progress = self._engine.progress()
            self._control.look(progress, self._recorder.record(progress))
            pause_s = time_to_next_look(self._period_s, taken_s=time.monotonic() - began)


def _find_page() -> Any:
    """The live page's process, which this one has started; Ray has one of that name, too."""
    for child in psutil.Process().children():
        if "launch/dashboard.py" in title_of(child.pid):
            return child
    raise ValueError("the live page has not been started")


def alternate(
    run_phase: Callable[[Arm, float], Phase], *, rounds: int, phase_s: float
) -> list[Phase]:
    """Pairs of phases, each pair the other way round than the one before."""
    orders: list[tuple[Arm, Arm]] = [("without", "with"), ("with", "without")]
    return [run_phase(arm, phase_s) for number in range(rounds) for arm in orders[number % 2]]


def compare(phases: Sequence[Phase]) -> dict[str, Any]:
    """Work per second with, divided by that without: geometric mean over the pairs, 95 % interval.

    `per_cpu` is the same for work per second of processor time, which other programs hardly change.
    """
    pairs = [
        (first, second) if first.arm == "with" else (second, first)
        for first, second in zip(phases[::2], phases[1::2], strict=True)
    ]

    def ratio(cost: Callable[[Phase], float]) -> dict[str, float]:
        logs = [np.log(a.work / cost(a)) - np.log(b.work / cost(b)) for a, b in pairs]
        found = estimate({"pairs": logs}, "mean")
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        known = {"ratio": found.value, "low": found.low, "high": found.high}
        return {name: round(float(np.exp(value)), 5) for name, value in known.items()}

    return {
        **ratio(lambda phase: phase.did.seconds),
        "per_cpu": ratio(lambda phase: phase.cpu_s),
        "pairs": len(pairs),
    }


def describe(report: dict[str, Any]) -> str:
    """Both comparisons in words."""
    rows = {
        f"throughput watched / not watched (target: at least {report['target']})": report,
        "work per processor time, the same": report["per_cpu"],
    }
    return "\n".join(
        f"{name}: {x['ratio']:.4f} (95% {x['low']:.4f} to {x['high']:.4f}, {report['pairs']} pairs)"
        for name, x in rows.items()
    )
