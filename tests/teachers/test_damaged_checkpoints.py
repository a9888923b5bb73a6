"""Files that are cut short, changed, or no checkpoints at all: one clear ValueError each."""

import gzip
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import foreign_layouts as layouts
import numpy as np
import pytest
import torch
from foreign_layouts import random_layers
from refused_files import NUM_ACTIONS, named, refused, torch_bytes
from safetensors.torch import save as save_safetensors

from teachers.formats import detect_format


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, message in (("", "is a folder"), ("gone", "missing"), ("empty", "is empty")):
        path = tmp_path / name if name else tmp_path
        assert message in refused(path)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.bin"
    starts = (b"", b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"\x80\x04", b"\x81\xa6params")
    generator = random.Random(seed)
    path.write_bytes(starts[seed % len(starts)] + generator.randbytes(generator.randrange(1, 2000)))
    refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.cleanrl_model"
    layers = random_layers(NUM_ACTIONS)
    layers.hidden[1][0][3, 2, 1, 0] = value
    layouts.write_cleanrl_dqn(path, layers)
    assert "weight 2 is not finite" in refused(path)


def test_layers_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.cleanrl_model"
    path.write_bytes(torch_bytes({**named(), "network.2.weight": torch.zeros(64, 32, 5, 5)}))
    said = refused(path)
    assert "weight 2 has shape [64, 32, 5, 5], but [64, 32, 4, 4] is expected" in said


def test_a_missing_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.cleanrl_model"
    state = named()
    del state["network.7.bias"]
    path.write_bytes(torch_bytes(state))
    assert "has no 'network.7.bias'" in refused(path)


def _small_files() -> dict[str, Callable[[Path], None]]:
    """Files of every container, small enough to be cut and changed at thousands of places."""
    layer = {"network.0.weight": torch.arange(6.0).reshape(2, 3), "network.0.bias": torch.ones(2)}
    arrays = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    bundle = {"online_params": {"params": {"Conv_0": arrays}}, "training_steps": 3}
    return {
        "torch": lambda path: path.write_bytes(torch_bytes(layer)),
        "legacy torch": lambda path: path.write_bytes(torch_bytes(layer, is_legacy=True)),
        "gzip": lambda path: path.write_bytes(
            gzip.compress(torch_bytes({"estimator_state": layer}))
        ),
        "zip": lambda path: layouts.write_zip(
            path, {"data": b'{"num_timesteps": 3}', "policy.pth": torch_bytes(layer)}
        ),
        "msgpack": lambda path: path.write_bytes(
            layouts.to_msgpack({"params": {"Conv_0": arrays}})
        ),
        "pickle": lambda path: path.write_bytes(pickle.dumps(bundle, protocol=4)),
        "safetensors": lambda path: path.write_bytes(save_safetensors(layer)),
    }


each_container = pytest.mark.parametrize("kind", list(_small_files()))


@each_container
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    _small_files()[kind](path)
    data = path.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        refused(path)


@each_container
def test_a_file_with_changed_bytes_is_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    _small_files()[kind](path)
    data = path.read_bytes()
    generator = random.Random(kind)
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(generator.choice((1, 1, 2, 8))):
            changed[generator.randrange(len(data))] ^= generator.randrange(1, 256)
        path.write_bytes(changed)
        # A layer alone is no network, so even an unharmed file is refused; detecting may succeed.
        refused(path)
        with suppress(ValueError):
            detect_format(path)
