"""Reads what torch.save wrote, today's zip files and those of before 2020, running nothing.

`torch.load(weights_only=True)` does the reading, but it trusts the sizes in the file: a tensor
that claims more elements than its storage has would be read beyond the end. So the pickle inside
is first run against stand-ins that build nothing (`_Inventory`), every claim is checked against
the bytes that are there, and torch then gets an archive that was written afresh.
"""

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import NamedTuple, NoReturn, TypeGuard

import torch
from torch import Tensor

from teachers.formats.bounded_files import MAX_ELEMENTS, MAX_MEMBER_BYTES, ZipMembers
from teachers.formats.pickle_scan import (
    check_imports,
    new_ordered_dict,
    plain_tree,
    scan_pickle,
    sealed,
)

_MAX_PICKLE_BYTES = 2 * 2**20
_ITEM_BYTES = {
    "FloatStorage": 4,
    "DoubleStorage": 8,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
_ALLOWED_IMPORTS = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        *(f"torch.{name}" for name in _ITEM_BYTES),
    }
)
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def is_torch_zip(members: ZipMembers) -> bool:
    """Whether a zip archive is what torch.save writes."""
    return _pickle_name(members) is not None


def is_legacy_torch(data: bytes) -> bool:
    """Whether these bytes begin like the files of torch.save before version 1.6."""
    return data.startswith(_LEGACY_MAGIC)


def load_torch(data: bytes, *, source: str) -> object:
    """What torch.save was given, with its tensors on the CPU.

    Raises:
        ValueError: not a torch file, damaged, larger than an expert, or holding more than tensors,
            plain containers and plain numbers.
    """
    if is_legacy_torch(data):
        _check_legacy(data, source=source)
    else:
        data = _check_zip(ZipMembers(data, source=source), source=source)
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return plain_tree(loaded, _leaf, max_depth=16, max_parts=200_000)
    # A file made to break torch can raise nearly anything, and none of it is the user's business.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{source} cannot be read by torch: {reason}") from error


def tensors_of(value: object) -> dict[str, Tensor] | None:
    """`value` as a state_dict in float32, or None if it is not names and tensors alone.

    Integer tensors (counters of batch norms and the like) are left out.
    """
    if not isinstance(value, dict) or not value:
        return None
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
        return None
    return {
        name: tensor.detach().float()
        for name, tensor in value.items()
        if tensor.is_floating_point()
    }


def _leaf(item: object) -> tuple[object, int]:
    return item, item.numel() if isinstance(item, Tensor) else 0


class _Storage(NamedTuple):
    """What a persistent id claims of the bytes of one or more tensors."""

    key: str
    num_elements: int
    item_bytes: int

    @property
    def num_bytes(self) -> int:
        return self.num_elements * self.item_bytes


class _Inventory(pickle.Unpickler):
    """Runs a pickle against stand-ins and lists the storages that its tensors need.

    A pickle may set attributes of whatever it is given, so it gets nothing that has any: texts for
    types, bare objects for storages, None for tensors, and `sealed` methods.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.storages: dict[str, _Storage] = {}
        self._handles: dict[str, object] = {}
        self._key_of: dict[int, str] = {}
        self._num_elements = 0

    def find_class(self, module: str, name: str) -> object:
        """Never imports: a stand-in, or a refusal."""
        if module == "torch" and name in _ITEM_BYTES:
            return name
        match f"{module}.{name}":
            case "collections.OrderedDict":
                return sealed(new_ordered_dict)
            case "torch._utils._rebuild_tensor_v2":
                return sealed(self._rebuild_tensor)
            case "torch._utils._rebuild_parameter":
                return sealed(self._rebuild_parameter)
            case other:
                raise pickle.UnpicklingError(f"{other} is not allowed")

    def persistent_load(self, pid: object) -> object:
        """Take note of ("storage", type, key, location, number of elements, ...)."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("a reference that is no storage")
        kind, key, location, num_elements = pid[1:5]
        if any(extra is not None for extra in pid[5:]):
            raise pickle.UnpicklingError("a view of a storage")
        # Texts before anything is looked up: see `pickle_scan` on the hashes of other things.
        if not all(isinstance(part, str) for part in (kind, key, location)):
            raise pickle.UnpicklingError("a storage without type, name or place")
        if kind not in _ITEM_BYTES or not _is_count(num_elements):
            raise pickle.UnpicklingError("a storage of unknown type or impossible size")
        storage = _Storage(key, num_elements, _ITEM_BYTES[kind])
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError(f"two different storages {key!r}")
        handle = self._handles.setdefault(key, object())
        self._key_of[id(handle)] = key
        return handle

    def _rebuild_tensor(
        self, handle: object, offset: object, size: object, stride: object, *_: object
    ) -> None:
        key = self._key_of.get(id(handle))
        storage = None if key is None else self.storages[key]
        if storage is None or not isinstance(offset, int) or not _is_count(offset):
            raise pickle.UnpicklingError("a tensor without storage")
        if not _is_shape(size) or not _is_shape(stride) or len(size) != len(stride):
            raise pickle.UnpicklingError("a tensor of impossible shape")
        self._num_elements += math.prod(size)
        if self._num_elements > MAX_ELEMENTS:
            raise pickle.UnpicklingError(f"more than {MAX_ELEMENTS} elements")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) and last >= storage.num_elements:
            raise pickle.UnpicklingError("a tensor that reaches beyond its storage")

    def _rebuild_parameter(self, tensor: object, *_: object) -> object:
        return tensor


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def _is_shape(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and len(value) <= 8 and all(map(_is_count, value))


def _take_inventory(data: bytes, *, source: str) -> tuple[dict[str, _Storage], int]:
    """The storages that a pickle asks for, and where the pickle ends."""
    contents = scan_pickle(data, source=source)
    check_imports(contents, _ALLOWED_IMPORTS, source=source)
    inventory = _Inventory(data[: contents.num_bytes])
    try:
        inventory.load()
    # Opcodes in an impossible order raise whatever the stand-ins make of them.
    except Exception as error:
        raise ValueError(f"{source} is no state_dict: {error}") from error
    return inventory.storages, contents.num_bytes


def _pickle_name(members: ZipMembers) -> str | None:
    names = [name for name in members.names if name.count("/") == 1 and name.endswith("/data.pkl")]
    return names[0] if len(names) == 1 else None


def _check_zip(members: ZipMembers, *, source: str) -> bytes:
    """Check every size and write the archive afresh, with what torch needs and nothing else."""
    name = _pickle_name(members)
    if name is None:
        _refuse_zip(members, source)
    folder = name.removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members.names:
        raise ValueError(f"{source} is TorchScript, a program; save the state_dict instead")
    parts = {name: members.read(name, max_bytes=_MAX_PICKLE_BYTES)}
    storages, _ = _take_inventory(parts[name], source=source)
    if sum(storage.num_bytes for storage in storages.values()) > MAX_MEMBER_BYTES:
        raise ValueError(f"{source} has more than {MAX_MEMBER_BYTES} bytes of tensors; refused")
    for storage in storages.values():
        member = f"{folder}data/{storage.key}"
        parts[member] = members.read(member, max_bytes=storage.num_bytes)
        if len(parts[member]) != storage.num_bytes:
            raise ValueError(
                f"{source}: storage {storage.key!r} has {len(parts[member])} bytes, but its "
                f"tensors claim {storage.num_bytes}"
            )
    for extra in ("version", "byteorder"):
        if f"{folder}{extra}" in members.names:
            parts[f"{folder}{extra}"] = members.read(f"{folder}{extra}", max_bytes=64)
    return _zip_of(parts)


def _refuse_zip(members: ZipMembers, source: str) -> NoReturn:
    raise ValueError(
        f"{source} is a zip file without a data.pkl of torch in it; its members begin with "
        f"{', '.join(map(repr, members.names[:3])) or 'nothing'}"
    )


def _zip_of(parts: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _check_legacy(data: bytes, *, source: str) -> None:
    """Check a file of before torch 1.6.

    Five pickles (magic number, version, facts about the machine, the object, the storages' keys),
    then for each key an int64 number of elements and the elements.
    """
    rest = data
    storages: dict[str, _Storage] = {}
    for _ in range(5):
        found, length = _take_inventory(rest[:_MAX_PICKLE_BYTES], source=source)
        storages.update(found)
        rest = rest[length:]
    claimed = sum(s.num_bytes + struct.calcsize("<q") for s in storages.values())
    if claimed != len(rest):
        raise ValueError(f"{source} should have {claimed} bytes of tensors, but has {len(rest)}")
