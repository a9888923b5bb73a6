"""What settings there are: names, kinds, values, ranges and meanings, read off the dataclasses.

The source of the short help (below) and of docs/configuration.md. A field's meaning is the string
that stands under it in the source, as everywhere in this project.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from recipes.ranges import describe_limits, find_limits

# Columns. A meaning that would have less room than this stays out of the short help.
_MIN_MEANING = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One option of a command, which is one field of a configuration."""

    # Dotted name, such as `replay.batch_size`.
    name: str
    # What it takes: `int`, `float`, `text`, or its choices with bars between them.
    kind: str
    # Default, or what is in force.
    value: Any
    # Whether nothing is in force, so that the option has to be given.
    is_missing: bool = False
    # What a number must do, in words: "be at least 1"; empty for anything.
    limits: str
    # The sentence under the field.
    meaning: str

    @property
    def option(self) -> str:
        """The name as it is typed."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def shown_value(self) -> str:
        """The value as it would be typed; `-` for none."""
        if self.is_missing:
            return "(required)"
        if isinstance(self.value, tuple):
            return " ".join(map(str, self.value)) or "-"
        return "-" if self.value in (None, "") else str(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Settings that belong together: those of one dataclass."""

    # What stands before the dot; empty for the settings of the run itself.
    name: str
    meaning: str
    settings: tuple[Setting, ...]


def list_settings(
    kind: type[Any], config: Any = None, *, missing: Sequence[str] = ()
) -> list[Group]:
    """All settings of a configuration class, the run's own first.

    Args:
        kind: a dataclass whose fields may be dataclasses.
        config: one of that class whose values are shown; without it, the defaults are.
        missing: names of the run's own settings that have no value yet, whatever `config` says.
    """
    own, groups = [], []
    hints = get_type_hints(kind, include_extras=True)
    for item in fields(kind):
        value = getattr(config, item.name) if config is not None else _default(item)
        hint = hints[item.name]
        if is_dataclass(hint) and isinstance(hint, type):
            inner = value if value is not None else hint()
            settings = tuple(_settings(hint, inner, f"{item.name}."))
            groups.append(Group(name=item.name, meaning=_doc(hint), settings=settings))
        else:
            setting = _setting(kind, item.name, item.name, hint, value)
            own.append(replace(setting, is_missing=item.name in missing))
    return [Group(name="", meaning=_doc(kind), settings=tuple(own)), *groups]


def _settings(kind: type[Any], config: Any, prefix: str) -> Iterator[Setting]:
    hints = get_type_hints(kind, include_extras=True)
    for item in fields(kind):
        name, value = f"{prefix}{item.name}", getattr(config, item.name)
        yield _setting(kind, item.name, name, hints[item.name], value)


def _setting(kind: Any, field: str, name: str, hint: Any, value: Any) -> Setting:
    return Setting(
        name=name,
        kind=_kind(hint),
        value=value,
        limits=describe_limits(find_limits(hint)),
        meaning=_meanings(kind).get(field, ""),
    )


def _default(item: Any) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return None if item.default is MISSING else item.default


def _kind(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Annotated:
        return _kind(hint.__origin__)
    if origin is Literal:
        return " | ".join(map(str, get_args(hint)))
    if origin in (Union, UnionType):
        return " | ".join(_kind(a) for a in get_args(hint) if a is not NoneType)
    if origin is tuple:
        return f"{_kind(get_args(hint)[0])} ..."
    return "text" if hint is str else str(hint.__name__)


def _doc(kind: type[Any]) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


@cache
def _meanings(kind: type[Any]) -> dict[str, str]:
    """The string under each field, of the class and of those it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base):
            continue
        (definition,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def short_help(groups: Sequence[Group], *, prog: str, doc: str | None) -> str:
    """Help with a line for each option: its name, the value in force, the start of its meaning."""
    lines = [*_head(prog, doc), "Options, with the values in force (-H says more of each):"]
    unused = _of_other_objectives(groups)
    lines += short_lines([group for group in groups if group.name not in unused])
    if unused:
        lines.append(f"Left out, as other objectives use them: {', '.join(unused)} (-H has them).")
    return "\n".join(lines)


def short_lines(groups: Sequence[Group]) -> list[str]:
    """A line for each option: its name, the value in force, the start of its meaning."""
    width = max(100, min(shutil.get_terminal_size().columns, 160))
    lines = []
    for group in groups:
        lines.append(f"{group.name}: {group.meaning}" if group.name else "")
        lines += [_short(setting, width) for setting in group.settings]
    return lines


def _of_other_objectives(groups: Sequence[Group]) -> list[str]:
    """Names of groups that learning from teachers alone, or from rewards alone, does not read."""
    settings = [setting for group in groups for setting in group.settings]
    objective = next((setting for setting in settings if setting.name == "objective"), None)
    if objective is None or objective.value not in ("mimic", "dqn"):
        return []
    others = set(objective.kind.split(" | ")) - {objective.value}
    return [group.name for group in groups if group.name in others]


def long_help(groups: Sequence[Group], *, prog: str, doc: str | None) -> str:
    """Help with the whole meaning of each option, what it takes, and its range."""
    return "\n".join([*_head(prog, doc), "Options, with the values in force:", *long_lines(groups)])


def long_lines(groups: Sequence[Group]) -> list[str]:
    """The whole meaning of each option, what it takes, and its range."""
    lines = []
    for group in groups:
        lines += ["", f"{group.name}: {group.meaning}" if group.name else group.meaning]
        for setting in group.settings:
            limits = f", must {setting.limits}" if setting.limits else ""
            lines.append(f"  {setting.option} {setting.shown_value}  [{setting.kind}{limits}]")
            lines += textwrap.wrap(
                setting.meaning, 92, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
    return lines


def _head(prog: str, doc: str | None) -> list[str]:
    return [f"usage: {prog} [OPTIONS]", "", *(doc or "").strip().splitlines(), ""]


def _short(setting: Setting, width: int) -> str:
    start = f"  {setting.option} {setting.shown_value}  "
    # A second column where it fits: values of most options are short.
    start = f"{start:<46}"
    room = width - len(start)
    if room < _MIN_MEANING:
        return start.rstrip()
    choices = f"[{setting.kind}] " if " | " in setting.kind else ""
    meaning = choices + setting.meaning.partition(". ")[0].rstrip(".")
    return start + (meaning if len(meaning) <= room else f"{meaning[: room - 3].rstrip()}...")
