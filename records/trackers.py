"""Hands a run to an experiment tracker: Weights & Biases, Trackio or MLflow.

A thread of its own does all of it, so that a tracker that is slow, away or broken costs the run
nothing: it is said once, and the run's folder has everything anyway. Whom a tracker reports to, and
with which key, is said to it by its own environment variables; nothing of that passes through here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

TrackerName: TypeAlias = Literal["none", "wandb", "trackio", "mlflow"]

# Rows that wait for a slow tracker; more are dropped.
_MAX_WAITING = 10_000
# MLflow's own limit.
_PARAMS_A_CALL = 100
# How long the end of a run waits for its tracker.
_END_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Who gets a run's figures besides its folder and TensorBoard."""

    prometheus: bool = False
    """Show them through Ray's own exporter, which answers everybody who reaches its port, and tell
    Prometheus about it in prometheus-RUN.json beside the run's folder. Only for the Ray engine."""
    tracker: TrackerName = "none"
    """Experiment tracker that gets settings, figures, summary and report; its package is the
    user's to install, and its own environment variables say where it is."""
    project: str = "distributed-actor-mimic"
    """What the tracker files the run under."""


class Service(Protocol):
    """One run at a tracker; every method may raise whatever it likes."""

    def begin(self) -> None:
        """Make the run known, or go on with it if it is known already."""
        ...

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Take figures at a number of environment steps; later rows may be of fewer steps."""
        ...

    def keep(self, path: Path) -> None:
        """Take a file."""
        ...

    def end(self) -> None:
        """Finish; all that was given is kept."""
        ...


class _Wandb:
    """Weights & Biases: WANDB_API_KEY, WANDB_BASE_URL, WANDB_MODE."""

    def __init__(self, project: str, name: str, key: str, config: Mapping[str, Any]) -> None:
        self._about = {"project": project, "name": name, "id": key, "config": dict(config)}

    def begin(self) -> None:
        # Its lines would stand between the run's own.
        os.environ.setdefault("WANDB_SILENT", "true")
        self._run: Any = importlib.import_module("wandb").init(**self._about, resume="allow")
        # Its own steps must not go back, and a test is of older weights than the last look.
        self._run.define_metric("*", step_metric="steps")

    def log(self, row: Mapping[str, float], step: int) -> None:
        self._run.log({**row, "steps": step})

    def keep(self, path: Path) -> None:
        self._run.save(str(path), base_path=str(path.parent), policy="now")

    def end(self) -> None:
        self._run.finish()


class _Trackio:
    """Trackio: TRACKIO_DIR for a local one, TRACKIO_SPACE_ID or TRACKIO_SERVER_URL for another."""

    def __init__(self, project: str, name: str, key: str, config: Mapping[str, Any]) -> None:
        self._about = {"project": project, "name": key, "group": name, "config": dict(config)}

    def begin(self) -> None:
        self._trackio = importlib.import_module("trackio")
        self._run = self._trackio.init(
            **self._about, resume="allow", embed=False, auto_log_cpu=False
        )

    def log(self, row: Mapping[str, float], step: int) -> None:
        self._run.log(dict(row), step=step)

    def keep(self, path: Path) -> None:
        self._trackio.log_artifact(path, name=path.name, type="run")

    def end(self) -> None:
        self._run.finish()


class _MLflow:
    """MLflow: MLFLOW_TRACKING_URI."""

    def __init__(self, project: str, name: str, key: str, config: Mapping[str, Any]) -> None:
        self._project, self._name, self._key, self._config = project, name, key, config

    def begin(self) -> None:
        # The client, not the module's own functions, whose run belongs to one thread.
        self._client = importlib.import_module("mlflow").MlflowClient()
        found = self._client.get_experiment_by_name(self._project)
        experiment = found.experiment_id if found else self._client.create_experiment(self._project)
        known = self._client.search_runs([experiment], f"tags.actor_mimic = '{self._key}'")
        if known:
            self._run = known[0].info.run_id
            return
        tags = {"actor_mimic": self._key}
        run = self._client.create_run(experiment, run_name=self._name, tags=tags)
        self._run = run.info.run_id
        entities = importlib.import_module("mlflow.entities")
        params = [entities.Param(name, str(value)) for name, value in self._config.items()]
        for start in range(0, len(params), _PARAMS_A_CALL):
            self._client.log_batch(run_id=self._run, params=params[start : start + _PARAMS_A_CALL])

    def log(self, row: Mapping[str, float], step: int) -> None:
        metric = importlib.import_module("mlflow.entities").Metric
        now_ms = int(time.time() * 1000)
        metrics = [metric(name, value, now_ms, step) for name, value in row.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def keep(self, path: Path) -> None:
        self._client.log_artifact(self._run, str(path))

    def end(self) -> None:
        self._client.set_terminated(self._run)


_SERVICES: Mapping[str, Callable[[str, str, str, Mapping[str, Any]], Service]] = {
    "wandb": _Wandb,
    "trackio": _Trackio,
    "mlflow": _MLflow,
}


def check_tracker(name: TrackerName) -> None:
    """ValueError with what to install if the tracker's package is not there."""
    if name == "none":
        return
    found = importlib.util.find_spec(name)
    # A folder of that name, as wandb makes one where it runs, can be imported as an empty package.
    if found is None or found.origin is None:
        raise ValueError(f"metrics.tracker {name} needs a package: pip install {name}")


def build_service(
    name: TrackerName, *, project: str, run: str, key: str, config: Mapping[str, Any]
) -> Service:
    """One run at a tracker.

    Args:
        name: not "none".
        project: the tracker's word for a set of runs; MLflow calls it an experiment.
        run: the run's name, for people.
        key: never the same for two runs, and the same for a run that is resumed.
        config: settings by their dotted names.
    """
    return _SERVICES[name](project, run, key, config)


class Tracker:
    """Gives rows and files to a service, in their order, from a thread of its own."""

    def __init__(self, service: Service, *, warn: Callable[[str], None]) -> None:
        """Begin at once; `warn` takes the line about the first failure."""
        self._service = service
        self._warn = warn
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_MAX_WAITING)
        self._has_warned = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def take(self, row: Mapping[str, float]) -> None:
        """Pass a row of metrics on, for records.recorder.Recorder; never waits."""
        self._put(lambda: self._service.log(row, int(row["steps"])))

    def finish(self, files: Sequence[Path]) -> None:
        """Pass on those files that exist, and end; waits a minute at most."""
        for path in files:
            if path.is_file():
                self._put(partial(self._service.keep, path))
        self._put(self._service.end)
        self._put(None)
        self._thread.join(_END_S)
        if self._thread.is_alive():
            self._complain(f"it has not taken everything within {_END_S:.0f} s")

    def _put(self, task: Callable[[], None] | None) -> None:
        try:
            self._waiting.put_nowait(task)
        except queue.Full:
            self._complain("it is too slow; figures are dropped")

    def _work(self) -> None:
        task: Callable[[], None] | None = self._service.begin
        while task is not None:
            try:
                task()
            # Whatever a tracker, its server or the network between comes up with.
            except Exception as error:
                self._complain(str(error).strip().partition("\n")[0] or type(error).__name__)
                if task == self._service.begin:
                    return
            task = self._waiting.get()

    def _complain(self, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"the tracker does not get everything: {reason}; the run goes on without")
