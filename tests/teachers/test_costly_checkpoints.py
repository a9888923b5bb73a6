"""Small files that would take endless time or memory: refused before anything is spent on them."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import foreign_layouts as layouts
import msgpack
import numpy as np
import pytest
from foreign_layouts import random_layers
from refused_files import refused

from teachers import expert
from teachers.bounded_reading import MAX_CARD_BYTES
from teachers.card import load_card
from teachers.expert import load_expert
from teachers.formats import pickle_scan

SHIPPED = Path(expert.__file__).parent / "weights" / "pong.safetensors"

# Deep enough to tell 2^n steps from n, shallow enough that a failing test ends.
DEPTH = 18
NESTED = b")q\x00" + b"".join(b"0h%ch%c\x86q%c" % (n, n, n + 1) for n in range(DEPTH))
"""A tuple of twice the same tuple of twice the same tuple, ...: 2^18 parts in 130 bytes."""
FROZEN = b"(\x91q\x00" + b"".join(b"0(h%ch%c\x86\x91q%c" % (n, n, n + 1) for n in range(DEPTH))
"""The same of sets, each with a tuple of twice the next one: quick to hash, endless as a text."""


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def write_pickle(path: Path, program: bytes) -> None:
    """With the texts in front that make a pickle look like Dopamine's."""
    names = text("online_params") + b"0" + text("training_steps") + b"0"
    path.write_bytes(b"\x80\x04" + names + program + b".")


def write_torch(path: Path, program: bytes) -> None:
    layouts.write_zip(path, {"a/data.pkl": b"\x80\x02" + program + b"."})


@pytest.mark.parametrize("write", [write_pickle, write_torch])
@pytest.mark.parametrize(
    "program",
    [
        b"}" + NESTED + b"K\x01s",
        b"}(" + NESTED + b"K\x01u",
        b"(" + NESTED + b"K\x01d",
        b"}" + FROZEN + b"K\x01s",
        b"ccollections\nOrderedDict\n]" + NESTED + b"K\x01\x86a\x85R",
    ],
    ids=["one item", "items", "whole dictionary", "frozen set", "ordered dictionary of pairs"],
)
def test_a_key_that_takes_forever_to_hash_is_refused(
    tmp_path: Path, write: Callable[[Path, bytes], None], program: bytes
) -> None:
    path = tmp_path / "a"
    write(path, program)
    reasons = ("neither a text nor a number", "has sets", "takes 0 positional arguments")
    assert any(reason in refused(path) for reason in reasons)


def test_a_storage_whose_type_takes_forever_to_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_torch(path, b"(" + text("storage") + NESTED + text("0") + text("cpu") + b"K\x01tQ")
    assert "a storage without type, name or place" in refused(path)


def test_a_type_of_numbers_that_is_no_text_is_not_turned_into_one(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.199"
    write_pickle(path, b"cnumpy\ndtype\n" + NESTED + b"\x85R")
    assert "numbers of no named type" in refused(path)


def test_an_array_that_stands_at_many_places_counts_at_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ckpt.199"
    array = np.zeros(1000, np.float32)
    bundle = {"online_params": {"params": dict.fromkeys("abcd", array)}, "training_steps": 1}
    path.write_bytes(pickle.dumps(bundle, protocol=4))
    assert "has the layers 'a', 'b', 'c', 'd'" in refused(path)
    monkeypatch.setattr(pickle_scan, "MAX_ELEMENTS", 3999)
    assert "more than 3999 elements" in refused(path)


def test_a_pickle_larger_than_any_agents_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ckpt.199"
    layouts.write_dopamine(path, random_layers(6, same=True))
    monkeypatch.setattr(pickle_scan, "_MAX_BYTES", 10_000)
    assert "at most 10000 of a pickle are read" in refused(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [([[], [], []], "lists in the shape"), ({"a": 1}, "max_map_len"), ([[[], []]], "lists in")],
)
def test_what_is_packed_into_the_shape_of_an_array_is_refused(
    tmp_path: Path, shape: object, message: str
) -> None:
    path = tmp_path / "a.cleanrl_model"
    array = msgpack.ExtType(1, msgpack.packb((shape, "float32", bytes(4)), use_bin_type=True))
    path.write_bytes(msgpack.packb({"params": {"Conv_0": array}}))
    assert message in refused(path)


def many_tensors() -> bytes:
    """A safetensors file of 30,000 tensors, all empty."""
    entry = '"%d":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}'
    header = "{" + ",".join(entry % n for n in range(30_000)) + "}"
    return struct.pack("<Q", len(header)) + header.encode()


def test_a_file_of_countless_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(many_tensors())
    assert "at most 1048576 are read" in refused(path)
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    card["sha256"] = expert.hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"a header of .* at most 1048576 are read"):
        load_expert(path)


def test_a_card_that_is_a_book_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pong.json"
    path.write_text("[" + "[]," * (MAX_CARD_BYTES // 3) + "1]")
    with pytest.raises(ValueError, match="is larger than 1048576 bytes"):
        load_card(path)


def test_weights_larger_than_any_network_are_not_read_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(SHIPPED.with_suffix(suffix), tmp_path)
    path = tmp_path / SHIPPED.name
    assert load_expert(path).card.game == "pong"
    monkeypatch.setattr(expert, "MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"pong\.safetensors is larger than"):
        load_expert(path)
