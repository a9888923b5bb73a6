"""launch/zoo.py: every command, on good and on bad input."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import signals
import torch
from runs import run_command, save_network, save_random_expert
from torch import nn

from games.env import get_protocol
from games.registry import get_game
from launch import zoo
from networks.network import MultitaskNetwork
from teachers.card import load_card
from teachers.expert import load_expert, save_expert
from teachers.shipped import shipped_experts
from views.teachers.nearest import untrained
from views.teachers.verification import draws_actions

SPEC = signals.GAMES[0]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Every command starts in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def best_network() -> nn.Module:
    """It takes a while to fit, and nobody changes it."""
    return signals.fit_best_policy(SPEC, seed=0)


@pytest.fixture
def good(tmp_path, best_network) -> Path:
    """A teacher that plays nearly perfectly, with a card that says so."""
    path = save_network(tmp_path / "good", SPEC.name, best_network)
    set_score(path, mean=9.6)
    return path


@pytest.fixture
def bad(tmp_path) -> Path:
    """One that has learned nothing, with the same card."""
    path = save_random_expert(tmp_path / "bad", SPEC.name, torso="minatar")
    set_score(path, mean=9.6)
    return path


def set_score(path: Path, *, mean: float) -> None:
    card_file = path.with_suffix(".json")
    card = json.loads(card_file.read_text())
    card["scores"] = [card["scores"][0] | {"mean": mean, "std": 0.6, "episodes": 30}]
    card_file.write_text(json.dumps(card))


def save_sb3_zip(path: Path, *, num_actions: int = 6, seed: int = 0) -> nn.Module:
    """What `DQN("CnnPolicy").save` leaves, as far as it is read; returns the network it holds."""
    torch.manual_seed(seed)
    layers = nn.ModuleDict(
        {
            "features_extractor": nn.ModuleDict(
                {
                    "cnn": nn.Sequential(
                        nn.Conv2d(4, 32, 8, 4),
                        nn.ReLU(),
                        nn.Conv2d(32, 64, 4, 2),
                        nn.ReLU(),
                        nn.Conv2d(64, 64, 3, 1),
                        nn.ReLU(),
                        nn.Flatten(),
                    ),
                    "linear": nn.Sequential(nn.Linear(3136, 512), nn.ReLU()),
                }
            ),
            "q_net": nn.Sequential(nn.Linear(512, num_actions)),
        }
    )
    buffer = io.BytesIO()
    state = layers.state_dict()
    torch.save(
        {f"{net}.{name}": t for net in ("q_net", "q_net_target") for name, t in state.items()},
        buffer,
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({"num_timesteps": 10_000_000}))
        archive.writestr("policy.pth", buffer.getvalue())
        archive.writestr("_stable_baselines3_version", "2.3.0")
    extractor = layers["features_extractor"]
    return nn.Sequential(extractor["cnn"], extractor["linear"], layers["q_net"])


# import


def test_an_sb3_zip_becomes_a_teacher_that_answers_as_its_library_does(tmp_path, capsys):
    theirs = save_sb3_zip(tmp_path / "dqn-PongNoFrameskip-v4.zip")
    zoo.main(["import", "dqn-PongNoFrameskip-v4.zip", "--game", "pong"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("teachers_imported/pong.safetensors: DQN for pong from format sb3, ")
    assert "10,000,000 steps, protocol sb3" in line
    card = load_card(tmp_path / "teachers_imported" / "pong.json")
    assert card.origin == "Stable-Baselines3 2.3.0, dqn-PongNoFrameskip-v4.zip"
    assert (card.licence, card.scores, card.weights_precision) == ("unknown", (), "full")

    rng = np.random.default_rng(0)
    observations = rng.integers(0, 256, (5, 4, 84, 84), dtype=np.uint8)
    np.save("asked.npy", observations)
    words = ["--observations", "asked.npy", "--out", "answers.npz"]
    zoo.main(["query", "teachers_imported/pong.safetensors", *words])
    answers = np.load("answers.npz")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(observations).float() / 255).numpy()
    legal = list(get_game("pong").legal_actions)
    np.testing.assert_allclose(answers["q_values"][:, legal], expected, atol=1e-5)
    assert answers["actions"].tolist() == [legal[best] for best in expected.argmax(1)]


def test_an_import_does_not_overwrite_unless_it_is_told_to(tmp_path):
    save_sb3_zip(tmp_path / "a.zip", seed=0)
    save_sb3_zip(tmp_path / "b.zip", seed=1)
    words = ["--game", "pong", "--out", "mine"]
    zoo.main(["import", "a.zip", *words])
    before = (tmp_path / "mine" / "pong.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"mine/pong.safetensors is there already; .*--overwrite"):
        zoo.main(["import", "b.zip", *words])
    assert (tmp_path / "mine" / "pong.safetensors").read_bytes() == before
    zoo.main(["import", "b.zip", *words, "--overwrite"])
    assert (tmp_path / "mine" / "pong.safetensors").read_bytes() != before
    assert load_expert(tmp_path / "mine" / "pong.safetensors", "pong")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.zip", "--game", "pong"], "nowhere.zip is missing"),
        (["a" * 300, "--game", "pong"], "a cannot be read: File name too long"),
        (["a.zip", "--game", "pnog"], "did you mean 'pong'"),
        (["a.zip", "--game", "breakout"], "its head has 6 outputs, but 'breakout' has 4 legal"),
        (["a.zip", "--game", "pong", "--format", "sb4"], "unknown format 'sb4'; choose one of own"),
        (["a.zip", "--game", "pong", "--format", "pfrl"], "a.zip is of format 'sb3', not 'pfrl'"),
        (["text.zip", "--game", "pong"], "text.zip is of no format that is read"),
        (["hf://nobody", "--game", "pong"], "'hf://nobody' is not an address on the Hub"),
    ],
)
def test_an_import_that_cannot_be_is_refused_and_leaves_nothing(tmp_path, words, message):
    save_sb3_zip(tmp_path / "a.zip")
    (tmp_path / "text.zip").write_text("not a checkpoint")
    with pytest.raises(ValueError, match=message):
        zoo.main(["import", *words])
    assert not (tmp_path / "teachers_imported").exists()


# list and show


def test_the_list_has_the_shipped_and_the_found_teachers(good, bad, tmp_path, capsys):
    (tmp_path / "good" / "student.safetensors").write_bytes(b"weights without a card")
    zoo.main(["list", "."])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["teacher", "algorithm", "network", "protocol", "score"]
    named = [line.split()[0] for line in lines[1:-1] if not line.startswith(" ")]
    paths = [f"{folder}/{SPEC.name}.safetensors" for folder in ("bad", "good")]
    assert named == [*shipped_experts(), *paths]
    assert sum("9.6 +- 0.6 (30)" in line for line in lines) == 2
    zoo.main(["list", "good", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert [row["teacher"] for row in listed] == [
        *shipped_experts(),
        f"good/{SPEC.name}.safetensors",
    ]
    assert [row["shipped"] for row in listed] == [True] * len(shipped_experts()) + [False]


# verify


def test_a_teacher_that_plays_as_its_card_says_passes(good, capsys):
    zoo.main(["verify", str(good), "--episodes", "8"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "passed: as its card says under classic"
    assert "eps 0.05" in lines[-2]
    assert "9.6 +- 0.6 (30)" in lines[-2]


def test_what_was_measured_is_written_beside_what_the_card_has(good, capsys):
    before = load_card(good.with_suffix(".json"))
    words = ["verify", str(good), "--episodes", "6", "--protocol", "modern", "--write"]
    zoo.main(words)
    after = load_card(good.with_suffix(".json"))
    assert after.scores[0] == before.scores[0]
    assert (after.scores[1].protocol, after.scores[1].episodes) == ("modern", 6)
    assert after.scores[1].mean > 9
    assert load_expert(good).card == after, "the checksum still fits"
    words[3] = "7"
    zoo.main(words)
    again = load_card(good.with_suffix(".json"))
    assert [score.episodes for score in again.scores] == [30, 7]
    assert "written to " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pong", "--episodes", "0"], "episodes must be at least 1, got 0"),
        (["pong", "--epsilon", "2"], "epsilon must lie between 0 and 1, got 2.0"),
        (["pong", "--seed", "-1"], "seed must not be negative, got -1"),
        (
            ["pong", "--protocol", "moden"],
            "unknown protocol 'moden'; choose one of classic, modern",
        ),
        (["pong", "--episods", "3"], "--episods, 3; perhaps you meant --episodes"),
        ([], "TEACHER"),
    ],
)
def test_wrong_options_are_refused_in_one_line(words, message, capsys):
    with pytest.raises(ValueError, match=r".") as refused:
        zoo.main(["verify", *words])
    (line,) = str(refused.value).splitlines()
    assert message in line
    assert capsys.readouterr() == ("", "")


def test_a_policys_actions_are_drawn_under_its_own_protocol_only(tmp_path):
    network = MultitaskNetwork(
        has_critic=True,
        torso="minatar",
        observation_shape=SPEC.observation_shape,
        num_actions=SPEC.num_actions,
    )
    card = {
        "game": SPEC.name, "algorithm": "PPO", "protocol": "sb3", "trained_steps": 1,
        "scores": [], "origin": "made by a test", "licence": "MIT",
    }  # fmt: skip
    save_expert(network, card, tmp_path / "policy.safetensors", half=False)
    policy = load_expert(tmp_path / "policy.safetensors")
    assert draws_actions(policy.card, get_protocol("sb3"))
    assert not draws_actions(policy.card, get_protocol("classic"))
    assert not draws_actions(load_expert("pong").card, get_protocol("classic"))


# As a user starts it


@pytest.mark.slow
def test_the_shipped_pong_expert_passes_and_an_empty_one_fails(tmp_path):
    finished = run_command(
        "zoo.py", "verify", "pong", "--episodes", "3", cwd=tmp_path, timeout_s=300.0
    )
    assert finished.status == 0, finished.errors
    assert finished.output.splitlines()[-1] == "passed: as its card says under classic"
    path = save_random_expert(tmp_path, "pong")
    set_score(path, mean=16.0)
    finished = run_command(
        "zoo.py", "verify", path, "--episodes", "3", cwd=tmp_path, timeout_s=300.0
    )
    assert finished.status == 1, finished.errors
    assert finished.output.splitlines()[-1] == "FAILED: near random under classic"


def test_sources_are_ordered_by_how_alike_they_see_a_game(good, bad, tmp_path, capsys):
    other = save_network(
        tmp_path / "other", signals.GAMES[1].name, signals.fit_best_policy(signals.GAMES[1], seed=1)
    )
    words = ["nearest", str(good), "--sources", str(bad), str(good), str(other)]
    zoo.main([*words, "--states", "200", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["game"] == SPEC.name
    values = {row["source"]: row["cka"] for row in found["sources"]}
    assert list(values.values()) == sorted(values.values(), reverse=True)
    assert values[str(good)] == pytest.approx(1)  # The teacher itself.
    assert values[str(bad)] < 0.99
    assert found["floor"] < 0.99
    zoo.main([*words, "--states", "200", "--num", "1"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["source", "CKA"]
    assert shown[-2].startswith("(untrained)")
    assert shown[-1] == f"nearest to {SPEC.name}: {good}"
    zoo.main(["nearest", str(good), "--sources", str(bad), "--states", "200", "--num", "1"])
    is_above = values[str(bad)] > found["floor"]
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith(str(bad) if is_above else "than a network without training")


@pytest.mark.parametrize("torso", ["nature_quarter_norm", "minatar_norm"])
def test_nothing_of_a_teacher_is_left_in_the_network_that_has_learned_nothing(tmp_path, torso):
    game = "pong" if torso == "nature_quarter_norm" else SPEC.name
    teacher = load_expert(save_random_expert(tmp_path, game, torso=torso))
    for parameter in teacher.network.parameters():
        parameter.data.fill_(7.0)
    fresh = untrained(teacher, seed=1)
    assert not any((parameter == 7.0).any() for parameter in fresh.network.parameters())
    assert all((parameter == 7.0).all() for parameter in teacher.network.parameters())


def test_a_source_of_other_observations_cannot_be_compared(good):
    with pytest.raises(ValueError, match=r"pong sees \[4, 84, 84\].*cannot be compared") as refusal:
        zoo.main(["nearest", str(good), "--sources", "pong"])
    assert "\n" not in str(refusal.value)
