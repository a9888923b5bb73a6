"""Looks through a pickle without running it: what it would import, which texts it holds.

A first line of defence in front of the unpicklers, which import nothing either, and a way of
telling formats apart. `pickletools.genops` only splits the bytes into opcodes.
"""

import io
import operator
import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

_MAX_OPCODES = 5_000_000
"""A state_dict has thousands; a checkpoint with the logs of a whole training a million."""
_MAX_STRINGS = 10_000
"""Texts that are kept: enough to find a key, too few to fill the memory."""
_STRINGS = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINUNICODE8", "STRING", "SHORT_BINSTRING"}
)
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_EXTENSIONS = frozenset({"EXT1", "EXT2", "EXT4"})


@dataclass(slots=True)
class PickleContents:
    """What one pickle holds."""

    imports: set[str] = field(default_factory=set)
    """"module.name" of every global it names; "?" for a part that the scan cannot see."""
    strings: set[str] = field(default_factory=set)
    """The texts in it, cut at 200 characters; the keys of its dictionaries are among them."""
    num_bytes: int = 0
    """Where it ends."""


def scan_pickle(data: bytes, *, source: str) -> PickleContents:
    """Scan the pickle at the start of `data`.

    Raises:
        ValueError: it is damaged, has too many opcodes, or uses some that no checkpoint needs.
    """
    stream = io.BytesIO(data)
    contents = PickleContents()
    texts = _Texts()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            _check(opcode.name, argument, number)
            if opcode.name in ("GLOBAL", "INST"):
                contents.imports.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                contents.imports.add(texts.name_of_global())
            texts.follow(opcode.name, argument)
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"{source} is not a whole pickle: {error}") from error
    contents.strings = texts.seen
    contents.num_bytes = stream.tell()
    return contents


def check_imports(contents: PickleContents, allowed: Collection[str], *, source: str) -> None:
    """Raise ValueError if the pickle names a global that is not allowed."""
    if refused := sorted(contents.imports.difference(allowed)):
        raise ValueError(
            f"{source} asks for {', '.join(map(repr, refused[:3]))[:200]}, which weights do not "
            "need; nothing was run (save a plain state_dict, with plain numbers beside it)"
        )


def sealed(method: Callable[..., object]) -> object:
    """The same method, as something that a pickle can call but set no attributes of.

    Those that it sets on a method land on the function behind it, and would outlive the pickle.
    """
    call: object = operator.attrgetter("__call__")(method)
    return call


def _check(opcode: str, argument: object, number: int) -> None:
    if number > _MAX_OPCODES:
        raise ValueError(f"it has more than {_MAX_OPCODES} opcodes")
    # An unpickler makes room for every memo entry below the highest.
    if opcode in _PUTS and not (isinstance(argument, int) and 0 <= argument <= number):
        raise ValueError(f"memo entry {argument} at opcode {number}")
    if opcode in _EXTENSIONS:
        raise ValueError("it uses extension codes")


class _Texts:
    """The texts seen, and the last two on the stack: a STACK_GLOBAL takes its names from there."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._last: tuple[str | None, str | None] = (None, None)
        self._memo: dict[int, str | None] = {}

    def name_of_global(self) -> str:
        module, name = self._last
        return f"{module or '?'}.{name or '?'}"

    def follow(self, opcode: str, argument: object) -> None:
        if opcode in _STRINGS:
            self._push(str(argument))
            if len(self.seen) < _MAX_STRINGS:
                self.seen.add(str(argument)[:200])
        elif opcode in _GETS and isinstance(argument, int):
            self._push(self._memo.get(argument))
        elif opcode == "MEMOIZE":
            self._memo[len(self._memo)] = self._last[1]
        elif opcode in _PUTS and isinstance(argument, int):
            self._memo[argument] = self._last[1]
        elif opcode not in ("FRAME", "PROTO"):
            self._last = (None, None)

    def _push(self, text: str | None) -> None:
        self._last = (self._last[1], text)
