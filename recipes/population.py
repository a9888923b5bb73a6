"""Settings of a population: members that learn apart, copy better ones, and change settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro
import yaml
from annotated_types import Ge, Gt, Interval
from pydantic import TypeAdapter, ValidationError

from recipes.errors import parse_words
from recipes.loading import plain
from records.population import PopulationFiles
from records.run_dir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploitConfig:
    """When a member goes on from another one's weights."""

    enabled: bool | None = None
    """Whether members copy; without, they do if there are several."""
    margin: Annotated[float, Ge(0)] = 0.05
    """A member copies another one only if that scores better by more than this."""
    margin_is: Literal["absolute", "relative"] = "absolute"
    """`absolute`: on the scale of `normalize`; `relative`: as a part of the copying member's own
    score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreConfig:
    """How a member changes its settings after each comparison, copied or not."""

    enabled: bool | None = None
    """Whether settings change; without, they do if there are several members."""
    probability: Annotated[float, Interval(ge=0, le=1)] = 1 / 3
    """Probability that a setting changes."""
    factor: Annotated[float, Gt(1)] = 1.2
    """A setting that changes is multiplied by this or divided by it, each as often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationConfig:
    """Several runs that learn from each other."""

    members: Annotated[int, Interval(ge=1, le=1024)] = 4
    """Runs of the population, each with a learner, actors and replay of its own."""
    tune: tuple[str, ...] = ()
    """Settings that are tuned; without, learner.learning-rate and, where teachers are asked beside
    rewards, distillation.weight."""
    bounds: tuple[str, ...] = ()
    """`setting=low,high`: where a tuned setting stays; low is above 0, which no factor leaves."""
    initial: tuple[str, ...] = ()
    """`setting=low,high`: where members' first values are drawn from, log-uniformly; without, from
    the bounds."""
    slice_steps: Annotated[int, Ge(0)] = 0
    """Steps of a member, all games together, between two comparisons; 0: a tenth of its run,
    and at least 750."""
    burn_in_steps: Annotated[int, Ge(0)] = 0
    """Steps of a member before its first copy, and before its first change of settings."""
    normalize: Literal["auto", "teacher", "human", "none"] = "auto"
    """Scale of scores: 0 is random play, 1 the teacher's or the human's score; `none`: raw scores.
    `auto`: teacher where all games have one with a known score, else human, else none."""
    score_cap: Annotated[float, Ge(0)] = 0.0
    """What a single game's normalized score counts at most; 0: no cap."""
    student: Literal["best", "median"] = "best"
    """Which member's network the population ends with: `median` shows what a setting of the same
    draw is worth without picking the best, for comparisons."""
    side_by_side: bool | None = None
    """Whether members run at once, each in processes of its own, instead of one after the other, a
    slice each, in this one; without, they do with the Ray engine, which needs it."""
    address: str = ""
    """Dashboard of a Ray cluster (http://127.0.0.1:8265), to make each member a job of it."""
    exploit: ExploitConfig = field(default_factory=ExploitConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)

    def __post_init__(self) -> None:
        """Refuse what a single member cannot do, and jobs that would take turns."""
        if self.address and self.side_by_side is False:
            raise ValueError("members that are jobs run side by side; leave out one of the two")
        for name in ("exploit", "explore"):
            if self.members == 1 and getattr(self, name).enabled:
                raise ValueError(
                    f"a population of one has nobody to learn from; leave --{name}.enabled out, or "
                    "ask for more --members"
                )

    @property
    def exploits(self) -> bool:
        """Whether members copy."""
        return self.members > 1 and self.exploit.enabled is not False

    @property
    def explores(self) -> bool:
        """Whether settings change."""
        return self.members > 1 and self.explore.enabled is not False


def parse_population(
    argv: Sequence[str], *, prog: str, base: PopulationConfig | None = None
) -> tuple[PopulationConfig, list[str]]:
    """The population's own options, and all other words, which are a run's.

    `base` has the values of what is not given. ValueError for a mistake.
    """
    unknown: list[str] = []

    def parse() -> PopulationConfig:
        config, others = tyro.cli(
            PopulationConfig,
            args=list(argv),
            prog=prog,
            default=base or PopulationConfig(),
            config=(tyro.conf.FlagConversionOff,),
            return_unknown_args=True,
        )
        unknown.extend(others)
        return config

    return parse_words(parse, prog=prog), unknown


# Settings that make members comparable.
_FIXED = ("members", "tune", "normalize", "score_cap")


def check_same_population(before: PopulationConfig, now: PopulationConfig) -> None:
    """Raises ValueError for changes after which members could not be compared any more."""
    for name in _FIXED:
        had, wanted = getattr(before, name), getattr(now, name)
        if had != wanted:
            raise ValueError(
                f"--resume cannot change {name}: the population has {had}, the options say "
                f"{wanted}; start a new one"
            )


def dump_population(config: PopulationConfig) -> str:
    """The settings as YAML."""
    text: str = yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False)
    return text


def population_of(run: RunDir) -> PopulationConfig:
    """Settings of the population in a folder; ValueError if it is none, or the file is damaged."""
    path = PopulationFiles(run.path).settings
    if not path.is_file():
        raise ValueError(
            f"{run.path} is not a population's folder: it has no {path.name}; a run by itself goes "
            "on with launch/multitask.py --resume"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    return read_population(text)


def read_population(text: str) -> PopulationConfig:
    """What `dump_population` wrote; ValueError for anything else."""
    try:
        return TypeAdapter(PopulationConfig).validate_python(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"population.yaml is damaged: {reason}") from None
