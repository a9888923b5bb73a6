"""Experts that cannot be loaded or saved: every refusal."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save
from saved_experts import build_network, card_fields, edit_card, replace_weights, saved

from teachers.expert import load_expert, save_expert


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return saved(tmp_path)


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


def test_weights_with_the_wrong_number_of_actions_are_refused(weights: Path) -> None:
    arrays = load_file(weights)
    arrays["head.bias"] = arrays["head.bias"][:6]
    replace_weights(weights, save(arrays))
    with pytest.raises(ValueError, match=r"pong\.safetensors.*'head\.bias' have shape \[6\]"):
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "'sha256', which is filled in"),
        ({"scores": [{"mean": 1.0}]}, r"field 'scores\[0\]\.std' is missing"),
        ({"licence": ""}, "'licence' must not be empty"),
        ({"colour": "blue"}, "unknown field 'colour'"),
    ],
)
def test_wrong_card_fields_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_expert(build_network(), card_fields(**changes), tmp_path / "pong.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_refused_by_name(weights: Path, tmp_path: Path) -> None:
    # Regular files by their looks, whose first byte is an input/output error.
    card = weights.with_suffix(".json").read_bytes()
    for suffix in (".safetensors", ".json"):
        path = weights.with_suffix(suffix)
        kept = path.read_bytes()
        path.unlink()
        path.symlink_to("/proc/self/mem")
        with pytest.raises(ValueError, match=rf"pong\{suffix} cannot be read: Input"):
            load_expert(weights)
        path.unlink()
        path.write_bytes(kept)
    assert weights.with_suffix(".json").read_bytes() == card
    with pytest.raises(ValueError, match="is missing"):
        load_expert(tmp_path / ("a" * 300 + ".safetensors"))
