"""Carries the members of a population, in turn, a slice each.

    prepare (nothing is written) -> folder -> members' runs -> engines/population/conclusion.py

A member is an ordinary run in RUN/members/K, which engines/membership.py lets compare itself. Here
they share this process; engines/population/side_by_side.py gives each processes of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace

from engines.carrying import Order, Screens, carry_in_slices, check_order
from engines.keeping import NewestStudent
from engines.membership import Membership
from engines.slices import Position
from learner.checkpoint import list_checkpoints, load_newest
from networks.atomic_file import write_atomically
from recipes.config import RunConfig
from recipes.evolution import initial_settings, member_seed
from recipes.limits import check_replay_fits
from recipes.loading import dump_config, load_run_config
from recipes.population import PopulationConfig, dump_population
from recipes.population_plan import PopulationPlan, plan_population
from recipes.recipe import Recipe
from recipes.tuning import with_settings
from records.machine import available_memory_bytes
from records.population import Incarnation, PopulationFiles
from records.run_dir import RunDir
from records.run_record import read_document

# Shows one member of a population to whoever started it.
ScreensOf = Callable[[int], Screens]


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """A population whose settings have been checked, in its folder."""

    plan: PopulationPlan
    # What the members have in common.
    config: RunConfig
    run: RunDir
    # Takes one line.
    note: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)

    @property
    def files(self) -> PopulationFiles:
        """The population's files."""
        return PopulationFiles(self.run.path)

    @property
    def is_side_by_side(self) -> bool:
        """Whether each member has processes of its own."""
        wanted, address = self.plan.config.side_by_side, self.plan.config.address
        return bool(address) or self.config.engine == "ray" if wanted is None else wanted

    @property
    def members(self) -> range:
        """Numbers of the members."""
        return range(self.plan.config.members)

    def member_config(self, number: int, settings: Mapping[str, float]) -> RunConfig:
        """A member's own settings."""
        config = with_settings(self.config, settings)
        if number > 0:
            # The teachers are the same for all.
            evaluation = replace(config.evaluation, check_teachers=0)
            config = replace(config, evaluation=evaluation)
        if self.plan.config.members == 1:
            return replace(config, report_at_end=False)
        dashboard = replace(config.dashboard, enabled=False)
        seed = member_seed(self.plan, number)
        return replace(config, seed=seed, report_at_end=False, dashboard=dashboard)

    def order(self, number: int) -> Order:
        """A member's run: a new one, or one to go on with as what it had become."""
        folder = self.files.member(number)
        if not (folder / "meta.json").is_file():
            if folder.exists():
                # It died before its folder was complete, so there is nothing to go on with.
                shutil.rmtree(folder)
            settings: Mapping[str, float] = initial_settings(self.plan, number)
            config = self.member_config(number, settings)
            return Order(config=config, preset=self.run.preset, folder=folder)
        run = RunDir.open_existing(folder)
        settings = initial_settings(self.plan, number)
        if list_checkpoints(run.checkpoints):
            now = load_newest(run.checkpoints)["member"]["incarnation"]
            settings = Incarnation.model_validate_json(now).settings
        # A change that died after its checkpoint has not reached the file yet.
        run.write_config(dump_config(with_settings(load_run_config(run), settings)))
        config = self.member_config(number, settings)
        return Order(config=config, preset=run.preset, folder=folder, resumed=run)

    def has_ended(self, number: int) -> bool:
        """Whether a member has made all of its updates, and played its last test."""
        summary = read_document(self.files.member(number) / "summary.json")
        if summary is None or summary.get("updates", 0) < self.config.num_updates:
            return False
        return all(row["student"]["mean"] is not None for row in summary["games"].values())

    def carry_member(self, number: int, screens: Screens) -> Generator[Position, None, RunDir]:
        """A member's run in slices; see engines.carrying.carry_in_slices."""
        return carry_in_slices(
            self.order(number),
            keeper_of=lambda recipe, run_dir: NewestStudent(recipe, run_dir.student),
            member_of=lambda recipe, run_dir, state: Membership(
                self.plan,
                self.files,
                number,
                recipe=recipe,
                run_dir=run_dir,
                state=state,
                note=lambda text: self.note(f"member {number}: {text}"),
            ),
            screens=screens,
        )


def prepare_population(
    order: Order, population: PopulationConfig, *, note: Callable[[str], None]
) -> Population:
    """Check all that can be checked, then make the folder; ValueError for what cannot be used."""
    if order.resumed is None:
        RunDir.check_new(order.folder)
    config = order.recipe.config
    plan = plan_population(population, config)
    if population.address:
        from engines.on_ray.jobs import connect

        connect(population.address)  # Refused now rather than by every member.
    if config.engine == "ray":
        # Ray takes a second to import, which a local run can do without.
        from engines.on_ray.session import check_room_for

        check_room_for(Recipe(config), population.members)
    else:
        check_replay_fits(
            Recipe(config), available_bytes=available_memory_bytes() // population.members
        )
    # A member has the settings of the population but for some numbers, so one stands for all.
    check_order(replace(order, config=config, resumed=None))
    run = order.resumed or RunDir.create(
        order.folder, preset=order.preset, config_text=dump_config(config), seed=config.seed
    )
    return Population(plan=plan, config=config, run=run, note=note)


def open_population(run: RunDir, config: RunConfig, population: PopulationConfig) -> Population:
    """A population that another program carries, for one of its members."""
    plan = plan_population(population, config)
    return Population(plan=plan, config=config, run=run, note=lambda text: print(text, flush=True))


def write_settings(population: Population) -> None:
    """Keep what a program that goes on with the population has to know."""
    files = population.files
    population.run.write_config(dump_config(population.config))
    (files.run / "members").mkdir(exist_ok=True)
    write_atomically(files.settings, dump_population(population.plan.config).encode())


def carry_in_turns(population: Population, screens_of: ScreensOf) -> dict[int, str]:
    """Carry all members to their ends in this process; returns why some were lost.

    The member that is furthest behind goes on, the first of several: none is scored twice before
    all have been through the comparison. Ctrl-C ends them all, each with its checkpoint.
    ValueError if an earlier launcher, which was killed, has left members that still run.
    """
    for number in population.members:
        _check_nobody_carries(population, number)
    runs = {
        number: population.carry_member(number, screens_of(number))
        for number in population.members
        if not population.has_ended(number)
    }
    positions: dict[int, Position] = {number: (0, -1) for number in runs}
    lost: dict[int, str] = {}
    try:
        while positions:
            number = min(positions, key=lambda n: (sum(positions[n]), n))
            try:
                positions[number] = next(runs[number])
            except StopIteration:
                del positions[number]
            except ValueError as error:
                del positions[number]
                lost[number] = " ".join(str(error).split())
                population.note(f"member {number} is lost: {lost[number]}")
    except BaseException:
        _interrupt([runs[number] for number in positions])
        raise
    return lost


def _check_nobody_carries(population: Population, number: int) -> None:
    """Raises ValueError for a member that a process of an earlier launcher still carries."""
    lock = population.files.try_lock(number)
    if lock is None:
        raise ValueError(
            f"member {number} is still carried by a process that an earlier launcher has left; "
            "wait for its end, or go on with --side-by-side True"
        )
    lock.close()


def _interrupt(runs: list[Generator[Position, None, RunDir]]) -> None:
    """End runs that wait for others as Ctrl-C does."""
    for run in runs:
        try:
            run.throw(KeyboardInterrupt)
        except (KeyboardInterrupt, StopIteration):
            continue
