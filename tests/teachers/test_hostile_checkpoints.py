"""Files made to do harm, or broken on the way: one clear ValueError each, and nothing runs."""

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import foreign_layouts as layouts
import msgpack
import numpy as np
import pytest
import torch
from foreign_layouts import random_layers
from refused_files import NUM_ACTIONS, named, refused, torch_bytes
from safetensors.torch import save as save_safetensors

from teachers.formats import bounded_files, own, read_checkpoint, restricted_pickle, torch_files
from teachers.formats.bounded_files import ZipMembers


class Bomb:
    """Pickled, it is a program that makes a folder when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A folder that must not exist after the test; loading a bomb would make it."""
    path = tmp_path / "somebody was here"
    assert pickle.loads(pickle.dumps(Bomb(path))) is None
    assert path.is_dir(), "the bomb itself must work"
    path.rmdir()
    yield path
    assert not path.exists(), "code in the file was run"


# Programs


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_program_in_a_torch_file_is_not_run(
    tmp_path: Path, canary: Path, is_legacy: bool
) -> None:
    path = tmp_path / "a.cleanrl_model"
    path.write_bytes(torch_bytes({**named(), "x": Bomb(canary)}, is_legacy=is_legacy))
    assert "asks for 'posix.mkdir'" in refused(path)


def test_a_program_inside_gzip_is_not_run(tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "model_50000000.gz"
    path.write_bytes(gzip.compress(torch_bytes({"estimator_state": Bomb(canary)})))
    assert "asks for 'posix.mkdir'" in refused(path)


@pytest.mark.parametrize("member", ["policy.pth", "model.pt"])
def test_a_program_inside_a_zip_is_not_run(tmp_path: Path, canary: Path, member: str) -> None:
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {"data": b"{}", member: torch_bytes({"x": Bomb(canary)})})
    assert "asks for 'posix.mkdir'" in refused(path)


def test_programs_in_the_settings_of_stable_baselines_are_not_run(
    tmp_path: Path, canary: Path
) -> None:
    path = tmp_path / "a.zip"
    layouts.write_sb3_of_2021(path, random_layers(NUM_ACTIONS), kind="dqn")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    bomb = layouts.base64.b64encode(pickle.dumps(Bomb(canary)))
    assert members["data"].count(layouts.CANARY.encode()) == 2
    members["data"] = members["data"].replace(layouts.CANARY.encode(), bomb)
    members["policy.optimizer.pth"] = torch_bytes(Bomb(canary))
    layouts.write_zip(path, members)
    assert read_checkpoint(path, game="pong").format == "sb3"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_program_in_a_pickle_is_not_run_even_with_consent(
    tmp_path: Path, canary: Path, protocol: int
) -> None:
    path = tmp_path / "ckpt.199"
    bundle = {"online_params": {"params": {}}, "training_steps": 1, "logs": Bomb(canary)}
    path.write_bytes(pickle.dumps(bundle, protocol=protocol))
    assert "asks for 'posix.mkdir'" in refused(path)


def test_a_bare_pickle_is_no_checkpoint(tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(Bomb(canary)))
    assert "of no format that is read" in refused(path)


def test_a_pickled_module_is_refused_before_torch_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(torch_bytes(torch.nn.Linear(2, 2)))
    assert "'torch.nn.modules.linear.Linear'" in refused(path)


def test_a_pickle_cannot_reach_out_through_what_is_allowed(tmp_path: Path) -> None:
    # getattr, by which an allowed object would lead to any other, and a name with a dot in it.
    for stolen in (b"builtins\ngetattr", b"numpy\ndtype.__class__", b"numpy.core\nmultiarray"):
        path = tmp_path / "ckpt.199"
        path.write_bytes(
            b"\x80\x02}(X\x0d\x00\x00\x00online_paramsK\x01X\x0e\x00\x00\x00training_stepsc"
            + stolen
            + b"\nu."
        )
        assert f"asks for {stolen.decode().replace(chr(10), '.')!r}" in refused(path)


@pytest.mark.parametrize(
    "stand_in", ["torch._utils _rebuild_tensor_v2", "numpy.core.multiarray scalar"]
)
def test_a_pickle_leaves_no_attributes_behind(tmp_path: Path, stand_in: str) -> None:
    # BUILD sets attributes of what it is given; those of a method would land on its function.
    path = tmp_path / "a"
    program = (
        b"\x80\x02c" + stand_in.replace(" ", "\n").encode() + b"\n}X\x04\x00\x00\x00evilK\x01sb"
        b"0}(X\x0d\x00\x00\x00online_paramsK\x01X\x0e\x00\x00\x00training_stepsK\x01u."
    )
    if stand_in.startswith("torch"):
        layouts.write_zip(path, {"a/data.pkl": program})
    else:
        path.write_bytes(program)
    assert "has no attribute" in refused(path)
    for function in (
        torch_files._Inventory._rebuild_tensor,
        restricted_pickle._StandInUnpickler._scalar,
    ):
        assert not vars(function)


def test_torchscript_is_refused_as_a_program(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    layouts.write_zip(path, {"a/data.pkl": b"\x80\x02N.", "a/constants.pkl": b"\x80\x02)."})
    assert "TorchScript, a program" in refused(path)


# Bombs


def test_a_gzip_bomb_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_files, "MAX_MEMBER_BYTES", 2**20)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(2**21)))
    assert "decompresses to more than 1 MiB" in refused(path)


def test_the_limits_stay_below_a_gigabyte() -> None:
    assert bounded_files.MAX_FILE_BYTES < 2**30
    assert bounded_files.MAX_MEMBER_BYTES < 2**30


def test_a_zip_bomb_is_refused_by_what_it_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_files, "MAX_MEMBER_BYTES", 2**20)
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {"data": b"{}", "policy.pth": bytes(2**21)})
    assert "decompresses to 2 MiB" in refused(path)


def test_a_zip_that_declares_less_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {"data": b"{}", "policy.pth": bytes(1000)})
    data = bytearray(path.read_bytes())
    # The size in the central directory, 24 bytes after the entry's signature.
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    path.write_bytes(data)
    assert "policy.pth" in refused(path)


def test_a_zip_with_thousands_of_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {f"{number}": b"" for number in range(3000)})
    assert "3000 members" in refused(path)
    layouts.write_zip(path, {f"{number}": b"" for number in range(5000)})
    assert "too many members" in refused(path)


def test_a_tensor_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for claim, message in (
        # 2 elements in the storage, 2**39 and 2**24 in the tensor.
        (b"\x8a\x06\x00\x00\x00\x00\x80\x00", "elements"),
        (b"\x8a\x04\x00\x00\x00\x01", "beyond its storage"),
    ):
        data = torch_bytes({"a": torch.zeros(2)})
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        pickled = members["archive/data.pkl"]
        # ... storage, offset 0, (2,), (1,): the shape is the 2 after the offset.
        assert pickled.count(b"QK\x00K\x02") == 1
        members["archive/data.pkl"] = pickled.replace(b"QK\x00K\x02", b"QK\x00" + claim)
        layouts.write_zip(path, members)
        assert message in refused(path)


def test_a_few_bytes_that_stand_for_gigabytes_are_refused(tmp_path: Path) -> None:
    # One element, repeated 2**26 times by a stride of 0, at 40 places: 10 GB once converted.
    path = tmp_path / "a.pt"
    repeated = torch.zeros(1, dtype=torch.float16).expand(2**26)
    for is_legacy in (False, True):
        path.write_bytes(torch_bytes({str(n): repeated for n in range(40)}, is_legacy=is_legacy))
        assert path.stat().st_size < 10_000
        assert "more than 67108864 elements" in refused(path)


def test_safetensors_larger_than_any_expert_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "MAX_ELEMENTS", 5)
    path = tmp_path / "a.safetensors"
    path.write_bytes(save_safetensors({"a": torch.zeros(3), "b": torch.zeros(3)}))
    assert "more than 5 elements" in refused(path)


def test_a_storage_shorter_than_it_claims_is_refused(tmp_path: Path) -> None:
    # torch would read beyond the end of the bytes that are there.
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(io.BytesIO(torch_bytes({"a": torch.zeros(100)}))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    layouts.write_zip(path, {**members, "archive/data/0": bytes(40)})
    assert "storage '0' has 40 bytes, but its tensors claim 400" in refused(path)


def test_a_legacy_file_with_an_impossible_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    data = torch_bytes({"a": torch.zeros(100)}, is_legacy=True)
    for cut in (8, 400, 404):
        path.write_bytes(data[:-cut])
        assert "should have 408 bytes of tensors" in refused(path)


def test_a_pickle_with_an_enormous_memo_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.199"
    path.write_bytes(b"\x80\x02N" + b"r" + struct.pack("<I", 2**31) + b".")
    assert "memo entry 2147483648" in refused(path)


def test_an_array_in_a_pickle_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.199"
    bundle = {"online_params": np.zeros(7, np.float32), "training_steps": 1}
    data = pickle.dumps(bundle, protocol=4)
    assert data.count(b"K\x07\x85") == 1
    path.write_bytes(data.replace(b"K\x07\x85", b"J\xff\xff\xff\x03\x85"))
    assert "bytes for an array of shape" in refused(path)


def test_an_array_of_objects_in_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.199"
    bundle = {"online_params": np.array([{}], dtype=object), "training_steps": 1}
    path.write_bytes(pickle.dumps(bundle, protocol=4))
    assert "numbers of type 'O8'" in refused(path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\xa6params\xdd\xff\xff\xff\xff",
        b"\x81\xa6params\xdf\xff\xff\xff\xff",
        b"\x81\xa6params\xc9\x7f\xff\xff\xff\x01",
        b"\x81\xa6params\xdb\xff\xff\xff\xff",
        b"\x81\xa6params" + b"\x91" * 100_000,
        b"\x81\xa6params" + b"\x81\xa1a" * 100_000 + b"\xc0",
        b"\x81\xa6params"
        + msgpack.packb({str(a): {str(b): {} for b in range(99)} for a in range(99)}),
    ],
    ids=["list", "map", "array", "text", "nested lists", "nested maps", "many maps"],
)
def test_a_msgpack_bomb_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.cleanrl_model"
    path.write_bytes(data)
    assert "is damaged or is not flax's msgpack" in refused(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2**40, 2**20), "float32", "more than"),
        ((-1, 4), "float32", "shape"),
        ((100,), "float32", "8 bytes for an array"),
        ((1,), "object", "type 'object'"),
        ((1,), "V8", "type 'V8'"),
    ],
)
def test_an_impossible_array_in_msgpack_is_refused(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, message: str
) -> None:
    path = tmp_path / "a.cleanrl_model"
    array = msgpack.ExtType(1, msgpack.packb((shape, dtype, bytes(8)), use_bin_type=True))
    path.write_bytes(msgpack.packb({"params": {"Conv_0": array}}))
    assert message in refused(path)


# Names


@pytest.mark.parametrize("name", ["../model.pt", "/model.pt", "a/../../model.pt", "C:model.pt"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {name: b""})
    assert "leads outside" in refused(path)


def test_a_name_with_orders_for_the_terminal_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {"x\n\x1b[2J/model.pt": b"junk"})
    assert r"'x\n\x1b[2J/model.pt' is a damaged zip file" in refused(path)


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", b"{}")
        archive.writestr("policy.pth", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("policy.pth", b"two")
    assert "'policy.pth' occurs twice" in refused(path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {"data": b"{}", "policy.pth": b"x"})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "is encrypted; save the checkpoint without a password" in refused(path)


def test_nothing_is_written_beside_a_file_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    layouts.write_pfrl(path, random_layers(NUM_ACTIONS))
    read_checkpoint(path, game="pong")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_a_member_is_read_only_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    layouts.write_zip(path, {"data": bytes(1000)})
    members = ZipMembers(path.read_bytes(), source="a.zip")
    with pytest.raises(ValueError, match="'data' has 1000 bytes; at most 100 are read"):
        members.read("data", max_bytes=100)
    with pytest.raises(ValueError, match="no member 'other'"):
        members.read("other")
    assert members.read("data") == bytes(1000)
