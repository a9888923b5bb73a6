"""Experts: their labels, saving and loading."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_experts import SCORE, build_network, card_fields, observations, saved

import teachers.shipped
from games.registry import get_game
from networks.network import MultitaskNetwork
from teachers.card import load_card
from teachers.expert import architecture_of, load_expert, save_expert
from teachers.shipped import shipped_experts


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return saved(tmp_path)


# Labels


def test_labels_are_q_minus_the_legal_maximum_with_illegal_entries_zero(weights: Path) -> None:
    expert = load_expert(weights)
    legal = get_game("pong").legal_mask()
    q = expert.q_values(observations()).numpy()
    labels = expert.label(observations())
    for row in range(len(q)):
        best = max(q[row][action] for action in range(18) if legal[action])
        expected = [q[row][a] - best if legal[a] else 0.0 for a in range(18)]
        np.testing.assert_array_equal(labels.logits_BA[row].numpy(), np.float32(expected))
        assert labels.values_B[row].item() == best
    assert labels.logits_BA[:, legal].max(1).values.tolist() == [0.0] * len(q)
    assert (labels.logits_BA[:, ~legal] == 0).all()
    assert (labels.logits_BA <= 0).all()


def test_an_illegal_action_with_the_largest_q_does_not_shift_the_labels(tmp_path: Path) -> None:
    network = build_network()
    with torch.no_grad():
        network.head.bias[1] = 0.0
    before = load_expert(_save(network, tmp_path / "a.safetensors")).label(observations())
    assert not get_game("pong").legal_mask()[2]
    with torch.no_grad():
        network.head.bias[2] = 1000.0
    after = load_expert(_save(network, tmp_path / "b.safetensors")).label(observations())
    assert torch.equal(after.logits_BA, before.logits_BA)
    assert torch.equal(after.values_B, before.values_B)


def _save(network: MultitaskNetwork, path: Path) -> Path:
    save_expert(network, card_fields(), path)
    return path


def test_features_are_those_of_the_last_hidden_layer(weights: Path) -> None:
    expert = load_expert(weights)
    labels = expert.label(observations())
    assert torch.equal(labels.features_BF, expert.network.torso(observations()))
    assert labels.features_BF.shape == (6, expert.num_features)


def test_an_expert_is_frozen(weights: Path) -> None:
    expert = load_expert(weights)
    assert not any(parameter.requires_grad for parameter in expert.parameters())
    assert not expert.network.training
    labels = expert.label(observations())
    assert not labels.logits_BA.requires_grad
    assert not labels.logits_BA.is_inference()


# Saving and loading


@pytest.mark.parametrize("dueling", [False, True])
def test_roundtrip_gives_the_network_rounded_to_half(tmp_path: Path, dueling: bool) -> None:
    expert = load_expert(saved(tmp_path, dueling=dueling), "pong")
    rounded = build_network(dueling=dueling).half().float()
    assert expert.network.dueling == dueling
    for name, tensor in rounded.state_dict().items():
        assert torch.equal(expert.network.state_dict()[name], tensor), name
    assert torch.equal(expert(observations()), rounded(observations()))


@pytest.mark.parametrize("dueling", [False, True])
def test_a_network_with_quantiles_is_saved_as_its_means(tmp_path: Path, dueling: bool) -> None:
    torch.manual_seed(0)
    network = MultitaskNetwork(
        torso="nature_quarter",
        observation_shape=(4, 84, 84),
        num_actions=18,
        dueling=dueling,
        num_quantiles=8,
    )
    path = tmp_path / "pong.safetensors"
    card = save_expert(network, card_fields(), path)
    assert card.architecture == architecture_of(build_network(dueling=dueling))
    expert = load_expert(path)
    assert isinstance(expert.network, MultitaskNetwork)
    assert expert.network.num_quantiles == 0
    expected = network.without_quantiles().half().float()(observations())
    assert torch.equal(expert(observations()), expected)


def test_card_says_what_was_saved(weights: Path) -> None:
    card = load_card(weights.with_suffix(".json"))
    assert card.architecture == architecture_of(build_network())
    assert card.scores == (SCORE,)
    assert card.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert sorted(path.name for path in weights.parent.iterdir()) == [
        "pong.json",
        "pong.safetensors",
    ]
    # Two bytes a weight, plus a short header.
    num_weights = sum(parameter.numel() for parameter in build_network().parameters())
    assert 0 < weights.stat().st_size - 2 * num_weights < 2000


def test_shipped_experts_are_found_by_the_name_of_their_game(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers.shipped, "shipped_folder", lambda: weights.parent)
    assert shipped_experts() == ("pong",)
    assert load_expert("pong").card.game == "pong"
    with pytest.raises(ValueError, match=r"no expert for 'breakout' is shipped \(shipped: pong\)"):
        load_expert("breakout")


def test_a_shipped_expert_under_the_name_of_another_game_is_refused(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers.shipped, "shipped_folder", lambda: weights.parent)
    for suffix in (".safetensors", ".json"):
        weights.with_suffix(suffix).rename(weights.with_name("breakout" + suffix))
    with pytest.raises(ValueError, match="is for 'pong', not for 'breakout'"):
        load_expert("breakout")


def test_every_shipped_expert_loads_and_labels() -> None:
    for game in shipped_experts():
        expert = load_expert(game)
        assert expert.card.scores, f"{game}: a shipped expert needs a measured score"
        black = torch.zeros(1, *expert.spec.observation_shape, dtype=torch.uint8)
        assert expert.label(black).values_B.isfinite().all()
