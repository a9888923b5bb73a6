"""Checkpoints of other libraries, in layouts written by hand: what is read, and what it becomes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import foreign_layouts as layouts
import pytest
import torch
from foreign_layouts import ATOMS, NatureLayers, random_layers
from reference_networks import (
    categorical_mean,
    impala,
    impala_state,
    nature_same,
    nature_valid,
    quantile_mean,
)
from safetensors.torch import save_file
from torch import Tensor

from games.env import PROTOCOLS
from games.registry import get_game
from networks.network import MultitaskNetwork
from networks.teacher_network import CategoricalNetwork
from teachers.card import Preprocessing
from teachers.expert import Expert, load_expert, save_expert
from teachers.formats import FORMATS, ImportedTeacher, detect_format, read_checkpoint

PONG = get_game("pong")
LEGAL = list(PONG.legal_actions)
NUM_LEGAL = len(LEGAL)


def observations(batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (batch, 4, 84, 84), dtype=torch.uint8, generator=generator)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A way of writing random layers, and what the library itself would compute from them."""

    format: str
    algorithm: str
    write: Callable[[Path, NatureLayers], None]
    per_action: int = 1
    same: bool = False
    mean: Callable[[Tensor], Tensor] | None = None
    steps: int | None = None
    name: str = "checkpoint"

    def layers(self, num_actions: int = NUM_LEGAL) -> NatureLayers:
        return random_layers(num_actions * self.per_action, same=self.same)

    def reference(self, layers: NatureLayers, frames: Tensor) -> tuple[Tensor, Tensor]:
        features, outputs = (nature_same if self.same else nature_valid)(layers, frames)
        return features, outputs if self.mean is None else self.mean(outputs)

    def read(self, path: Path, game: str = "pong") -> ImportedTeacher:
        return read_checkpoint(path, game=game, unsafe_pickle=self.format == "dopamine")


def save_named(path: Path, layers: NatureLayers) -> None:
    torch.save(layers.named("c1", "c2", "c3", "fc", "out"), path)


def save_safetensors(path: Path, layers: NatureLayers) -> None:
    save_file(layers.named("c1", "c2", "c3", "fc", "out"), path)


def c51_mean(outputs: Tensor) -> Tensor:
    return categorical_mean(outputs, ATOMS)


def quantile_mean_by_action(outputs: Tensor) -> Tensor:
    return outputs.reshape(len(outputs), -1, 200).mean(2)


STEPS = 10_000_000
CASES = {
    "sb3 dqn": Case(
        format="sb3",
        algorithm="DQN",
        steps=STEPS,
        write=lambda path, layers: layouts.write_sb3_of_2021(path, layers, kind="dqn"),
    ),
    "sb3 qrdqn": Case(
        format="sb3",
        algorithm="QR-DQN",
        steps=STEPS,
        write=lambda path, layers: layouts.write_sb3_of_2021(path, layers, kind="qrdqn"),
        per_action=200,
        mean=quantile_mean,
    ),
    "sb3 ppo": Case(
        format="sb3",
        algorithm="PPO",
        steps=STEPS,
        write=lambda path, layers: layouts.write_sb3_of_2021(path, layers, kind="ppo"),
    ),
    "cleanrl dqn": Case(format="cleanrl", algorithm="DQN", write=layouts.write_cleanrl_dqn),
    "cleanrl c51": Case(
        format="cleanrl",
        algorithm="C51",
        steps=STEPS,
        write=layouts.write_cleanrl_c51,
        per_action=51,
        mean=c51_mean,
    ),
    "cleanrl jax dqn": Case(
        format="cleanrl_jax", algorithm="DQN", write=layouts.write_cleanrl_jax_dqn
    ),
    "cleanrl jax c51": Case(
        format="cleanrl_jax",
        algorithm="C51",
        steps=STEPS,
        write=layouts.write_cleanrl_jax_c51,
        per_action=51,
        mean=c51_mean,
    ),
    "cleanrl jax ppo": Case(
        format="cleanrl_jax", algorithm="PPO", steps=STEPS, write=layouts.write_cleanrl_jax_ppo
    ),
    "atari-agents dqn": Case(
        format="atari_agents",
        algorithm="DQN",
        steps=50_000_000,
        name="model_50000000.gz",
        write=layouts.write_atari_agents,
    ),
    "atari-agents c51": Case(
        format="atari_agents",
        algorithm="C51",
        write=lambda path, layers: layouts.write_atari_agents(path, layers, ATOMS),
        per_action=51,
        mean=c51_mean,
    ),
    "pfrl of 2020": Case(format="pfrl", algorithm="DQN", write=layouts.write_pfrl),
    "pfrl": Case(
        format="pfrl",
        algorithm="DQN",
        write=lambda path, layers: layouts.write_pfrl(path, layers, is_legacy=False),
    ),
    "pfrl model.pt": Case(
        format="pfrl",
        algorithm="DQN",
        write=lambda path, layers: torch.save(layouts.pfrl_state(layers), path),
    ),
    "dopamine dqn": Case(
        format="dopamine",
        algorithm="DQN",
        steps=50_000_000,
        same=True,
        write=layouts.write_dopamine,
    ),
    "dopamine dqn, protocol 2": Case(
        format="dopamine",
        algorithm="DQN",
        steps=50_000_000,
        same=True,
        write=lambda path, layers: layouts.write_dopamine(path, layers, protocol=2),
    ),
    "dopamine dqn, protocol 5": Case(
        format="dopamine",
        algorithm="DQN",
        steps=50_000_000,
        same=True,
        write=lambda path, layers: layouts.write_dopamine(path, layers, protocol=5),
    ),
    "dopamine c51": Case(
        format="dopamine",
        algorithm="C51 or Rainbow",
        steps=50_000_000,
        same=True,
        per_action=51,
        mean=c51_mean,
        write=layouts.write_dopamine,
    ),
    "dopamine quantile": Case(
        format="dopamine",
        algorithm="quantile regression",
        steps=50_000_000,
        same=True,
        per_action=200,
        mean=quantile_mean_by_action,
        write=layouts.write_dopamine,
    ),
    "state_dict": Case(
        format="state_dict", algorithm="unknown (a Q-network by its shapes)", write=save_named
    ),
    "safetensors": Case(
        format="state_dict", algorithm="unknown (a Q-network by its shapes)", write=save_safetensors
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A case's file, what was written into it and what was read from it."""

    path: Path
    layers: NatureLayers
    imported: ImportedTeacher


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Made]:
    """Every case is written and read once; nobody changes these files."""

    @cache
    def make(case: Case) -> Made:
        layers = case.layers()
        path = written(case, tmp_path_factory.mktemp("made"), layers)
        return Made(path=path, layers=layers, imported=case.read(path))

    return make


def written(case: Case, folder: Path, layers: NatureLayers) -> Path:
    path = folder / case.name
    case.write(path, layers)
    return path


def as_expert(imported: ImportedTeacher, folder: Path) -> Expert:
    path = folder / "imported" / f"{imported.card_fields['game']}.safetensors"
    save_expert(imported.network, imported.card_fields, path, half=False)
    return load_expert(path)


# Outputs


@each_case
def test_outputs_and_features_are_those_of_the_library(
    case: Case, made: Callable[[Case], Made]
) -> None:
    features, outputs = case.reference(made(case).layers, observations())
    network = made(case).imported.network
    scores, ours = network.forward_with_features(observations())
    torch.testing.assert_close(scores[:, LEGAL], outputs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours, features, rtol=1e-5, atol=1e-5)
    assert outputs.std() > 0.02, "the reference must tell states and actions apart"


@each_case
def test_an_import_survives_saving_bit_by_bit_and_its_card_says_what_the_file_says(
    case: Case, made: Callable[[Case], Made], tmp_path: Path
) -> None:
    imported = made(case).imported
    expert = as_expert(imported, tmp_path)
    assert torch.equal(expert(observations()), imported.network(observations()))
    card = expert.card
    assert card.weights_precision == "full"
    assert card.source_format == case.format == imported.format
    assert (card.algorithm, card.trained_steps) == (case.algorithm, case.steps)
    assert (card.scores, card.licence) == ((), "unknown")
    assert (card.preprocessing is None) == (case.format == "state_dict")
    assert card.protocol in PROTOCOLS


@each_case
def test_a_head_for_another_game_is_refused_with_both_counts(
    case: Case, made: Callable[[Case], Made]
) -> None:
    with pytest.raises(ValueError, match=r"'breakout' has 4 legal actions and 18 joint actions"):
        case.read(made(case).path, game="breakout")


@each_case
def test_the_format_is_told_by_the_content(case: Case, made: Callable[[Case], Made]) -> None:
    assert detect_format(made(case).path) == case.format
    assert case.format in FORMATS


@pytest.mark.parametrize("name", ["sb3 qrdqn", "cleanrl c51", "cleanrl jax ppo", "dopamine dqn"])
def test_a_head_over_all_joint_actions_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    layers = case.layers(num_actions=18)
    scores = case.read(written(case, tmp_path, layers)).network(observations())
    expected = case.reference(layers, observations())[1]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


# Labels


def policy_expert(folder: Path) -> tuple[NatureLayers, Expert]:
    case = CASES["sb3 ppo"]
    layers = case.layers()
    return layers, as_expert(case.read(written(case, folder, layers)), folder)


def test_a_policy_teachers_labels_are_its_log_probabilities_minus_their_maximum(
    tmp_path: Path,
) -> None:
    layers, expert = policy_expert(tmp_path)
    assert expert.network.critic is not None
    log_probabilities = nature_valid(layers, observations())[1].log_softmax(1)
    expected = log_probabilities - log_probabilities.amax(1, keepdim=True)
    labels = expert.label(observations())
    torch.testing.assert_close(labels.logits_BA[:, LEGAL], expected, rtol=1e-5, atol=1e-5)
    illegal = [action for action in range(18) if action not in LEGAL]
    assert (labels.logits_BA[:, illegal] == 0).all()


def test_a_policy_teachers_values_are_its_critics(tmp_path: Path) -> None:
    layers, expert = policy_expert(tmp_path)
    assert layers.critic is not None
    features = nature_valid(layers, observations())[0]
    expected = torch.nn.functional.linear(features, *layers.critic).squeeze(1)
    values = expert.label(observations()).values_B
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
    assert values.shape == (3,)


def test_a_distributional_teachers_labels_are_its_means_minus_the_legal_maximum(
    tmp_path: Path,
) -> None:
    case = CASES["cleanrl c51"]
    # Means far below 0, so that the 0 of an illegal action would be the largest of all.
    layers = case.layers()
    layers.head[1].view(NUM_LEGAL, 51)[:, 0] += 100.0
    expert = as_expert(case.read(written(case, tmp_path, layers)), tmp_path)
    assert isinstance(expert.network, CategoricalNetwork)
    q = case.reference(layers, observations())[1]
    labels = expert.label(observations())
    assert (q < -1).all()
    torch.testing.assert_close(labels.values_B, q.amax(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        labels.logits_BA[:, LEGAL], q - q.amax(1, keepdim=True), rtol=1e-5, atol=1e-5
    )


# IMPALA


def test_a_qdagger_student_is_read_with_its_residual_network(tmp_path: Path) -> None:
    state = impala_state(NUM_LEGAL)
    torch.save(state, tmp_path / "qdagger.cleanrl_model")
    imported = read_checkpoint(tmp_path / "qdagger.cleanrl_model", game="pong")
    features, outputs = impala(state, observations())
    scores, ours = imported.network.forward_with_features(observations())
    torch.testing.assert_close(scores[:, LEGAL], outputs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours, features, rtol=1e-5, atol=1e-5)
    expert = as_expert(imported, tmp_path)
    assert (expert.card.architecture.torso, expert.num_features) == ("impala", 256)
    assert expert.card.algorithm == "QDagger DQN"


# Own format


def test_an_expert_of_this_project_is_read_with_its_card(tmp_path: Path) -> None:
    shipped = load_expert("pong")
    path = tmp_path / "pong.safetensors"
    save_expert(shipped.network, {**_fields("pong"), "trained_steps": 123}, path)
    assert detect_format(path) == "own"
    imported = read_checkpoint(path, game="pong")
    assert isinstance(imported.network, MultitaskNetwork)
    assert imported.card_fields["trained_steps"] == 123
    assert torch.equal(imported.network(observations()), shipped(observations()))
    again = tmp_path / "again" / "pong.safetensors"
    assert save_expert(imported.network, imported.card_fields, again).trained_steps == 123


def _fields(game: str) -> dict[str, object]:
    return {
        "game": game,
        "algorithm": "dqn",
        "protocol": "classic",
        "trained_steps": None,
        "scores": [],
        "origin": "a test",
        "licence": "MIT",
        "preprocessing": Preprocessing(frames="none", max_noops=3),
    }
