"""Looks through a pickle without running it: what it would import, which texts it holds.

A first line of defence in front of the unpicklers, which import nothing either, and a way of
telling formats apart. `pickletools.genops` only splits the bytes into opcodes.

Keys of dictionaries must be texts or numbers, and there are no sets. Python computes the hash of a
tuple from all its parts every time, so a tuple of two references to a tuple of two references, and
so on, takes 2^n steps: five hundred bytes would keep a machine busy for years, and nothing could
interrupt it.
"""

import io
import operator
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum

from teachers.formats.bounded_files import MAX_ELEMENTS

# A quantile agent's checkpoint, with its target network and optimizer, has about 100 MB.
_MAX_BYTES = 256 * 2**20
# A state_dict has thousands; a checkpoint with the logs of a whole training a million.
_MAX_OPCODES = 3_000_000
# Texts that are kept: enough to find a key, too few to fill the memory.
_MAX_STRINGS = 10_000
# Longest text that is read; names of modules and keys are shorter.
_MAX_KEPT_CHARS = 200
_STRINGS = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINUNICODE8", "STRING", "SHORT_BINSTRING"}
)
# Names in pickletools of what an opcode may leave on the stack and has no parts.
_PLAIN_TYPES = frozenset(
    {"int", "int_or_bool", "bool", "float", "None", "str", "bytes", "bytes_or_str"}
)
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_FILLS = frozenset({"SETITEM", "SETITEMS", "DICT"})
_SETS = frozenset({"EMPTY_SET", "ADDITEMS", "FROZENSET"})
_EXTENSIONS = frozenset({"EXT1", "EXT2", "EXT4"})


@dataclass(slots=True)
class PickleContents:
    """What one pickle holds."""

    # "module.name" of every global it names; "?" for a part that the scan cannot see.
    imports: set[str] = field(default_factory=set)
    # The texts in it, cut at 200 characters; the keys of its dictionaries are among them.
    strings: set[str] = field(default_factory=set)
    # Where it ends.
    num_bytes: int = 0


def scan_pickle(data: bytes, *, source: str) -> PickleContents:
    """Scan the pickle at the start of `data`."""
    # A text of that size is four times as large in memory if one of its characters is odd.
    if len(data) > _MAX_BYTES:
        raise ValueError(
            f"{source} has {len(data)} bytes; at most {_MAX_BYTES} of a pickle are read"
        )
    stream = io.BytesIO(data)
    contents = PickleContents()
    stack = _Stack()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            _check(opcode.name, argument, number)
            if opcode.name in ("GLOBAL", "INST"):
                contents.imports.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                contents.imports.add(stack.name_of_global())
            elif opcode.name in _FILLS:
                stack.check_keys(is_single=opcode.name == "SETITEM")
            elif opcode.name in _STRINGS and len(contents.strings) < _MAX_STRINGS:
                contents.strings.add(str(argument)[:_MAX_KEPT_CHARS])
            stack.follow(opcode, argument)
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"{source} is not a whole pickle: {error}") from error
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
    """Wrap a method as something that a pickle can call but set no attributes of.

    Those that it sets on a method land on the function behind it, and would outlive the pickle.
    """
    call: object = operator.attrgetter("__call__")(method)
    return call


def new_ordered_dict() -> OrderedDict[object, object]:
    """What a pickle gets for collections.OrderedDict: an empty one, to be filled by SETITEMS.

    A list of pairs, which the type itself takes as well, could have any keys.
    """
    return OrderedDict()


def plain_tree(
    value: object,
    leaf: Callable[[object], tuple[object, int]],
    *,
    max_depth: int,
    max_parts: int,
) -> object:
    """Dictionaries and lists as such, without whatever attributes a file hung on them.

    `leaf` gives what takes the place of anything else, and how many elements that has.
    """
    budget = iter(range(max_parts))
    num_elements = 0

    def visit(item: object, depth: int) -> object:
        nonlocal num_elements
        if depth > max_depth or next(budget, None) is None:
            raise ValueError("it is nested too deeply, or has too many parts")
        if isinstance(item, dict):
            # dict.items: an attribute of the instance could hide the method.
            return {key: visit(part, depth + 1) for key, part in dict.items(item)}
        if isinstance(item, list | tuple):
            return [visit(part, depth + 1) for part in item]
        # Counted wherever it stands, since whoever converts it makes a copy for each place.
        plain, size = leaf(item)
        num_elements += size
        if num_elements > MAX_ELEMENTS:
            raise ValueError(f"it has more than {MAX_ELEMENTS} elements")
        return plain

    return visit(value, 0)


def _check(opcode: str, argument: object, number: int) -> None:
    if number > _MAX_OPCODES:
        raise ValueError(f"it has more than {_MAX_OPCODES} opcodes")
    # An unpickler makes room for every memo entry below the highest.
    is_put = opcode in _PUTS and opcode != "MEMOIZE"
    if is_put and not (isinstance(argument, int) and 0 <= argument <= number):
        raise ValueError(f"memo entry {argument} at opcode {number}")
    if opcode in _EXTENSIONS:
        raise ValueError("it uses extension codes")
    if opcode in _SETS:
        raise ValueError("it has sets")


class _Kind(Enum):
    """What is known of a value on the stack, apart from short texts."""

    # A number, a text, bytes or None.
    PLAIN = 1
    OTHER = 2
    MARK = 3


class _Stack:
    """The stack of the machine that a pickle is a program for, with kinds in place of values."""

    def __init__(self) -> None:
        self._items: list[str | _Kind] = []
        self._memo: dict[int, str | _Kind] = {}

    def name_of_global(self) -> str:
        """What a STACK_GLOBAL here would import."""
        names = [item if isinstance(item, str) else "?" for item in self._items[-2:]]
        return ".".join(names)

    def check_keys(self, *, is_single: bool) -> None:
        """Raise ValueError if a dictionary is about to get a key that has parts."""
        keys = self._items[-2:-1] if is_single else self._items[self._last_mark() + 1 :: 2]
        if any(isinstance(key, _Kind) and key is not _Kind.PLAIN for key in keys):
            raise ValueError("a key of a dictionary is neither a text nor a number")

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Do to the stack what the opcode does; IndexError if it cannot."""
        if opcode.name in _PUTS:
            place = argument if isinstance(argument, int) else len(self._memo)
            self._memo[place] = self._items[-1]
            return
        if opcode.name in _GETS and isinstance(argument, int):
            self._items.append(self._memo.get(argument, _Kind.OTHER))
            return
        self._pop(opcode)
        if opcode.name in _STRINGS:
            text = str(argument)
            self._items.append(text if len(text) <= _MAX_KEPT_CHARS else _Kind.PLAIN)
            return
        for left in opcode.stack_after:
            is_plain = left.name in _PLAIN_TYPES
            is_mark = left is pickletools.markobject
            self._items.append(_Kind.MARK if is_mark else _Kind.PLAIN if is_plain else _Kind.OTHER)

    def _pop(self, opcode: pickletools.OpcodeInfo) -> None:
        taken = opcode.stack_before
        is_lone_mark = opcode.name == "POP" and self._items[-1] is _Kind.MARK
        if pickletools.markobject in taken and not is_lone_mark:
            del self._items[self._last_mark() :]
            taken = taken[: taken.index(pickletools.markobject)]
        for _ in taken:
            self._items.pop()

    def _last_mark(self) -> int:
        for place in range(len(self._items) - 1, -1, -1):
            if self._items[place] is _Kind.MARK:
                return place
        raise IndexError("there is no mark on the stack")
