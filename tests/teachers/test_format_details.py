"""What files say of themselves, plain state_dicts, and requests that are refused."""

import json
import pickle
import zipfile
from pathlib import Path

import counting
import foreign_layouts as layouts
import pytest
import torch
from foreign_layouts import random_layers
from safetensors.torch import save_file

from games.registry import get_game
from teachers.formats import ImportedTeacher, detect_format, read_checkpoint

LEGAL = list(get_game("pong").legal_actions)
NUM_LEGAL = len(LEGAL)


def read(path: Path) -> ImportedTeacher:
    return read_checkpoint(path, game="pong")


# What the files say


def test_pixels_that_were_not_divided_by_255_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    layouts.write_sb3_of_2021(path, random_layers(NUM_LEGAL), kind="dqn")
    for value in (False, "False"):
        change_settings(path, policy_kwargs={"normalize_images": value})
        with pytest.raises(ValueError, match="normalize_images=False"):
            read(path)


def change_settings(path: Path, **changes: object) -> None:
    """Replace fields of a zip's `data`; None removes one."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    settings = {**json.loads(members["data"]), **changes}
    kept = {name: value for name, value in settings.items() if value is not None}
    layouts.write_zip(path, {**members, "data": json.dumps(kept).encode()})


# A plain state_dict


def test_two_networks_in_one_file_are_ambiguous(tmp_path: Path) -> None:
    named = random_layers(NUM_LEGAL).named("c1", "c2", "c3", "fc", "out")
    torch.save({"model": named, "target": named}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"2 dictionaries of tensors \('model', 'target'\)"):
        read_checkpoint(tmp_path / "a.pt", game="pong")
    both = {f"{net}.{name}": tensor for net in ("q", "t") for name, tensor in named.items()}
    torch.save(both, tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"2 layers of shape .* save one network alone"):
        read_checkpoint(tmp_path / "b.pt", game="pong")


def test_a_dueling_state_dict_is_refused(tmp_path: Path) -> None:
    layers = random_layers(NUM_LEGAL)
    assert layers.critic is not None
    state = layers.named("c1", "c2", "c3", "fc", "advantage")
    state |= dict(zip(("value.weight", "value.bias"), layers.critic, strict=True))
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"2 layers behind the 512 features \('advantage'"):
        read_checkpoint(tmp_path / "a.pt", game="pong")


def test_a_state_dict_may_have_a_json_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(random_layers(NUM_LEGAL).named("c1", "c2", "c3", "fc", "out"), path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match="field 'format' is missing"):
        read(path)
    assert read_checkpoint(path, game="pong", format="state_dict").format == "state_dict"


# Refusals that are about the request, not the file


def test_a_pickle_is_read_only_with_consent(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.199"
    layouts.write_dopamine(path, random_layers(NUM_LEGAL, same=True))
    assert detect_format(path) == "dopamine"
    with pytest.raises(ValueError, match=r"is a pickle.*--unsafe-pickle"):
        read_checkpoint(path, game="pong")


def test_an_implicit_quantile_network_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.199"
    layers = random_layers(NUM_LEGAL, same=True)
    params = {**layouts.flax_params(layers), "Dense_2": layouts.flax_layer(layers.head)}
    path.write_bytes(
        pickle.dumps({"online_params": {"params": params}, "training_steps": 1}, protocol=4)
    )
    with pytest.raises(ValueError, match="implicit quantile network"):
        read_checkpoint(path, game="pong", unsafe_pickle=True)


def test_an_atari_teacher_for_a_game_with_other_frames_is_refused(tmp_path: Path) -> None:
    layouts.write_cleanrl_dqn(tmp_path / "a.pt", random_layers(counting.NUM_ACTIONS))
    with pytest.raises(ValueError, match="cannot play 'counting_ends': torso 'nature_valid'"):
        read_checkpoint(tmp_path / "a.pt", game="counting_ends")
