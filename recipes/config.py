"""Configuration of a run: defaults, then a preset, then the command line.

A component's own config dataclass lives beside the component; here they are composed. All counts
of steps are agent decisions; 1 step = 4 frames in Atari.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval

from actors.config import ActorConfig
from games.by_path import is_path, search_in, source_folders
from games.env import get_protocol
from games.registry import get_game
from learner.config import LearnerConfig
from learner.objectives.config import (
    ActorCriticConfig,
    DistillationConfig,
    DqnConfig,
    MimicConfig,
)
from networks.config import NetworkConfig, check_torso_fits
from recipes.balance import BalanceConfig
from recipes.of_an_engine import check_engine_options
from recipes.per_game import (
    any_text,
    parse_lists_per_game,
    parse_per_game,
    positive_float,
    positive_int,
)
from recipes.ranges import check_ranges
from records.trackers import MetricsConfig
from replay.config import ReplayConfig
from replay.pace.game_settings import GameSettings, check_game_settings
from replay.pace.slices import check_every_shard_is_fed
from teachers.hub import fill_in, is_hub_reference, is_pattern, pin
from teachers.shipped import shipped_experts


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How networks are tested."""

    num_episodes: Annotated[int, Ge(1)] = 20
    """Whole episodes per game."""
    epsilon: Annotated[float, Interval(ge=0, le=1)] = 0.05
    """Probability of a random action (paper: 0.05)."""
    num_envs: Annotated[int, Interval(ge=1, le=1024)] = 10
    """Episodes played at the same time."""
    period_steps: Annotated[int, Ge(0)] = 0
    """Steps of the run, all games together, between two tests while it runs; 0: only at the end."""
    period_episodes: Annotated[int, Ge(0)] = 0
    """Whole episodes per game of a test while the run goes on; 0: as many as at the end."""
    check_teachers: Annotated[int, Ge(0)] = 5
    """Episodes that every teacher plays beside the run, by its rules, with a warning if it is far
    below its card or near random; 0: none. Only for students."""

    @property
    def episodes_meanwhile(self) -> int:
        """Whole episodes per game of a test while the run goes on."""
        return self.period_episodes or self.num_episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """What is kept of a run while it goes on."""

    period_s: Annotated[float, Gt(0)] = 300.0
    """Seconds between two checkpoints; one more is written at the end."""
    keep: Annotated[int, Ge(1)] = 2
    """Newest checkpoints kept."""
    keep_at_steps: tuple[int, ...] = ()
    """Steps of the run, all games together, after which the student is kept for good, in the folder
    student_at/STEPS; transfer depends on how long the student was trained."""

    def __post_init__(self) -> None:
        """Refuse a count of steps at which there is no student yet."""
        if any(steps < 1 for steps in self.keep_at_steps):
            raise ValueError(
                f"checkpoint.keep_at_steps must be positive, got {min(self.keep_at_steps)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardConfig:
    """The live page of a run (launch/dashboard.py), on this machine's loopback."""

    enabled: bool = True
    """Only with the Ray engine; the local one opens nothing."""
    port: Annotated[int, Interval(ge=0, le=65_535)] = 0
    """0 takes a free one."""
    token_file: str = ""
    """File with the token that the page's controls ask for; without it, and without
    ACTOR_MIMIC_DASHBOARD_TOKEN in the environment, the page changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that is set for a run: one network that learns some games by one objective.

    The commands differ in the preset that they begin from, and in what they keep of the network.
    """

    games: tuple[str, ...]
    """Names of the games; a game of your own by its path, `my_package.my_module:spec`, and one of
    Gymnasium as `gym:ID` (docs/games.md)."""
    num_steps: Annotated[int, Ge(1)]
    """Steps played while learning, all games of one network together."""
    objective: Literal["mimic", "dqn", "joint", "actor_critic"] = "mimic"
    """What is learned from: `mimic`, from teachers (Actor-Mimic); `dqn`, from rewards (n-step
    double DQN); `joint`, from both on one head of Q-values; `actor_critic`, from
    rewards with V-trace, kickstarted by teachers."""
    game_sources: tuple[str, ...] = ()
    """Paths by which every process of the run imports games that do not come with the package;
    `games` adds those that it names by theirs."""
    preset: str = ""
    """Name of a preset, or path of a YAML file; its settings are overridden by other options."""
    run_dir: str = ""
    """Folder of the run; default runs/PRESET-DATE-TIME."""
    resume: str = ""
    """Folder of a run to go on with."""
    seed: Annotated[int, Ge(0)] = 1
    """Seed of networks, environments, exploration and replay."""
    engine: Literal["ray", "local"] = "ray"
    """`ray`: a process for each role, on this machine or a cluster; `local`: the same roles in
    one process and a fixed order, the same every time."""
    protocol: Literal["classic", "modern"] = "classic"
    """Rules of the emulator, for acting and testing (games/env.py)."""
    actors: tuple[str, ...] = ("1",)
    """Actors of each game: a number for all, or `game=number`."""
    redis_url: str = ""
    """Redis server that carries the weights (redis://, rediss:// or unix://); without one the
    launcher starts a private one. Only for the Ray engine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the learner computes; `auto` takes a GPU if there is one."""
    actor: ActorConfig = field(default_factory=ActorConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    report_period_s: Annotated[float, Gt(0)] = 1.0
    """Seconds between two lines of metrics."""
    report_at_end: bool = True
    """Whether a run that has ended writes its report; launch/report.py does so at any time."""
    cluster_wait_s: Annotated[float, Ge(0)] | None = None
    """Seconds that a cluster without room for all roles is waited for; without, 600 if it has an
    autoscaler, which is asked for nodes, else 0."""
    teachers: tuple[str, ...] = ()
    """`game=path/to/GAME.safetensors`, the folder of a run or of a student, or
    `game=hf://OWNER/REPO[@REVISION][/PATH]` of an expert or a student; other games use the expert
    that comes with the package. Without `game=` it is for all games not named, with their names in
    it: `{Name}` is SpaceInvaders, `{game}` space_invaders. A game may be given several with
    objective actor_critic; its student is compared with the first."""
    temperatures: tuple[str, ...] = ()
    """`game=tau` where a game's tau differs from mimic.temperature."""
    shares: tuple[str, ...] = ()
    """`game=weight` of the game in every batch; 1 for games not named."""
    quotas: tuple[str, ...] = ()
    """`game=transitions` kept of a game where they differ from replay.capacity_per_game."""
    samples_per_insert_caps: tuple[str, ...] = ()
    """`game=cap` where a game's cap differs from replay.samples_per_insert_cap; without meaning
    when every game is pinned."""
    start_from: tuple[str, ...] = ()
    """Weights that the network begins with: the folder of a run or of a student, an expert's
    GAME.safetensors, the name of a shipped expert, `hf://OWNER/REPO` of either, or `none`;
    `game=...` where each game is a run of its own."""
    start_head: Literal["keep", "rescale", "fresh"] = "keep"
    """What becomes of the head in `start_from`: `keep` it as it is; `rescale` a student's logits
    by its temperature, so that they are Q-values; `fresh`, begin with the torso alone."""
    mimic: MimicConfig = field(default_factory=MimicConfig)
    dqn: DqnConfig = field(default_factory=DqnConfig)
    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    dashboard: DashboardConfig = field(default_factory=DashboardConfig)

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and settings that contradict each other, naming them."""
        check_ranges(self)
        if not self.games:
            raise ValueError("games is empty; name at least one, for example: --games pong boxing")
        sources = dict.fromkeys([*self.game_sources, *filter(is_path, self.games)])
        # The dataclass is frozen for everybody else: nobody sees it with another spelling.
        object.__setattr__(self, "game_sources", tuple(sources))
        for source in sources:
            get_game(source)
        object.__setattr__(self, "games", tuple(get_game(game).name for game in self.games))
        if len(set(self.games)) != len(self.games):
            raise ValueError(f"games names one twice: {' '.join(self.games)}")
        for game in self.games:
            check_torso_fits(self.network, get_game(game))
        if self.replay.batch_size_per_game:
            batch_size = self.replay.batch_size_per_game * len(self.games)
            # The dataclass is frozen for everybody else: nobody sees it with another batch size.
            object.__setattr__(self, "replay", replace(self.replay, batch_size=batch_size))
        get_protocol(self.protocol)
        self.learner.part_of(self.replay.batch_size)
        check_engine_options(self.engine, learner=self.learner, actor=self.actor)
        check_every_shard_is_fed(self.actors_of, self.replay.num_shards)
        # Read once here, so that a mistake in a list of `game=value` is told at the start.
        _ = self.temperature_of, self.teachers_of, self.start_of
        for game, settings in self.game_settings.items():
            check_game_settings(game, settings, self.replay)

    def __reduce__(self) -> tuple[Callable[..., RunConfig], tuple[object, ...]]:
        """Whoever gets a copy in another process makes it anew, which imports the games there."""
        settings = {item.name: getattr(self, item.name) for item in fields(self)}
        return _make_anew, (source_folders(self.game_sources), settings)

    @property
    def actors_of(self) -> dict[str, int]:
        """Number of actors of each game."""
        return parse_per_game("actors", self.actors, self.games, default=1, convert=positive_int)

    @property
    def num_updates(self) -> int:
        """Learner updates of the whole run: samples per insert times steps, in batches."""
        samples = self.num_steps * self.replay.samples_per_insert
        return math.ceil(samples / self.replay.batch_size)

    def for_games(self, *games: str) -> RunConfig:
        """The settings of a run of its own for some of the games."""

        def keep(entries: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(e for e in entries if "=" not in e or e.partition("=")[0] in games)

        return replace(
            self,
            games=games,
            actors=keep(self.actors),
            teachers=keep(self.teachers),
            temperatures=keep(self.temperatures),
            shares=keep(self.shares),
            quotas=keep(self.quotas),
            samples_per_insert_caps=keep(self.samples_per_insert_caps),
            start_from=keep(self.start_from),
        )

    def with_absolute_paths(self) -> RunConfig:
        """The same, whatever folder a later command or another node starts in.

        Addresses on the Hub get the commit that they mean today: all processes, and the run when it
        is resumed, have the same teacher then.
        """
        taught = _filled_in(self.teachers, self.games)
        return replace(
            self, teachers=_made_absolute(taught), start_from=_made_absolute(self.start_from)
        )

    @property
    def temperature_of(self) -> dict[str, float]:
        """Tau of each game."""
        return parse_per_game(
            "temperatures",
            self.temperatures,
            self.games,
            default=self.mimic.temperature,
            convert=positive_float,
        )

    @property
    def game_settings(self) -> dict[str, GameSettings]:
        """Share, quota and cap of each game at the start."""
        shares = parse_per_game(
            "shares", self.shares, self.games, default=1.0, convert=positive_float
        )
        quotas = parse_per_game(
            "quotas",
            self.quotas,
            self.games,
            default=self.replay.capacity_per_game,
            convert=positive_int,
        )
        caps = parse_per_game(
            "samples_per_insert_caps",
            self.samples_per_insert_caps,
            self.games,
            default=self.replay.samples_per_insert_cap,
            convert=positive_float,
        )
        return {
            game: GameSettings(
                share=shares[game], quota=quotas[game], samples_per_insert_cap=caps[game]
            )
            for game in self.games
        }

    @property
    def teachers_of(self) -> dict[str, tuple[str, ...]]:
        """References of each game's teachers: paths, or the game's name for the shipped one.

        The first is the one that the student is compared with.
        """
        given = parse_lists_per_game("teachers", self.teachers, self.games, convert=any_text)
        return {
            game: tuple(fill_in(reference, game) for reference in references) or (game,)
            for game, references in given.items()
        }

    @property
    def start_of(self) -> dict[str, str]:
        """Reference of the expert that each game's network begins with; empty for none."""
        given = parse_per_game(
            "start_from", self.start_from, self.games, default="", convert=any_text
        )
        return {game: "" if start == "none" else start for game, start in given.items()}


def _make_anew(folders: tuple[str, ...], settings: dict[str, Any]) -> RunConfig:
    search_in(folders)
    return RunConfig(**settings)


def _filled_in(entries: tuple[str, ...], games: tuple[str, ...]) -> tuple[str, ...]:
    """The same references with an entry for each game where some are patterns for all of them."""
    for_all = [entry for entry in entries if "=" not in entry]
    if not any(map(is_pattern, for_all)):
        return entries
    own = [entry for entry in entries if entry not in for_all]
    named = {entry.rpartition("=")[0] for entry in own}
    return (
        *own,
        *(f"{g}={fill_in(entry, g)}" for g in games if g not in named for entry in for_all),
    )


def _made_absolute(entries: tuple[str, ...]) -> tuple[str, ...]:
    """The same references to experts, as `RunConfig.with_absolute_paths` says."""
    made = []
    for entry in entries:
        game, separator, reference = entry.rpartition("=")
        if is_hub_reference(reference):
            reference = pin(reference, game=game or None)
        elif reference.endswith(".safetensors") or (
            # A folder that bears a game's name does not hide the shipped expert.
            reference not in shipped_experts() and Path(reference).is_dir()
        ):
            reference = str(Path(reference).absolute())
        made.append(f"{game}{separator}{reference}")
    return tuple(made)
