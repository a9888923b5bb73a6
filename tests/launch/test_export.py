"""Exported students: the same policy, with the mask inside, usable as the documents say."""

import ast
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_runs import make_run
from runs import clean_environment, save_network

from actor_mimic import Student, load_teacher
from games.registry import get_game
from launch.export import main
from networks.network import MultitaskNetwork
from networks.programs import (
    FILE_NAMES,
    TOLERANCE,
    MaskedPolicy,
    collect_states,
    largest_difference,
    write_program,
)
from networks.student_file import load_student
from networks.teacher_network import CategoricalNetwork

GAMES = ["pong", "breakout"]
DOCS = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs") / "run", games=GAMES, num_tests=1, num_looks=1, seed=6
    )


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """All formats of the run's student."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("out") / "exported"
    words = ["--format", "safetensors", "torch-export", "onnx", "--licence", "CC0-1.0"]
    main([str(run.path), *words, "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def states():
    """Of both games, other ones than the export has looked at."""
    return collect_states(GAMES, protocol="modern", per_game=5, seed=99)


def build_policy(**options):
    torch.manual_seed(3)
    student = MultitaskNetwork(
        torso="nature_quarter", observation_shape=(4, 84, 84), num_actions=18, games=GAMES,
        **options,
    )  # fmt: skip
    return MaskedPolicy(student.eval())


@pytest.mark.parametrize("heads", ["joint", "per_game", "per_game_dense"])
def test_the_policy_is_the_students_with_illegal_actions_left_out(states, heads):
    policy = build_policy(heads=heads)
    with torch.no_grad():
        masked, plain = policy(*states), policy.student(*states)
    for row, game in enumerate([0] * 5 + [1] * 5):
        legal = get_game(GAMES[game]).legal_mask()
        assert torch.equal(masked[row][legal], plain[row][legal])
        assert torch.isneginf(masked[row][~legal]).all()


@pytest.mark.parametrize("kind", FILE_NAMES)
@pytest.mark.parametrize("heads", ["joint", "per_game", "per_game_dense"])
def test_a_program_is_the_student_for_batches_of_any_size(tmp_path, states, kind, heads):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    policy = build_policy(heads=heads)
    path = tmp_path / FILE_NAMES[kind]
    write_program(policy, kind, path, (states[0][:2].clone(), states[1][:2].clone()))
    for size in (1, 3, 10):
        batch = (states[0][-size:], states[1][-size:])
        assert largest_difference(policy, kind, path, batch) <= TOLERANCE


def test_a_program_that_differs_is_refused(tmp_path, states):
    policy = build_policy()
    path = tmp_path / "student.pt2"
    write_program(policy, "torch-export", path, (states[0][:2].clone(), states[1][:2].clone()))
    with torch.no_grad():
        policy.student.head.bias += 0.001
    with pytest.raises(ValueError, match=r"differs from the student by 1\.0e-03"):
        largest_difference(policy, "torch-export", path, states)


def test_a_program_with_another_mask_is_refused(tmp_path, states):
    policy = build_policy()
    path = tmp_path / "student.pt2"
    write_program(policy, "torch-export", path, (states[0][:2].clone(), states[1][:2].clone()))
    policy.legal_GA[0, 2] = True
    with pytest.raises(ValueError, match="allows other actions"):
        largest_difference(policy, "torch-export", path, states)


def test_all_formats_play_the_same(exported, states):
    onnxruntime = pytest.importorskip("onnxruntime")
    student = load_student(exported).eval()
    with torch.no_grad():
        expected = MaskedPolicy(student)(*states).numpy()
    session = onnxruntime.InferenceSession(
        str(exported / "student.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, [part.numpy() for part in states], strict=True)))
    assert names == ["observations", "game_index"]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def snippets():
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_the_documents_three_lines_load_a_student_without_ray(exported, number):
    code = snippets()[number]
    assert len(ast.parse(code).body) == 3
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('ray' in sys.modules)"],
        cwd=exported.parent,
        env=clean_environment(exported.parent),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "False"


# The card


def test_the_card_tells_a_stranger_what_to_do(exported):
    card = json.loads((exported / "card.json").read_text())
    assert card["games"] == GAMES
    assert card["input"]["observations"]["shape"] == ["batch", 4, 84, 84]
    assert "divides by 255 itself" in card["input"]["observations"]["meaning"]
    assert card["legal_actions"]["breakout"] == [0, 1, 3, 4]
    assert card["actions"][11] == "right fire"
    assert card["protocol"]["name"] == "classic"
    assert card["protocol"]["noop_max"] == 30
    assert card["licence"] == "CC0-1.0"
    assert card["teachers"]["pong"]["licence"] == "MIT"
    assert card["scores"]["pong"]["student"]["episodes"] == 4
    assert card["scores"]["pong"]["teacher"]["mean"] == 16.32
    assert card["measured_with"]["epsilon"] == 0.05
    assert card["training"]["seed"] == 6
    for name, about in card["verified"].items():
        assert about["states"] == 64
        assert about["largest_difference"] <= TOLERANCE, name
    for name, digest in card["files"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert set(card["files"]) | {"card.json", "card.md"} == {p.name for p in exported.iterdir()}


# What a user gets wrong


def test_an_export_that_fails_leaves_nothing_behind(run, tmp_path, monkeypatch):
    import networks.programs

    monkeypatch.setattr(networks.programs, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="differs from the student"):
        main([str(run.path), "--format", "torch-export", "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


def test_an_expert_is_exported_by_itself_and_plays_as_before(tmp_path):
    main(["pong", "--format", "safetensors", "torch-export", "--out", str(tmp_path / "out")])
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["kind"], card["licence"]) == ("Expert of one game", "MIT")
    assert card["expert"]["scores"][0]["mean"] > 10
    assert "| classic | 0.05 |" in (tmp_path / "out" / "card.md").read_text()
    observations, _ = collect_states(["pong"], protocol="classic", per_game=20, seed=5)
    exported, expert = Student.load(tmp_path / "out"), load_teacher("pong")
    actions = [agent.predict(observations.numpy())[0] for agent in (exported, expert)]
    np.testing.assert_array_equal(*actions)


def test_an_expert_with_a_distribution_is_not_exported_as_a_student(tmp_path):
    torch.manual_seed(0)
    network = CategoricalNetwork(
        torso="nature_quarter", observation_shape=(4, 84, 84), num_actions=18, num_atoms=5
    )
    network.atoms_Z.copy_(torch.arange(5.0))
    path = save_network(tmp_path, "pong", network)
    with pytest.raises(ValueError, match="distribution over fixed returns"):
        main([str(path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
