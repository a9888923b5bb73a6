"""A run's figures as Prometheus sees them, and the files of docker/monitoring that use them."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from records.prometheus import Exported, Exporter, exported

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "docker" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "actor_mimic.json"
OURS = re.compile(r"ray_actor_mimic_\w+")


def documented_keys():
    section = (ROOT / "docs" / "metrics.md").read_text().split("\n## metrics.jsonl\n")[1]
    return re.findall(r"^\| `([^`]+)` \|", section.split("\n## ")[0], flags=re.MULTILINE)


class Gauge:
    """Keeps what it is told, and refuses labels that it was not made with, as Ray's does."""

    made: dict = {}  # noqa: RUF012

    def __init__(self, name, description, tag_keys):
        assert name not in Gauge.made
        Gauge.made[name] = self
        self.tag_keys = tag_keys
        self.values = {}

    def set(self, value, tags):
        assert set(tags) == set(self.tag_keys)
        self.values[tuple(tags.values())] = value


class Scene:
    def __init__(self, folder):
        Gauge.made = {}
        self.now = 0.0
        self.targets = ["10.0.0.1:1000"]
        self.path = folder / "prometheus-eight.json"
        self.exporter = Exporter(
            self.path,
            run="eight",
            new_gauge=Gauge,
            find_targets=lambda: list(self.targets),
            clock=lambda: self.now,
        )

    def values(self, name):
        return Gauge.made[name].values


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("steps_per_second", Exported("actor_mimic_steps_per_second")),
        ("game/pong/actors", Exported("actor_mimic_game_actors", "game", "pong")),
        ("test/pong/kl", Exported("actor_mimic_test_kl", "game", "pong")),
        ("teacher/pong/mean", Exported("actor_mimic_teacher_mean", "game", "pong")),
        ("faults/shard_restarts", Exported("actor_mimic_restarts", "role", "shard")),
        ("faults/chunks_lost", Exported("actor_mimic_faults_chunks_lost")),
        ("cpu/actors", Exported("actor_mimic_cpu", "role", "actor")),
        ("cpu/used", Exported("actor_mimic_cpu_used")),
        ("limit/network", Exported("actor_mimic_limit", "role", "network")),
        ("replay/bytes", Exported("actor_mimic_replay_bytes")),
    ],
)
def test_only_games_and_roles_become_labels(key, expected):
    assert exported(key) == expected


def test_two_figures_never_share_a_name_and_a_label():
    keys = documented_keys()
    assert len({exported(key) for key in keys}) == len(keys)
    labels = {}
    for figure in map(exported, keys):
        assert labels.setdefault(figure.name, figure.label) == figure.label


def test_prometheus_is_told_of_nodes_that_come_and_of_the_end(scene):
    told = json.loads(scene.path.read_text())
    assert told == [{"labels": {"run": "eight"}, "targets": ["10.0.0.1:1000"]}]
    scene.targets.append("10.0.0.2:1000")
    scene.now += 60.0
    scene.exporter.take({})
    assert json.loads(scene.path.read_text())[0]["targets"] == scene.targets
    scene.exporter.close()
    assert not scene.path.exists()


@pytest.fixture
def generator():
    module = importlib.util.spec_from_file_location("made", MONITORING / "make_dashboard.py")
    made = importlib.util.module_from_spec(module)
    sys.modules["made"] = made  # Its dataclasses look for themselves there.
    try:
        module.loader.exec_module(made)
    finally:
        del sys.modules["made"]
    return made


def test_dashboard_is_the_one_that_its_generator_makes(generator):
    assert DASHBOARD.read_text() == generator.as_text()


@pytest.mark.slow
def test_every_alert_comes_when_it_should_and_not_before(tmp_path):
    assert shutil.which("promtool"), "needs Debian's package prometheus"
    cases = Path(__file__).with_name("alert_cases.yml")
    for path in (cases, MONITORING / "alerts.yml"):
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", cases.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert f"alertname: {rule['alert']}" in cases.read_text(), "no case"


@pytest.mark.parametrize("path", [DASHBOARD, MONITORING / "alerts.yml"])
def test_dashboard_and_alerts_use_only_names_and_labels_that_a_run_exports(path):
    label_of = {f"ray_{exported(key).name}": exported(key).label for key in documented_keys()}
    text = path.read_text()
    used = set(OURS.findall(text))
    assert used
    assert used <= set(label_of)
    for label, name in re.findall(r"by \(run, (\w+)\) \((ray_actor_mimic_\w+)", text):
        assert label_of[name] == label, name


def test_nothing_in_the_compose_file_listens_for_other_machines_or_has_a_password():
    text = (MONITORING / "compose.yaml").read_text()
    assert "--web.listen-address=127.0.0.1:9090" in text
    assert "GF_SERVER_HTTP_ADDR: 127.0.0.1" in text
    assert "ports:" not in text
    assert re.findall(r"PASSWORD: (.*)", text)[0].startswith("${GRAFANA_PASSWORD:?")
    images = re.findall(r"image: (\S+)", text)
    assert len(images) == 2
    assert all(re.fullmatch(r"\S+:v?\d+\.\d+\.\d+", image) for image in images)
