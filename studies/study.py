"""A study as data: named sets of options (arms), seeds and games of one ordinary command.

A study is a YAML file. Every arm, seed and game is a *unit*, one run of the command with the
study's options and the arm's on top. All mistakes are found here, before anything runs, each with
one line: the file's own by pydantic, those in the options by the command's own parser.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from games.registry import get_game
from recipes.config import RunConfig
from recipes.loading import build_config, parse_invocation
from recipes.population import PopulationConfig, parse_population

Value: TypeAlias = bool | int | float | str | list[int | float | str]
# Options by their names on the command line, without dashes: `{"replay.sampler": "rank"}`. In a
# study whose games are runs of their own, `{game}` within a value stands for the unit's game.
Options: TypeAlias = dict[str, Value]
Command: TypeAlias = Literal["multitask", "experts", "transfer", "population"]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$")]

# Stands for the game of a unit whose one run plays every game of its options.
ALL_GAMES = "all"

# Preset of each command where the options name none; as in launch/.
_DEFAULT_PRESETS = {
    "multitask": "quickstart",
    "experts": "experts",
    "transfer": "transfer",
    "population": "quickstart",
}
# Options that the runner gives to each unit itself, or that hold a password.
_NOT_IN_A_STUDY = ("seed", "run-dir", "resume", "redis-url")
# Folders in a study's folder that no arm may be called like.
_FILES_OF_THE_REPORT = ("figures",)


class Study(BaseModel):
    """The content of a study's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # First line of the report.
    title: str = ""
    # The script in launch/ that every unit is a run of.
    command: Command = "multitask"
    # Options that all arms share.
    options: Options = {}
    # Named sets of options, on top of the shared ones, that are compared.
    arms: dict[Name, Options] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    # Games that get a run each; empty: one run plays all games of its options.
    games: list[str] = []
    # Arm that differences are taken from; the first one if empty.
    reference: str = ""
    # What the figures show: `score`, or any figure of a test in docs/metrics.md (`kl`,
    # `agreement`).
    measures: list[str] = ["score"]
    # Scale on which scores of several games are put together: 0 is random play, 1 the reference
    # score. `none` needs no reference scores.
    normalize: Literal["none", "teacher", "human"] = "none"
    # Score of each game whose steps-to-threshold are reported; without, what the reference arm
    # reaches at the end.
    thresholds: dict[str, float] = {}
    # Threshold of the other games, as a share of the score of the teacher that some arm has there.
    threshold_of_teacher: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    # Steps per second to plan with until a unit has been measured.
    pace_steps_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @field_validator("games")
    @classmethod
    def _name(cls, games: list[str]) -> list[str]:
        return [get_game(game).name for game in games]

    @model_validator(mode="after")
    def _check(self) -> Study:
        for name in ("seeds", "games"):
            values = getattr(self, name)
            if twice := sorted({str(value) for value in values if values.count(value) > 1}):
                raise ValueError(f"{name} has {', '.join(twice)} twice")
        if self.reference and self.reference not in self.arms:
            raise ValueError(
                f"reference {self.reference!r} is none of the arms {', '.join(self.arms)}"
            )
        for arm, own in self.arms.items():
            if arm in _FILES_OF_THE_REPORT:
                raise ValueError(f"an arm cannot be called {arm!r}: the report lies there")
            for option in {**self.options, **own}:
                self._check_option(arm, option.replace("_", "-"))
        return self

    def _check_option(self, arm: str, option: str) -> None:
        if option in _NOT_IN_A_STUDY:
            raise ValueError(f"arm {arm} sets {option}, which every unit gets by itself")
        if option == "games" and self.games:
            raise ValueError(f"arm {arm} sets games, but the study gives every game its own run")

    @property
    def reference_arm(self) -> str:
        """The arm that differences are taken from."""
        return self.reference or next(iter(self.arms))

    def units(self) -> list[Unit]:
        """All units, seed by seed, so that a study cut short has compared all of its arms."""
        return [
            Unit(self.command, arm, game, seed, tuple(self._words(own, game)))
            for seed in self.seeds
            for game in self.games or [ALL_GAMES]
            for arm, own in self.arms.items()
        ]

    def _words(self, own: Options, game: str) -> Iterator[str]:
        shared = {name.replace("_", "-"): value for name, value in self.options.items()}
        options = shared | {name.replace("_", "-"): value for name, value in own.items()}
        if game != ALL_GAMES:
            yield from ("--games", game)
        for name, value in options.items():
            yield f"--{name}"
            for word in map(str, value if isinstance(value, list) else [value]):
                yield word if game == ALL_GAMES else word.replace("{game}", game)


@dataclass(frozen=True, slots=True)
class Unit:
    """One run of a study."""

    command: Command
    arm: str
    # ALL_GAMES where one run plays them all.
    game: str
    seed: int
    # Words of the command line, without seed and folder.
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """ARM/GAME/SEED, also the unit's folder inside the study's."""
        return f"{self.arm}/{self.game}/{self.seed}"

    def load_config(self) -> RunConfig:
        """The unit's settings, by the command's own parser."""
        try:
            return _load_config(self.command, self.options)
        except ValueError as error:
            raise ValueError(f"arm {self.arm}: {error}") from None

    def fingerprint(self) -> str:
        """Changes with the options and with the text of the preset that they name."""
        preset = _DEFAULT_PRESETS[self.command]
        text = parse_invocation(self.options, default_preset=preset).preset_text
        whole = "\n".join([self.command, *self.options, text])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def num_steps(self) -> int:
        """Steps of the whole unit: of experts in every game, of a population by every member."""
        config = self.load_config()
        if self.command == "population":
            return config.num_steps * _population_of(self.options)[0].members
        return config.num_steps * (len(config.games) if self.command == "experts" else 1)


@functools.cache
def _load_config(command: Command, options: tuple[str, ...]) -> RunConfig:
    """Settings of a command with these options; ValueError with the parser's complaint."""
    words: Sequence[str] = options
    if command == "transfer":
        words = _transfer_settings(options)
    elif command == "population":
        words = _population_of(options)[1]
    invocation = parse_invocation(words, default_preset=_DEFAULT_PRESETS[command])
    return build_config(invocation, prog=f"{command}.py")


def _population_of(options: Sequence[str]) -> tuple[PopulationConfig, list[str]]:
    """The population's own settings, and the words that are its members'."""
    return parse_population(options, prog="population.py")


def _transfer_settings(options: Sequence[str]) -> list[str]:
    """The options with the setting that `--from` of launch/transfer.py stands for."""
    words = ["--start-from" if word == "--from" else word for word in options]
    if "--start-from" not in words:
        raise ValueError("from is missing: name a run, a student or an expert, or none")
    return words


def shipped_studies() -> tuple[str, ...]:
    """Names of the studies that come with the package."""
    names = (entry.name for entry in files("studies").iterdir())
    return tuple(sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")))


def read_study(name_or_path: str) -> tuple[str, Study]:
    """(name, study) from a file, or the shipped study of that name."""
    path = Path(name_or_path)
    try:
        if name_or_path in shipped_studies():
            text = files("studies").joinpath(f"{name_or_path}.yaml").read_text()
        else:
            text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(
            f"cannot read the study {name_or_path}: {reason}; shipped are "
            f"{', '.join(shipped_studies())}"
        ) from None
    try:
        return path.stem, Study.model_validate(_read_yaml(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{name_or_path}: {f'{place}: ' if place else ''}{said}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{name_or_path}: {' '.join(str(error).split())}") from None


def _read_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_UniqueKeys)


class _UniqueKeys(yaml.SafeLoader):  # type: ignore[misc]
    """A safe loader that refuses a key given twice: of two arms of one name YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            line = node.start_mark.line + 1
            raise ValueError(f"{', '.join(twice)} is there twice, below line {line}")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping
