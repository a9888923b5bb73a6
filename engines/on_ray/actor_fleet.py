"""The actor processes of a run on Ray: started, asked, replaced, added, and retired, game by game.

    wanted    what the run, or somebody while it goes on, asks for
    pending   asked of Ray, which has no room for it yet: so an autoscaler learns what is missing
    up        has answered
    retiring  finishes and stores what it plays, then ends

A game's actors share its ladder of exploration rates, and replay counts on the shards that they
feed. Both follow the actors that are there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from actors.actor import ActorCounts
from engines.engine import claim_serial
from engines.on_ray.calls import (
    REPORT_PATIENCE_S,
    RUN_GROUP,
    ask,
    cause_of,
    could_not_start,
    how_it_died,
    is_loss,
)
from engines.on_ray.cluster import ActorReport, RemoteActor
from engines.on_ray.ray_internals import pid_of
from engines.on_ray.ray_run import RayRun
from records.progress import GameProgress, add_up
from records.usage import RoleUse

# How long an actor that is taken away may wait for replay to store its last chunks.
RETIRING_PATIENCE_S = 60.0

# An actor may be without a process for so long although there is room for it.
_STARTING_S = 3.0


@dataclass(slots=True)
class LiveActor:
    """One actor process, or one that waits for room."""

    game: str
    # Number among the game's actors; decides which shard it feeds.
    rank: int
    handle: Any
    # Reference that becomes ready when its loop ends.
    running: Any
    start_step: int
    # (position, number of actors) in the game's ladder of exploration rates.
    place: tuple[int, int]
    # Whether ladder and replay take it for one of the game's; an added one only once it is up.
    is_counted_on: bool
    # None until it has answered.
    process: str | None = None
    counts: ActorCounts = field(default_factory=ActorCounts)
    # Reference of the report that is under way.
    asked: Any = None
    # Whether it was still under way when the last look ended.
    is_late: bool = False
    # While it retires.
    must_end_by: float = 0.0
    asked_for: float = field(default_factory=time.monotonic)
    # Whether there is no room for it, as of the last look.
    is_pending: bool = False

    @property
    def is_placed(self) -> bool:
        """Whether Ray has found room for it."""
        return self.process is not None or pid_of(self.handle) > 0


class ActorFleet:
    """All actor processes of a run."""

    def __init__(
        self,
        run: RayRun,
        *,
        server: Any,
        shards: Sequence[Any],
        first_serial: int,
        steps_before: dict[str, int],
    ) -> None:
        """Start the actors that the recipe asks for.

        Without the handle of a `server` of inference each actor has its own network. No serial
        number from the first on was ever used in the run.
        """
        recipe = run.recipe
        self._run = run
        self._recipe = recipe
        self._server = server
        self._shards = list(shards)
        # The least serial number that no actor has had.
        self.next_serial = first_serial
        # Actors that took the place of a dead one.
        self.restarts = 0
        # Of all actors that ever lived.
        self.use = RoleUse()
        # What earlier sessions have played, and actors that have gone.
        self._gone = {game: ActorCounts(steps=steps_before.get(game, 0)) for game in recipe.games}
        self._returns: dict[str, list[tuple[float, float]]] = {game: [] for game in recipe.games}
        self._actors: list[LiveActor] = []
        self._retiring: list[LiveActor] = []
        for game, num_actors in recipe.num_actors.items():
            for rank in range(num_actors):
                self._actors.append(self._start(game, rank, place=(rank, num_actors)))

    def _start(
        self, game: str, rank: int, *, place: tuple[int, int], is_added: bool = False
    ) -> LiveActor:
        serial = claim_serial(
            self.next_serial,
            game_index=self._recipe.games.index(game),
            rank=rank,
            num_shards=len(self._shards),
        )
        self.next_serial = serial + 1
        start_step = self._steps_of_an_environment(game, place[1])
        handle = self._run.start(
            RemoteActor,
            f"actor/{game}",
            rank,
            self._run.placement.actor(is_added=is_added),
            game=game,
            rank=place[0],
            num_ranks=place[1],
            serial=serial,
            shards=self._shards,
            redis=self._run.redis,
            server=self._server,
            start_step=start_step,
        )
        running = handle.run.options(concurrency_group=RUN_GROUP).remote()
        return LiveActor(game, rank, handle, running, start_step, place, is_counted_on=not is_added)

    def _steps_of_an_environment(self, game: str, num_actors: int) -> int:
        """How far exploration has been annealed in a game."""
        num_envs = self._recipe.config.actor.num_envs
        furthest = [a.start_step + a.counts.steps // num_envs for a in self._of(game)]
        return max([self.steps(game) // (num_envs * num_actors), *furthest])

    def _of(self, game: str) -> list[LiveActor]:
        return [actor for actor in self._actors if actor.game == game]

    @property
    def loops(self) -> list[Any]:
        """References that become ready when an actor ends or dies."""
        return [actor.running for actor in (*self._actors, *self._retiring)]

    # Numbers of actors

    def wanted(self, game: str) -> int:
        """How many actors the game is to have."""
        return len(self._of(game))

    def ranks(self, game: str) -> list[int]:
        """Numbers of the game's actors, in the order in which they were asked for."""
        return [actor.rank for actor in self._of(game)]

    def ranks_after(self, game: str, wanted: int) -> list[int]:
        """Numbers of the game's actors if it had `wanted` of them, all of them up."""
        kept = [actor.rank for actor in self._in_order_of_leaving(game)[: max(0, wanted)]]
        return sorted([*kept, *_unused(kept, wanted - len(kept))])

    def scale(self, game: str, wanted: int) -> None:
        """Go on with so many actors of a game: start some, or retire some.

        Those that wait for room go first, then the newest.
        """
        leaving = self._in_order_of_leaving(game)[wanted:]
        for actor in reversed(leaving):
            self._retire(actor)
        ranks = self.ranks(game)
        for position, rank in enumerate(_unused(ranks, wanted - len(ranks)), start=len(ranks)):
            self._actors.append(self._start(game, rank, place=(position, wanted), is_added=True))

    def _in_order_of_leaving(self, game: str) -> list[LiveActor]:
        """The one that stays longest first."""
        return sorted(self._of(game), key=lambda actor: (not actor.is_placed, actor.rank))

    def _retire(self, actor: LiveActor) -> None:
        self._actors.remove(actor)
        if not actor.is_placed:
            ray.kill(actor.handle)  # Takes back what was asked of Ray; nothing was played yet.
            return
        ask(actor.handle, "finish")
        actor.must_end_by = time.monotonic() + RETIRING_PATIENCE_S
        self._retiring.append(actor)

    def counted_on(self, game: str) -> list[int]:
        """Numbers of the actors that feed replay, or will in a moment."""
        return [actor.rank for actor in self._of(game) if actor.is_counted_on]

    # Ends and deaths

    def loop_ended(self, loop: Any, error: RayError | None) -> None:
        """Take note of the end of one of `loops`; an actor that has died is replaced.

        What every other actor would meet is raised: a RayError if it could not start or has failed
        by itself, a ValueError if it has refused something, or too many have died.
        """
        if error is not None and not is_loss(error) and not could_not_start(error):
            raise cause_of(error) from None
        for actor in self._retiring:
            if actor.running == loop:
                self._has_retired(actor, error)
                return
        actor = next(actor for actor in self._actors if actor.running == loop)
        if error is None:
            return
        if is_loss(error):
            self._replace(actor, error)
        elif actor.is_counted_on:
            raise error
        else:
            self._give_up(actor, error)

    def _has_retired(self, actor: LiveActor, error: RayError | None) -> None:
        if error is None:
            self._receive([actor], patience_s=REPORT_PATIENCE_S)
            # Once more: the report under way may be of before its end.
            self._ask([actor])
            self._receive([actor], patience_s=REPORT_PATIENCE_S)
        self._retiring.remove(actor)
        self._keep_counts(actor)
        ray.kill(actor.handle)

    def _give_up(self, actor: LiveActor, error: RayError) -> None:
        """An added actor that fails where it is put must not take the run along."""
        self._actors.remove(actor)
        last_line = str(error).strip().splitlines()[-1]
        self._run.note(
            f"an added actor of {actor.game} could not start ({last_line}); "
            f"going on with {self.wanted(actor.game)}"
        )

    def _replace(self, dead: LiveActor, error: RayError) -> None:
        what = f"an actor of {dead.game} {how_it_died(error)}"
        self._run.count_death(what, error)
        self.restarts += 1
        self._keep_counts(dead)
        self._run.note(f"{what}; starting another")
        ray.kill(dead.handle)  # It may be there still, having lost something that it needs.
        another = self._start(dead.game, dead.rank, place=dead.place)
        another.is_counted_on = dead.is_counted_on
        self._actors[self._actors.index(dead)] = another

    def _keep_counts(self, actor: LiveActor) -> None:
        """Keep what an actor that has gone had reported."""
        self._gone[actor.game] = add_up([self._gone[actor.game], actor.counts])

    # Reports

    def look(self) -> None:
        """Ask all, without waiting for those that are not up; put the ladders right."""
        everybody = [*self._actors, *self._retiring]
        self._ask(everybody)
        prompt = [actor.asked for actor in everybody if actor.process and not actor.is_late]
        if prompt:
            ray.wait(prompt, num_returns=len(prompt), timeout=REPORT_PATIENCE_S)
        self._receive(everybody, patience_s=0.0)
        self._end_overdue()
        self._spread_exploration()
        self._find_pending()

    def _ask(self, actors: Iterable[LiveActor]) -> None:
        for actor in actors:
            if actor.asked is None:
                actor.asked = ask(actor.handle, "report")

    def _receive(self, actors: Sequence[LiveActor], *, patience_s: float) -> None:
        waited_for = [actor.asked for actor in actors if actor.asked is not None]
        if not waited_for:
            return
        ready, _ = ray.wait(waited_for, num_returns=len(waited_for), timeout=patience_s)
        for actor in actors:
            actor.is_late = actor.asked is not None and actor.asked not in ready
            if actor.asked in ready:
                self._take_report(actor)

    def _take_report(self, actor: LiveActor) -> None:
        asked, actor.asked = actor.asked, None
        try:
            report: ActorReport = ray.get(asked)
        except RayError as error:
            if is_loss(error) or could_not_start(error):
                return  # Its loop tells, too.
            raise cause_of(error) from None
        actor.process, actor.counts = report.process, report.counts
        actor.is_counted_on = True
        self.use.take(report.process, report.use)
        self._returns[actor.game].extend(report.returns)

    def _end_overdue(self) -> None:
        for actor in [a for a in self._retiring if time.monotonic() > a.must_end_by]:
            self._run.note(
                f"an actor of {actor.game} could not hand over its last chunks within "
                f"{RETIRING_PATIENCE_S:g} s; they are lost"
            )
            self._retiring.remove(actor)
            self._keep_counts(actor)
            ray.kill(actor.handle)

    def _spread_exploration(self) -> None:
        """Give every actor its place among those of its game that are there."""
        for game in self._recipe.games:
            crew = sorted(
                (actor for actor in self._of(game) if actor.is_counted_on), key=lambda a: a.rank
            )
            for position, actor in enumerate(crew):
                place = (position, len(crew))
                if actor.place != place:
                    actor.place = place
                    ask(actor.handle, "explore_as", *place)

    def _find_pending(self) -> None:
        """Tell those for which there is no room from those that are about to start."""
        for actor in self._actors:
            actor.is_pending = False
        due = time.monotonic() - _STARTING_S
        late = [a for a in self._actors if a.asked_for < due and not a.is_placed]
        if late and not self._run.placement.has_room_for_actor():
            for actor in late:
                actor.is_pending = True

    # What they have done

    def steps(self, game: str) -> int:
        """Steps played since the run's beginning."""
        return self._played(game).steps

    def _played(self, game: str) -> ActorCounts:
        present = [a.counts for a in (*self._actors, *self._retiring) if a.game == game]
        return add_up([self._gone[game], *present])

    def progress(self, game: str) -> GameProgress:
        """The game's actors and what they have done, without its replay; returns come once."""
        returns, self._returns[game] = self._returns[game], []
        crew = self._of(game)
        return GameProgress(
            actors=sum(actor.process is not None for actor in crew),
            wanted=len(crew),
            pending=sum(actor.is_pending for actor in crew),
            played=self._played(game),
            returns=tuple(returns),
        )

    @property
    def handles(self) -> list[Any]:
        """Handles of all processes that are left."""
        return [actor.handle for actor in (*self._actors, *self._retiring)]

    def stop(self) -> None:
        """Have all loops end soon, whatever is under way."""
        for handle in self.handles:
            ask(handle, "stop")


def _unused(ranks: Sequence[int], count: int) -> list[int]:
    """The `count` lowest numbers that are not in `ranks`."""
    free = (rank for rank in range(len(ranks) + max(0, count)) if rank not in ranks)
    return [rank for _, rank in zip(range(count), free, strict=False)]
