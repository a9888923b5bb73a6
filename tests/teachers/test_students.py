"""A student teaches the policy that it plays."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from actor_mimic import Student
from games.registry import get_game
from networks.build import build_network
from networks.config import NetworkConfig
from networks.network import MultitaskNetwork
from networks.snapshots import take_snapshot
from networks.student_file import load_temperatures, save_student
from networks.weights import WeightsVersion
from teachers.references import load_teacher
from teachers.targets import teacher_policy

GAMES = ("pong", "breakout")


def saved(folder: Path, *, heads: str = "joint", temperatures=None, dueling=False) -> Path:
    torch.manual_seed(3)
    config = NetworkConfig(torso="nature_quarter", heads=heads, dueling=dueling)
    student: MultitaskNetwork = build_network(config, [get_game(game) for game in GAMES])
    snapshot = take_snapshot(student, version=WeightsVersion(0, 1), half=False)
    save_student(folder, snapshot, network=config, games=GAMES, temperatures=temperatures or {})
    return folder


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (16, 4, 84, 84), np.uint8)


@pytest.mark.parametrize(
    ("heads", "dueling"), [("joint", False), ("joint", True), ("per_game", False)]
)
@pytest.mark.parametrize("game", GAMES)
def test_its_targets_are_the_policy_that_the_student_plays(tmp_path, states, heads, dueling, game):
    temperatures = {"pong": 0.05, "breakout": 0.2}
    folder = saved(tmp_path / "a", heads=heads, dueling=dueling, temperatures=temperatures)
    teacher = load_teacher(folder, game)
    labels = teacher.label(torch.from_numpy(states))
    targets = teacher_policy(labels.logits_BA, teacher.legal_A, 1.0).numpy()
    np.testing.assert_allclose(targets, Student.load(folder).policy(states, game), atol=1e-5)
    assert targets.max() > 1.2 * targets[targets > 0].min(), (
        "a policy without opinion tests nothing"
    )
    assert teacher.card.architecture.head == "policy"


def test_one_head_for_all_games_teaches_a_game_that_is_new_to_it(tmp_path, states):
    folder = saved(tmp_path / "a", temperatures=dict.fromkeys(GAMES, 0.1))
    new, known = (
        load_teacher(folder, game).q_values(torch.from_numpy(states)) for game in ("boxing", "pong")
    )
    assert torch.equal(new, known)


@pytest.mark.parametrize(
    ("options", "game", "message"),
    [
        (
            {"heads": "per_game"},
            "boxing",
            "each of pong, breakout, and none for 'boxing'",
        ),
        ({}, "minatar_breakout", "observations .* 18 actions; 'minatar_breakout' has"),
        ({"temperatures": {"pong": 0.5}}, "boxing", "another temperature for each game"),
    ],
)
def test_a_game_that_it_cannot_play_is_refused(tmp_path, options, game, message):
    if game.startswith("minatar"):
        pytest.importorskip("minatar")
    with pytest.raises(ValueError, match=message):
        load_teacher(saved(tmp_path / "a", **options), game)


def test_a_folder_that_teaches_nothing_is_said_to_be_one(tmp_path):
    with pytest.raises(ValueError, match="holds no student, which a run saves"):
        load_teacher(tmp_path, "pong")
    folder = saved(tmp_path / "a")
    with pytest.raises(ValueError, match=f"--teachers GAME={folder}"):
        load_teacher(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="holds no student"):
        load_teacher(folder, "pong")


def test_games_that_are_no_names_are_refused(tmp_path):
    folder = saved(tmp_path / "a")
    path = folder / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"games": [["pong"], "breakout"]}))
    with pytest.raises(ValueError, match="the name of a game is a string"):
        Student.load(folder)


@pytest.mark.parametrize("value", ['"warm"', "0", "-1", "Infinity", "[]"])
def test_damaged_temperatures_are_refused(tmp_path, value):
    folder = saved(tmp_path / "a")
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"pong": 1.0', f'"pong": {value}'))
    with pytest.raises(ValueError, match=r"config\.json"):
        load_temperatures(folder)


def test_students_of_earlier_versions_have_no_temperatures(tmp_path):
    folder = saved(tmp_path / "a")
    path = folder / "config.json"
    path.write_text(path.read_text().partition(',\n  "temperatures"')[0] + "\n}\n")
    assert load_temperatures(folder) == {"pong": 1.0, "breakout": 1.0}
