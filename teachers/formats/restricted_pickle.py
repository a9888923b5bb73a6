"""Reads the pickles of JAX checkpoints with stand-ins for everything they import.

A pickle is a program. This one gets no function that does anything but copy numbers: arrays are
put together here from their bytes, states of optimizers are thrown away, and whatever else it asks
for is refused. Time and memory that it takes are in proportion to its own size, which is bounded.

Arrays arrive as numpy pickles them, on their own or wrapped by JAX:
https://github.com/jax-ml/jax/blob/main/jax/_src/array.py (`_reconstruct_array`) and, before 0.4,
jax/_src/device_array.py (`reconstruct_device_array`).
"""

import io
import math
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teachers.formats.pickle_scan import new_ordered_dict, plain_tree, scan_pickle, sealed

_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
_IGNORED_PACKAGES = ("optax.", "flax.optim.")
_JAX_ARRAYS = (
    "jax._src.array._reconstruct_array",
    "jax._src.device_array.reconstruct_device_array",
)


def load_restricted(data: bytes, *, source: str) -> object:
    """Nested dictionaries and lists of NumPy arrays, numbers and texts."""
    scan_pickle(data, source=source)
    unpickler = _StandInUnpickler(data)
    try:
        return plain_tree(unpickler.load(), _leaf, max_depth=24, max_parts=2_000_000)
    # Opcodes in an impossible order raise whatever the stand-ins make of them.
    except Exception as error:
        raise ValueError(f"{source} cannot be read: {error}; nothing in it was run") from error


class _Array:
    """An array to be: the pickle makes it first and fills it in afterwards."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        """(version, shape, dtype, is in Fortran order, bytes), as numpy.ndarray's."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array of unknown kind")
        _, shape, dtype, is_fortran, content = state
        self.value = _make_array(shape, dtype, content, order="F" if is_fortran is True else "C")


class _Dtype:
    """A plain number type, little-endian."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """(version, byte order, ...): only the byte order can matter."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise pickle.UnpicklingError("numbers in an unusual byte order")
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("records instead of numbers")


class _StandInUnpickler(pickle.Unpickler):
    """Resolves every global to a stand-in made for this one pickle."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        # Its own class: a pickle can set attributes of a class, and those must not outlive it.
        self._ignored = type("Ignored", (), {"__new__": _new_ignored, "__setstate__": _ignore})

    def find_class(self, module: str, name: str) -> object:
        """Never imports: a stand-in, or a refusal."""
        full = f"{module}.{name}"
        plain = full.replace("numpy._core.", "numpy.core.")
        if plain == "numpy.ndarray":
            return "numpy.ndarray"
        if full in _JAX_ARRAYS:
            return sealed(self._jax_array)
        if full.startswith(_IGNORED_PACKAGES):
            return self._ignored
        match plain:
            case "collections.OrderedDict":
                return sealed(new_ordered_dict)
            case "flax.core.frozen_dict.FrozenDict":
                return sealed(self._frozen_dict)
            case "numpy.core.multiarray._reconstruct":
                return sealed(self._new_array)
            case "numpy.core.multiarray.scalar":
                return sealed(self._scalar)
            case "numpy.core.numeric._frombuffer":
                return sealed(self._array_of_buffer)
            case "numpy.dtype":
                return sealed(self._dtype)
            case "_codecs.encode":
                return sealed(self._bytes_of_text)
        raise pickle.UnpicklingError(f"it asks for {full!r}, which weights do not need")

    def persistent_load(self, pid: object) -> object:
        """Refuse references to elsewhere."""
        raise pickle.UnpicklingError("it refers to something outside")

    def _new_array(self, *_: object) -> _Array:
        return _Array()

    def _jax_array(self, make: object, args: object, state: object, _: object) -> _Array:
        array = _Array()
        array.__setstate__(state)
        return array

    def _array_of_buffer(
        self, content: object, dtype: object, shape: object, order: object
    ) -> NDArray[Any]:
        return _make_array(shape, dtype, content, order="F" if order == "F" else "C")

    def _scalar(self, dtype: object, content: object) -> object:
        return _make_array((), dtype, content, order="C")[()].item()

    def _dtype(self, code: object, *_: object) -> _Dtype:
        # A text before anything else: other things can be made to have endless representations.
        if not isinstance(code, str) or code not in _DTYPES:
            what = f"type {code[:20]!r}" if isinstance(code, str) else "no named type"
            raise pickle.UnpicklingError(f"numbers of {what}")
        return _Dtype(code)

    def _frozen_dict(self, content: object = None) -> dict[object, object]:
        if content is not None and not isinstance(content, dict):
            raise pickle.UnpicklingError("a FrozenDict without a dictionary")
        return content if content is not None else {}

    def _bytes_of_text(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("an encoding other than latin1")
        return text.encode("latin1")


def _new_ignored(cls: type, *_: object, **__: object) -> object:
    return object.__new__(cls)


def _ignore(self: object, state: object) -> None:
    """The state of an optimizer is not needed."""


def _make_array(shape: object, dtype: object, content: object, *, order: str) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError("an array that does not hold plain numbers")
    if not isinstance(shape, tuple) or len(shape) > 8:
        raise pickle.UnpicklingError("an array of impossible shape")
    if not all(isinstance(size, int) and 0 <= size < 2**40 for size in shape):
        raise pickle.UnpicklingError("an array of impossible shape")
    kind = np.dtype(f"<{dtype.code}")
    if math.prod(shape) * kind.itemsize != len(content):
        raise pickle.UnpicklingError(f"{len(content)} bytes for an array of shape {shape}")
    flat = np.frombuffer(content, kind)
    return flat.reshape(shape[::-1]).T if order == "F" else flat.reshape(shape)


def _leaf(item: object) -> tuple[object, int]:
    """Arrays in place of their stand-ins, numbers and texts; the rest as None."""
    plain = item.value if isinstance(item, _Array) else item
    if isinstance(plain, np.ndarray):
        return plain, plain.size
    return (plain if isinstance(plain, int | float | str) else None), 0
