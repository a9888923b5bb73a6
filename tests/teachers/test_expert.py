"""Experts: their labels, saving and loading, and every refusal."""

import hashlib
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save
from torch import Tensor

import teachers.expert
from games.registry import get_game
from networks.q_network import QNetwork
from teachers.card import ScoreRecord, TeacherCard, load_card
from teachers.expert import Expert, architecture_of, load_expert, save_expert, shipped_experts

ATARI = (4, 84, 84)
SCORE = ScoreRecord(
    mean=20.0, std=1.0, max=21.0, episodes=10, protocol="classic", epsilon=0.05, precision="half"
)


def build_network(seed: int = 0, *, dueling: bool = False, num_actions: int = 18) -> QNetwork:
    torch.manual_seed(seed)
    return QNetwork(
        torso="nature_quarter", observation_shape=ATARI, num_actions=num_actions, dueling=dueling
    )


def card_fields(game: str = "pong", **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "game": game,
        "algorithm": "double dqn",
        "protocol": "classic",
        "trained_steps": 1000,
        "scores": [SCORE],
        "origin": "made by a test",
        "licence": "Apache-2.0",
    }
    return {**fields, **changes}


def saved(folder: Path, game: str = "pong", **kwargs: bool) -> Path:
    path = folder / f"{game}.safetensors"
    save_expert(build_network(**kwargs), card_fields(game), path)
    return path


def edit_card(weights: Path, **changes: object) -> None:
    card = weights.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def replace_weights(weights: Path, data: bytes) -> None:
    """New content with a card that vouches for it."""
    weights.write_bytes(data)
    edit_card(weights, sha256=hashlib.sha256(data).hexdigest())


def observations(batch: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, *ATARI), dtype=torch.uint8, generator=generator)


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


def _save(network: QNetwork, path: Path) -> Path:
    save_expert(network, card_fields(), path)
    return path


def test_features_are_those_of_the_last_hidden_layer(weights: Path) -> None:
    expert = load_expert(weights)
    labels = expert.label(observations())
    assert torch.equal(labels.features_BF, expert.network.torso(observations()))
    assert labels.features_BF.shape == (6, expert.num_features)


def test_an_expert_acts_like_a_network(weights: Path) -> None:
    expert = load_expert(weights)
    assert torch.equal(expert(observations()), expert.q_values(observations()))
    assert expert(observations()).shape == (6, 18)


def test_a_loss_on_labels_can_be_differentiated(weights: Path) -> None:
    labels = load_expert(weights).label(observations())
    student = torch.zeros(6, 18, requires_grad=True)
    (student.log_softmax(1) * labels.logits_BA).sum().backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_an_expert_is_frozen(weights: Path) -> None:
    expert = load_expert(weights)
    assert not any(parameter.requires_grad for parameter in expert.parameters())
    assert not expert.network.training
    labels = expert.label(observations())
    assert not labels.logits_BA.requires_grad
    assert not labels.logits_BA.is_inference()


def test_an_expert_can_be_sent_to_another_process(weights: Path) -> None:
    expert = load_expert(weights)
    copy = pickle.loads(pickle.dumps(expert))
    assert torch.equal(copy(observations()), expert(observations()))
    assert copy.card == expert.card


# Saving and loading


@pytest.mark.parametrize("dueling", [False, True])
def test_roundtrip_gives_the_network_rounded_to_half(tmp_path: Path, dueling: bool) -> None:
    expert = load_expert(saved(tmp_path, dueling=dueling), "pong")
    rounded = build_network(dueling=dueling).half().float()
    assert expert.network.dueling == dueling
    for name, tensor in rounded.state_dict().items():
        assert torch.equal(expert.network.state_dict()[name], tensor), name
    assert torch.equal(expert(observations()), rounded(observations()))


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


def test_saving_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = build_network()
    save_expert(network, card_fields(), tmp_path / "pong.safetensors")
    for name, tensor in build_network().state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_channels_last_network_is_saved_in_logical_order(tmp_path: Path) -> None:
    network = build_network().to(memory_format=torch.channels_last)
    path = _save(network, tmp_path / "pong.safetensors")
    expected = build_network().torso.convolutions[0].weight.detach().half().numpy()
    np.testing.assert_array_equal(load_file(path)["torso.convolutions.0.weight"], expected)


def test_saving_again_replaces_both_files(weights: Path) -> None:
    save_expert(build_network(seed=1), card_fields(trained_steps=2000), weights)
    expert = load_expert(weights)
    assert expert.card.trained_steps == 2000
    assert torch.equal(expert.network.head.bias, build_network(seed=1).half().float().head.bias)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert load_expert(saved(tmp_path / "new" / "folder")).card.game == "pong"


def test_a_text_with_a_separator_or_suffix_is_a_path(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_expert(str(weights)).card.game == "pong"
    monkeypatch.chdir(weights.parent)
    assert load_expert("pong.safetensors").card.game == "pong"


def test_shipped_experts_are_found_by_the_name_of_their_game(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers.expert, "_shipped_folder", lambda: weights.parent)
    assert shipped_experts() == ("pong",)
    assert load_expert("pong").card.game == "pong"
    with pytest.raises(ValueError, match=r"no expert for 'breakout' is shipped \(shipped: pong\)"):
        load_expert("breakout")


def test_a_shipped_expert_under_the_name_of_another_game_is_refused(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers.expert, "_shipped_folder", lambda: weights.parent)
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


def test_the_folder_of_shipped_experts_comes_with_the_package() -> None:
    assert teachers.expert._shipped_folder().joinpath("README.md").is_file()


# Refusals


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expert .*pong\.safetensors is missing"):
        load_expert(tmp_path / "pong.safetensors")


def test_weights_without_a_card_are_refused(weights: Path) -> None:
    weights.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"card .*pong\.json is missing"):
        load_expert(weights)


def test_a_file_that_is_no_safetensors_is_refused_by_its_suffix(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"name its GAME\.safetensors"):
        load_expert(weights.with_suffix(".json"))


def test_one_flipped_bit_is_noticed(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"pong\.safetensors is damaged.*SHA-256"):
        load_expert(weights)


def test_new_weights_with_an_old_card_are_noticed(weights: Path, tmp_path: Path) -> None:
    old_card = weights.with_suffix(".json").read_text()
    save_expert(build_network(seed=1), card_fields(), weights)
    weights.with_suffix(".json").write_text(old_card)
    with pytest.raises(ValueError, match="SHA-256"):
        load_expert(weights)


@pytest.mark.parametrize("kept", [0, 4, 200, 100_000])
def test_a_truncated_file_is_refused_even_if_the_card_vouches_for_it(
    weights: Path, kept: int
) -> None:
    replace_weights(weights, weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"not a whole safetensors file"):
        load_expert(weights)


def test_a_truncated_file_is_refused(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged"):
        load_expert(weights)


def test_a_type_numpy_does_not_know_is_refused(weights: Path) -> None:
    header = b'{"head.bias":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    replace_weights(weights, struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(ValueError, match=r"pong\.safetensors"):
        load_expert(weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_on_load(weights: Path, bad: float) -> None:
    arrays = load_file(weights)
    arrays["head.weight"][3, 5] = bad
    replace_weights(weights, save(arrays))
    with pytest.raises(ValueError, match=r"'head\.weight' are not finite"):
        load_expert(weights)


def test_weights_that_are_not_finite_are_not_saved(weights: Path) -> None:
    network = build_network()
    with torch.no_grad():
        network.head.weight[0, 0] = torch.nan
    before = weights.read_bytes()
    with pytest.raises(ValueError, match="not finite"):
        save_expert(network, card_fields(), weights)
    assert weights.read_bytes() == before
    assert load_expert(weights).card.game == "pong"


def test_a_network_with_the_wrong_number_of_actions_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_actions' is 6, but 'pong' has 18"):
        save_expert(build_network(num_actions=6), card_fields(), tmp_path / "pong.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_card_with_the_wrong_number_of_actions_is_refused(weights: Path) -> None:
    architecture = json.loads(weights.with_suffix(".json").read_text())["architecture"]
    edit_card(weights, architecture={**architecture, "num_actions": 6})
    with pytest.raises(ValueError, match=r"pong\.json.*num_actions' is 6, but 'pong' has 18"):
        load_expert(weights)


def test_weights_with_the_wrong_number_of_actions_are_refused(weights: Path) -> None:
    arrays = load_file(weights)
    arrays["head.bias"] = arrays["head.bias"][:6]
    replace_weights(weights, save(arrays))
    with pytest.raises(ValueError, match=r"pong\.safetensors.*'head\.bias' have shape \[6\]"):
        load_expert(weights)


def test_weights_with_another_name_are_refused(weights: Path) -> None:
    arrays = load_file(weights)
    arrays["output.bias"] = arrays.pop("head.bias")
    replace_weights(weights, save(arrays))
    with pytest.raises(ValueError, match=r"missing head\.bias; unknown output\.bias"):
        load_expert(weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torso": "huge"}, "unknown torso 'huge'"),
        ({"num_features": 512}, "num_features' is 512, but torso 'nature_quarter' has 256"),
        ({"observation_shape": [1, 84, 84]}, r"\[1, 84, 84\], but 'pong' has \[4, 84, 84\]"),
        ({"dueling": True}, "missing value.weight"),
        ({"torso": "nature", "num_features": 512}, "another architecture"),
    ],
)
def test_a_card_of_another_architecture_is_refused(
    weights: Path, change: dict[str, object], message: str
) -> None:
    architecture = json.loads(weights.with_suffix(".json").read_text())["architecture"]
    edit_card(weights, architecture={**architecture, **change})
    with pytest.raises(ValueError, match=message):
        load_expert(weights)


def test_an_expert_for_another_game_is_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"pong\.json: .*is for 'pong', not for 'breakout'"):
        load_expert(weights, "breakout")


def test_an_expert_for_a_game_nobody_knows_is_refused(weights: Path) -> None:
    edit_card(weights, game="pnog")
    with pytest.raises(ValueError, match="unknown game 'pnog'"):
        load_expert(weights)


def test_a_card_of_another_game_does_not_make_an_expert(weights: Path) -> None:
    card = load_card(weights.with_suffix(".json"))
    with pytest.raises(ValueError, match="is for 'pong', not for 'breakout'"):
        Expert(get_game("breakout"), card, build_network())


def test_a_network_that_is_not_the_cards_does_not_make_an_expert(weights: Path) -> None:
    card: TeacherCard = load_card(weights.with_suffix(".json"))
    with pytest.raises(ValueError, match="its card says"):
        Expert(get_game("pong"), card, build_network(dueling=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "'sha256', which is filled in"),
        ({"scores": [{"mean": 1.0}]}, r"field 'scores\[0\]\.std' is missing"),
        ({"licence": ""}, "'licence' must be a text"),
        ({"colour": "blue"}, "unknown field 'colour'"),
    ],
)
def test_wrong_card_fields_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_expert(build_network(), card_fields(**changes), tmp_path / "pong.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_saving_under_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"saved as GAME\.safetensors, not as 'pong\.pt'"):
        save_expert(build_network(), card_fields(), tmp_path / "pong.pt")
