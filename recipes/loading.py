"""Reads a configuration: defaults, then a preset, then the command line."""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import tyro
import yaml

from networks.config import with_current_names
from recipes.config import RunConfig
from recipes.errors import parse_words
from recipes.settings import list_settings, long_help, short_help
from records.run_dir import RunDir


def preset_names() -> tuple[str, ...]:
    """Presets that come with the package."""
    entries = files("recipes").joinpath("presets").iterdir()
    return tuple(sorted(e.name.removesuffix(".yaml") for e in entries if e.name.endswith(".yaml")))


def load_config(
    argv: Sequence[str], *, preset_text: str = "", prog: str = "", doc: str | None = None
) -> RunConfig:
    """Defaults, then the preset, then the command line; each overrides the one before.

    The preset is turned into command-line words instead of being read by a second parser, so an
    unknown key or a wrong type in a file fails with the same message as a mistyped option.

    Args:
        argv: options, without the program's name.
        preset_text: YAML.
        prog: name of the program, for messages.
        doc: what stands above the options in its help.

    Raises:
        ValueError: anything is wrong; one line.
        SystemExit: with status 0 after --help, which shows the values of the preset as the
            defaults that they are.
    """
    document = _read_yaml(preset_text) if preset_text else {}
    _use_current_names(document)
    _check_keys(document, RunConfig)
    words = to_words(document)
    if not HELP_WORDS.isdisjoint(argv):
        _show_help(words, verbose=not LONG_HELP_WORDS.isdisjoint(argv), prog=prog, doc=doc)
    return parse_words(
        lambda: tyro.cli(RunConfig, args=[*words, *argv], prog=prog or None, config=_STYLE),
        prog=prog,
    )


_STYLE = (tyro.conf.FlagConversionOff,)
LONG_HELP_WORDS = frozenset({"-H", "--help-verbose"})
HELP_WORDS = LONG_HELP_WORDS | {"-h", "--help"}
_SOME_GAMES = ("--games", "pong")


def _show_help(words: Sequence[str], *, verbose: bool, prog: str, doc: str | None) -> NoReturn:
    """Print help in which the preset's values are the defaults, and leave with status 0."""
    # A preset may leave the games to the command line; help has to say that they are missing.
    missing = () if "--games" in words else ("games",)
    given = [*words, *(_SOME_GAMES if missing else ())]
    config = parse_words(lambda: tyro.cli(RunConfig, args=given, config=_STYLE), prog=prog)
    groups = list_settings(RunConfig, config, missing=missing)
    print((long_help if verbose else short_help)(groups, prog=prog, doc=doc))
    raise SystemExit(0)


def load_preset(name_or_path: str) -> str:
    """Text of a preset: one that comes with the package, or a file.

    Raises:
        ValueError: there is no such preset, or it is no text.
    """
    if name_or_path in preset_names():
        return files("recipes").joinpath("presets", f"{name_or_path}.yaml").read_text()
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the preset {path} cannot be read as UTF-8 text: {error}") from None
    raise ValueError(
        f"unknown preset {name_or_path!r}; choose one of {', '.join(preset_names())}, "
        "or give the path of a YAML file"
    )


def describe_preset(name: str) -> str:
    """The first sentence of the comment at the top of a preset that comes with the package."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), load_preset(name).splitlines())
    return " ".join(line.strip("# ") for line in lines).partition(". ")[0].rstrip(".")


def dump_config(config: RunConfig) -> str:
    """A config as YAML that is itself a valid preset."""
    document = asdict(config)
    for name in _NOT_IN_PRESETS:
        document.pop(name, None)
    text: str = yaml.safe_dump(plain(document), sort_keys=False)
    return text


def dotted_settings(config: RunConfig) -> dict[str, Any]:
    """What `dump_config` writes, by dotted names: {"replay.batch_size": 128, ...}."""
    return flatten(yaml.safe_load(dump_config(config)))


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"replay": {"batch_size": 128}} as {"replay.batch_size": 128}."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return found


def _use_current_names(document: dict[str, Any]) -> None:
    """Rename, in place, what runs and presets of earlier versions call otherwise."""
    if isinstance(document.get("network"), dict):
        document["network"] = with_current_names(document["network"])


def _read_yaml(text: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, _OnceLoader)  # A safe loader, but for repeated keys.
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"the preset is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ValueError("the preset must be a mapping of option names to values")
    return document


class _OnceLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, if all of its keys differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(
                    f"the preset's line {key.start_mark.line + 1} has no name of a setting"
                )
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"the preset has {key.value} twice (line {line}); merge the two")
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


# They say where a run lies or comes from, not what it is; and a URL may hold a password.
_NOT_IN_PRESETS = ("preset", "resume", "run_dir", "redis_url")


def _check_keys(document: dict[str, Any], config_class: type[Any], prefix: str = "") -> None:
    """Raises ValueError for a name that is no setting; one without a value never becomes a word."""
    hints = get_type_hints(config_class)
    for key, value in document.items():
        name = str(key).replace("-", "_")
        if not prefix and name in _NOT_IN_PRESETS:
            raise ValueError(
                f"a preset cannot set {key}, which says where a run lies; use the option "
                f"--{name.replace('_', '-')}"
            )
        if name not in hints:
            close = difflib.get_close_matches(name, hints, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise ValueError(f"a preset cannot set {prefix}{key}{hint}")
        if is_dataclass(hints[name]) != isinstance(value, dict):
            kind = "a group of settings" if is_dataclass(hints[name]) else "a single setting"
            raise ValueError(f"{prefix}{key} is {kind}, but the preset has {value!r} there")
        if isinstance(value, dict):
            _check_keys(value, hints[name], f"{prefix}{key}.")


def to_words(node: dict[str, Any], prefix: str = "--") -> list[str]:
    """{"replay": {"batch_size": 5}} or {"replay.batch_size": 5} as ["--replay.batch-size", "5"]."""
    words: list[str] = []
    for key, value in node.items():
        option = f"{prefix}{key}".replace("_", "-")
        if isinstance(value, dict):
            words += to_words(value, f"{option}.")
        elif isinstance(value, list | tuple):
            words += [option, *map(str, value)] if value else []
        elif value not in ("", None):
            words += [option, str(value)]
    return words


def plain(node: Any) -> Any:
    """Tuples as lists, which is all that YAML knows."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return node


# Name of a preset that was not named, but for the games that were.
OWN_GAMES = "custom"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command line asks for, before the options are read."""

    # Name of the preset, or of the run that is resumed.
    preset: str
    # YAML that the options override.
    preset_text: str
    # The rest of the command line.
    options: tuple[str, ...]
    # The run to go on with.
    resumed: RunDir | None


def parse_invocation(argv: Sequence[str], *, default_preset: str) -> Invocation:
    """Find `--preset` and `--resume`, which decide what the other options override.

    Raises:
        ValueError: unknown preset, both options at once, or a folder that is not a run.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset")
    parser.add_argument("--resume")
    try:
        known, options = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise ValueError(f"{error.argument_name}: {error.message}") from None
    if known.resume is None:
        preset = known.preset or default_preset
        text = load_preset(preset) if preset else ""
        # With other games it is no longer the run that the default preset describes.
        names_games = any(option.split("=")[0] == "--games" for option in options)
        is_own = known.preset is None and names_games and re.search(r"^games:", text, re.MULTILINE)
        return Invocation(OWN_GAMES if is_own else Path(preset).stem, text, tuple(options), None)
    if known.preset is not None:
        raise ValueError("--resume goes on with the run's own settings; leave --preset out")
    if any(option.split("=")[0] in ("--run-dir", "--run_dir") for option in options):
        raise ValueError("--resume writes into the run it resumes; leave --run-dir out")
    run = RunDir.open_existing(Path(known.resume))
    return Invocation(run.preset, run.config_path.read_text(), tuple(options), run)


def build_config(invocation: Invocation, *, prog: str, doc: str | None = None) -> RunConfig:
    """Defaults, then the preset, then the options; ValueError if they are wrong."""
    text = invocation.preset_text
    try:
        return load_config(invocation.options, preset_text=text, prog=prog, doc=doc)
    except ValueError:
        if invocation.resumed is not None:
            # Damaged settings are said to be the run's, not a mistake in the options.
            load_run_config(invocation.resumed)
        raise


def load_run_config(run: RunDir) -> RunConfig:
    """The settings that a run was last carried with; ValueError if they are damaged."""
    try:
        return load_config((), preset_text=run.config_path.read_text())
    except ValueError as error:
        raise ValueError(f"{run.config_path} is damaged: {error}") from None
