"""Experiment trackers get a run's settings, figures and results, and never stop a run."""

import json
import sys
import threading
from pathlib import Path

import pytest

from actor_mimic import configure, resume, train
from records.trackers import Tracker, check_tracker

TINY = {"engine": "local", "num_steps": 300, "evaluation.check_teachers": 0}


def settings(tmp_path: Path, tracker: str) -> dict[str, object]:
    own = {"metrics.tracker": tracker, "metrics.project": "ours"}
    return {**TINY, **own, "run_dir": str(tmp_path / "run")}


def rows(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """MLflow with a store of files, which its small package can do."""
    module = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    return module


def test_mlflow_has_the_whole_run_also_after_a_resume(mlflow, tmp_path):
    run = train(configure("smoke", settings(tmp_path, "mlflow")), quiet=True)
    resume(run.folder, {"num_steps": 500}, quiet=True)
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params["games"] == "['pong', 'boxing']"
    assert found.data.params["replay.batch_size"] == "32"
    assert not any("redis" in name for name in found.data.params)
    history = client.get_metric_history(found.info.run_id, "game/pong/steps")
    recorded = [row["game/pong/steps"] for row in rows(run.folder) if "game/pong/steps" in row]
    assert sorted(point.value for point in history) == sorted(recorded)
    assert {f.path for f in client.list_artifacts(found.info.run_id)} >= {
        "summary.json",
        "config.yaml",
    }


def test_trackio_has_the_whole_run(tmp_path, monkeypatch):
    # Read when the module is imported, which other tests may have done.
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    project = tmp_path.name
    own = {"metrics.tracker": "trackio", "metrics.project": project}
    config = configure("smoke", {**TINY, **own, "run_dir": str(tmp_path / "run")})
    run = train(config, quiet=True)
    try:
        (found,) = trackio.Api().runs(project)
        assert found.config["replay.batch_size"] == 32
        logs = trackio.SQLiteStorage.get_logs(project, found.name)
        recorded = [row["steps"] for row in rows(run.folder)]
        assert [point["steps"] for point in logs] == recorded
    finally:
        trackio.delete_project(project, force=True)


class Broken:
    """Fails at everything but one thing."""

    def __init__(self, works: str = "") -> None:
        self.works = works

    def begin(self) -> None:
        if self.works != "begin":
            raise ConnectionError("no answer from tracker.example\nand more")

    def log(self, row, step) -> None:
        raise OSError("quota")

    def keep(self, path) -> None:
        raise OSError("quota")

    def end(self) -> None:
        raise OSError("quota")


@pytest.mark.parametrize(("works", "reason"), [("", "no answer from"), ("begin", "quota")])
def test_a_tracker_that_fails_is_said_once_and_forgotten(tmp_path, works, reason):
    said: list[str] = []
    tracker = Tracker(Broken(works), warn=said.append)
    for steps in range(50):
        tracker.take({"steps": steps, "loss": 1.0})
    (tmp_path / "summary.json").write_text("{}")
    tracker.finish([tmp_path / "summary.json"])
    assert len(said) == 1
    assert reason in said[0]
    assert "\n" not in said[0]


def test_a_tracker_that_hangs_does_not_hold_the_run(monkeypatch):
    monkeypatch.setattr("records.trackers._END_S", 0.1)
    released = threading.Event()

    class Hanging(Broken):
        def begin(self) -> None:
            released.wait()

    said: list[str] = []
    tracker = Tracker(Hanging(), warn=said.append)
    tracker.take({"steps": 1.0})
    tracker.finish([])
    released.set()
    assert "has not taken everything within" in said[0]


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"metrics.tracker wandb needs .*: pip install wandb"):
        train(configure("smoke", settings(tmp_path, "wandb")), quiet=True)
    assert not (tmp_path / "run").exists()
    check_tracker("none")


def test_a_folder_of_a_trackers_name_is_not_its_package(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "wandb").mkdir()
    with pytest.raises(ValueError, match="pip install wandb"):
        check_tracker("wandb")
