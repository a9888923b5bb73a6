"""launch/zoo.py query: answers about given observations, and every refusal."""

from pathlib import Path

import numpy as np
import pytest
import torch

from games.registry import get_game
from launch import zoo
from networks.network import MultitaskNetwork
from teachers.expert import load_expert, save_expert


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Every command starts in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_a_teacher_answers_with_values_probabilities_and_features(tmp_path, capsys):
    observations = np.random.default_rng(1).integers(0, 256, (300, 4, 84, 84), dtype=np.uint8)
    np.save("asked.npy", observations)
    words = ["query", "pong", "--observations", "asked.npy", "--out", "answers.npz"]
    zoo.main([*words, "--temperature", "0.5"])
    assert capsys.readouterr().out.startswith(
        "answers.npz: pong, temperature 0.5: q_values [300, 18]"
    )
    answers = np.load("answers.npz", allow_pickle=False)
    expert, legal = load_expert("pong"), get_game("pong").legal_mask()
    labels = expert.label(torch.from_numpy(observations[:7]))
    np.testing.assert_array_equal(answers["legal"], legal)
    np.testing.assert_allclose(answers["features"][:7], labels.features_BF, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answers["values"][:7], labels.values_B, rtol=1e-4, atol=1e-5)
    for row in range(3):
        q = np.float64(answers["q_values"][row][legal])
        expected = np.exp((q - q.max()) / 0.5) / np.exp((q - q.max()) / 0.5).sum()
        np.testing.assert_allclose(answers["probabilities"][row][legal], expected, rtol=1e-4)
        assert answers["actions"][row] == np.flatnonzero(legal)[q.argmax()]
    assert (answers["probabilities"][:, ~legal] == 0).all()
    assert answers["features"].shape == (300, expert.num_features)


def save_pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def claim_terabytes(path: Path) -> None:
    """A few bytes whose header says that there are 28 TB."""
    np.save(path, np.zeros((1, 4, 84, 84), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"(1, 4, 84, 84), }         ", b"(1000000000, 4, 84, 84), }"))
    assert path.read_bytes() != data


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        (None, ["asked.npy", "out.npz"], "asked.npy does not exist"),
        (save_pickled, ["asked.npy", "out.npz"], r"asked.npy is not uint8 \[N, 4, 84, 84\] in a"),
        (
            lambda p: np.save(p, np.zeros((2, 4, 84, 84), np.float32)),
            ["asked.npy", "out.npz"],
            r"asked.npy holds float32 \[2, 4, 84, 84\], not uint8",
        ),
        (
            lambda p: np.save(p, np.zeros((2, 84, 84, 4), np.uint8)),
            ["asked.npy", "out.npz"],
            r"asked.npy holds uint8 \[2, 84, 84, 4\], not uint8 \[N, 4, 84, 84\]",
        ),
        (
            lambda p: np.save(p, np.zeros((0, 4, 84, 84), np.uint8)),
            ["asked.npy", "out.npz"],
            r"holds uint8 \[0, 4, 84, 84\]",
        ),
        (
            lambda p: np.save(p, np.uint8(3)),
            ["asked.npy", "out.npz"],
            r"holds uint8 \[\]",
        ),
        (claim_terabytes, ["asked.npy", "out.npz"], "asked.npy is not uint8"),
        (lambda p: p.write_bytes(b"no array"), ["asked.npy", "out.npz"], "asked.npy is not uint8"),
        (
            lambda p: np.save(p, np.zeros((2, 4, 84, 84), np.uint8)),
            ["asked.npy", "out.txt"],
            "out.txt must end in .npz",
        ),
        (
            lambda p: np.save(p, np.zeros((2, 4, 84, 84), np.uint8)),
            ["asked.npy", "no/folder/out.npz"],
            "cannot write no/folder/out.npz: No such file",
        ),
    ],
)
def test_what_is_no_observation_is_refused_and_nothing_is_written(tmp_path, make, words, message):
    if make:
        make(tmp_path / "asked.npy")
    with pytest.raises(ValueError, match=message):
        zoo.main(["query", "pong", "--observations", words[0], "--out", words[1]])
    assert not list(tmp_path.rglob("out.*"))


def test_a_temperature_that_is_none_is_refused(tmp_path):
    np.save("asked.npy", np.zeros((2, 4, 84, 84), np.uint8))
    words = ["query", "pong", "--observations", "asked.npy", "--out", "out.npz"]
    with pytest.raises(ValueError, match=r"temperature must be a positive number, got 0\.0"):
        zoo.main([*words, "--temperature", "0"])


def test_without_a_temperature_a_policy_is_asked_at_1_and_values_at_the_runs(tmp_path):
    np.save("asked.npy", np.random.default_rng(1).integers(0, 256, (3, 4, 84, 84), dtype=np.uint8))
    torch.manual_seed(0)
    network = MultitaskNetwork(
        has_critic=True, torso="nature_valid", observation_shape=(4, 84, 84), num_actions=18
    )
    card = {
        "game": "pong", "algorithm": "PPO", "protocol": "sb3", "trained_steps": 1,
        "scores": [], "origin": "made by a test", "licence": "MIT",
    }  # fmt: skip
    save_expert(network, card, tmp_path / "pong.safetensors", half=False)
    legal = get_game("pong").legal_mask()
    for teacher, tau in (("pong.safetensors", 1.0), ("pong", 0.05)):
        zoo.main(["query", teacher, "--observations", "asked.npy", "--out", "out.npz"])
        answers = np.load("out.npz")
        outputs = torch.from_numpy(answers["q_values"][:, legal]).double()
        expected = (outputs / tau).softmax(1)
        np.testing.assert_allclose(answers["probabilities"][:, legal], expected, rtol=1e-4)
