"""Real runs on Ray: what they say limits them, what Prometheus sees of them, and every key."""

import json
import re
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest
import yaml
from runs import ROOT, command, read_metrics

from records.prometheus import targets_path

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MONITORING = ROOT / "docker" / "monitoring"
# The game whose episodes are short even when nothing is learned.
SMALL = ["--preset", "smoke", "--games", "breakout", "--num-steps", "10000000"]
QUICK = ["--report-period-s", "0.5", "--evaluation.check-teachers", "1"]
TESTS = ["--evaluation.period-steps", "300", "--evaluation.num-episodes", "1"]
SLOW_LEARNER = [
    *("--replay.batch-size", "128", "--replay.error-buffer", "4096"),
    *("--replay.samples-per-insert", "32", "--replay.samples-per-insert-cap", "64"),
]
ONLY_SOMETIMES = {
    *("gpu/memory_bytes", "gpu/busy", "inference_batch", "cpu/inference"),
    "faults/inference_restarts",
    # A look at the network comes every 500 updates, and a run of one game has nothing to compare.
    *("effective_rank", "dead_units", "weight_norm", "gradient_cosine", "gradient_cosine_floor"),
    *("gradient_cosine_adam", "gradient_cosine_floor_adam"),
    *("game/GAME/gradient_cosine", "game/GAME/gradient_cosine_adam"),
    # The first snapshot is taken after half a minute.
    "replay/snapshot_age_s",
}
"""Documented keys that need a GPU, an inference server, or more time."""


@contextmanager
def started_run(folder, *options):
    """A run of one game, and its folder."""
    run = folder / "run"
    with command(
        "multitask.py",
        *(*SMALL, *QUICK, *options, "--run-dir", run),
        cwd=folder,
        environment={"RAY_metrics_report_interval_ms": "1000"},
    ) as running:
        yield running, run


def limits(run):
    """Those of the looks that have a verdict."""
    return [
        key.removeprefix("limit/")
        for row in read_metrics(run)
        for key, value in row.items()
        if key.startswith("limit/") and value
    ]


def newest_limits_are(run, limit, num=4):
    found = limits(run)
    return len(found) >= num and set(found[-num:]) == {limit}


class Prometheus:
    """Debian's, with the project's configuration, on a port of its own."""

    def __init__(self, folder, runs):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        shutil.copy(MONITORING / "alerts.yml", folder)
        text = (MONITORING / "prometheus.yml").read_text().replace("/runs/", f"{runs}/")
        # Ten seconds between two questions would be most of this test.
        self.config = folder / "prometheus.yml"
        self.config.write_text(re.sub(r"(_interval): 10s", r"\1: 2s", text))
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self.config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, path, **query):
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=5.0) as answer:
            return json.load(answer)["data"]

    def values(self, expression):
        return self.ask("query", query=expression)["result"]

    def is_up(self):
        try:
            return self.values("up == 1")
        except OSError:
            return False

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10.0)


@contextmanager
def prometheus(folder, runs):
    assert shutil.which("prometheus"), "needs Debian's package prometheus"
    server = Prometheus(folder, runs)
    try:
        yield server
    finally:
        server.close()


def panel_queries():
    dashboard = json.loads((MONITORING / "grafana/dashboards/actor_mimic.json").read_text())
    return [
        target["expr"].replace("$run", ".*")
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if "_gpu_" not in target["expr"]
    ]


def alert_rules():
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def selectors(expression):
    return re.findall(r"ray_\w+(?:\{[^}]*\})?", expression)


def documented_keys(*, of_other_objectives=True):
    section = (ROOT / "docs" / "metrics.md").read_text().split("\n## metrics.jsonl\n")[1]
    rows = re.findall(
        r"^\| `([^`]+)`[^|]* \| [^|]* \| ([^|]*) \|", section.split("\n## ")[0], flags=re.MULTILINE
    )
    return {
        key
        for key, owner in rows
        if of_other_objectives or "objective" not in owner or "Actor-Mimic" in owner
    }


def check_keys(run):
    """What a real run writes, against what is documented."""
    written = {key.replace("/breakout/", "/GAME/") for row in read_metrics(run) for key in row}
    assert written <= documented_keys()
    assert documented_keys(of_other_objectives=False) - ONLY_SOMETIMES <= written


def check_tools(server):
    """Debian's own checks of the files that are shipped."""
    for kind, path in (("config", server.config), ("rules", MONITORING / "alerts.yml")):
        done = subprocess.run(
            ["promtool", "check", kind, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_sees_all_of_a_run_that_its_learner_limits(tmp_path):
    (tmp_path / "prometheus").mkdir()
    options = [*SLOW_LEARNER, *TESTS, "--metrics.prometheus", "True"]
    options += ["--mimic.feature-weight", "0.01"]
    with (
        started_run(tmp_path, *options) as (running, run),
        prometheus(tmp_path / "prometheus", tmp_path) as server,
    ):
        check_tools(server)

        pending = set(panel_queries())

        def all_have_had_data():
            pending.difference_update([query for query in pending if server.values(query)])
            return not pending

        running.wait_for(server.is_up, timeout_s=240.0, what="the run is found by its file")
        running.wait_for(
            lambda: newest_limits_are(run, "learner"), timeout_s=240.0, what="the verdict: learner"
        )
        try:
            running.wait_for(all_have_had_data, timeout_s=240.0, what="data for every panel")
        except AssertionError:
            pytest.fail(f"no data for {pending}")
        for name, expression in alert_rules().items():
            assert server.values(f"vector(1) unless on() ({expression})"), f"{name} fires"
            assert all(server.values(selector) for selector in selectors(expression)), name
        rules = server.ask("rules")["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(
            alert_rules(), "ok"
        )
        assert server.values('ray_actor_mimic_limit{role="learner"} == 1')
        check_keys(run)
        running.interrupt()
        running.wait(60.0)
        assert not targets_path(run).exists()
