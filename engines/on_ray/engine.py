"""Carries a run on Ray: starts every role, watches them, replaces the ones that die.

| role    | on death                                                                             |
|---------|--------------------------------------------------------------------------------------|
| actor   | a new one with fresh environments; its chunks under way are lost                     |
| shard   | Ray starts it again, from its newest snapshot; the others go on meanwhile            |
| server  | of inference: Ray starts it again; actors ask it once more                           |
| learner | a new incarnation, of all replicas, from the newest checkpoint's state              |
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from engines.engine import check_wanted
from engines.on_ray.actor_fleet import ActorFleet
from engines.on_ray.answers import cause_of, own_role_process
from engines.on_ray.learner_team import LearnerTeam
from engines.on_ray.link import Link
from engines.on_ray.placement import Placement
from engines.on_ray.served_inference import ServedInference
from engines.on_ray.shard_fleet import ShardFleet
from networks.weights import WeightSnapshot
from recipes.limits import check_memory_for_actors
from recipes.recipe import Recipe
from records.machine import available_memory_bytes, usable_cores
from records.process_id import RoleProcess, find_process
from records.progress import Progress, summarize
from records.usage import Usage
from replay.pace.game_settings import GameSettings, SettingsChange
from replay.snapshots.restore import newest_serial

_MAX_DEATHS_PER_MINUTE = 10
"""Above it something is wrong that a restart does not mend, and the run stops with the cause."""

_ONE_INCIDENT_S = 1.0
"""Processes that die together, with the node they are on, count as one death."""


class RayEngine:
    """The roles as Ray processes; see engines/on_ray/cluster.py for how they are wired."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        link: Link,
        device: torch.device,
        state: dict[str, Any] | None = None,
        replay_dir: Path | None = None,
        placement: Placement | None = None,
        keep_redis_alive: Callable[[], bool] = lambda: False,
        redis_pid: Callable[[], int | None] = lambda: None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Start all roles on the Ray that this process is connected to.

        Args:
            recipe: what to train.
            link: the run's Redis.
            device: the learner's.
            state: a checkpoint's, of a run to go on with.
            replay_dir: for snapshots of replay; None for none.
            placement: where to put the roles; None for what suits the device.
            keep_redis_alive: starts a private Redis again if it has died; says whether it had.
            redis_pid: the private Redis's process id; None where it is not ours.
            note: told about deaths and restarts.
        """
        self._keep_redis_alive = keep_redis_alive
        self._redis_pid = redis_pid
        self._recipe = recipe
        self._note = note
        self._placement = placement or Placement(needs_gpu=device.type == "cuda")
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS_PER_MINUTE)
        self._finished = self._closed = False
        self._fleet = ShardFleet(
            recipe,
            replay_dir=replay_dir,
            note=note,
            count_death=self._count_death,
            placement=self._placement,
        )
        self._shards = self._fleet.shards
        self._learners = LearnerTeam(
            recipe,
            shards=self._fleet.handles,
            link=link,
            device=device,
            options=self._placement.learner(shares_gpu=recipe.config.actor.inference == "server"),
            state=state["learner"] if state else None,
            note=note,
            count_death=self._count_death,
        )
        self._served: ServedInference | None = None
        if recipe.config.actor.inference == "server":
            self._served = ServedInference(
                recipe,
                link=link,
                device=device.type,
                options=self._placement.inference(),
                note=note,
                count_death=self._count_death,
            )
            link = replace(link, inference=self._served.handle)
        self._actors = ActorFleet(
            recipe,
            link=link,
            shards=self._fleet.handles,
            placement=self._placement,
            first_serial=_first_serial(state, replay_dir),
            steps_before=dict(state["steps"]) if state else {},
            note=note,
        )

    def advance(self, seconds: float) -> bool:
        """Watch the roles for this long, or until the learner has made its updates."""
        deadline = time.monotonic() + seconds
        if self._keep_redis_alive():
            self._note("Redis died and was started again; the learner rewrites the weights")
        while not self._finished:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            ready, _ = ray.wait([*self._learners.loops, *self._actors.loops], timeout=remaining)
            for loop in ready:
                self._loop_ended(loop)
        return not self._finished

    def _loop_ended(self, loop: Any) -> None:
        """The learners are done, an actor has retired, or a process has died."""
        if loop not in self._actors.loops:
            self._finished = self._learners.loop_ended(loop) or self._finished
            return
        try:
            ray.get(loop)
        except RayActorError as error:
            if self._actors.loop_ended(loop, error):
                self._count_death(str(error))
        except RayTaskError as error:
            # An error in the role itself: doing the same again would end the same way.
            raise cause_of(error) from None
        else:
            self._actors.loop_ended(loop, None)

    def _count_death(self, cause: str) -> None:
        now = time.monotonic()
        if self._deaths and now - self._deaths[-1] < _ONE_INCIDENT_S:
            return
        self._deaths.append(now)
        if len(self._deaths) == self._deaths.maxlen and now - self._deaths[0] < 60.0:
            raise RuntimeError(
                f"processes of the run died {len(self._deaths)} times within a minute; the last "
                f"one: {cause}"
            )

    def progress(self) -> Progress:
        """See Engine; a role that does not answer in time is left out."""
        metrics = self._learners.look()
        faults = {}
        if self._served is not None:
            metrics |= self._served.look()
            faults["inference_restarts"] = self._served.restarts
        self._actors.look()
        self._follow_actors()
        shards = self._fleet.look()
        return summarize(
            updates=self._learners.updates,
            metrics=metrics,
            played={game: self._actors.played(game) for game in self._recipe.games},
            shards=shards,
            usage=self._usage(),
            faults={
                "actor_restarts": self._actors.restarts,
                "learner_restarts": self._learners.restarts,
                "shard_restarts": self._fleet.restarts,
                "transitions_lost": self._fleet.transitions_lost,
                "chunks_lost": self._actors.num_chunks_lost,
                **faults,
                "redis_reconnects": self._learners.redis_reconnects + self._actors.redis_reconnects,
            },
            processes=self._processes(),
        )

    def _processes(self) -> list[RoleProcess]:
        found = [
            *self._learners.processes,
            *self._fleet.processes,
            *(p for game in self._recipe.games for p in self._actors.processes(game)),
            RoleProcess(role="coordinator", rank=0, process=own_role_process(), done=0),
        ]
        if self._served is not None and self._served.process is not None:
            found.append(self._served.process)
        redis_pid = self._redis_pid()
        if redis_pid and (redis := find_process(redis_pid)):
            found.append(RoleProcess(role="redis", rank=0, process=redis, done=0))
        return found

    def _usage(self) -> Usage:
        roles = {"actors": self._actors.use, "learner": self._learners.use}
        if self._served is not None:
            roles["inference"] = self._served.use
        return Usage(
            learner=self._learners.usage,
            cpu_s={
                **{name: role.cpu_s for name, role in roles.items()},
                "coordinator": time.process_time(),
            },
            moved_bytes={"weights": sum(role.weight_bytes for role in roles.values())},
            # A cluster's cores are not all the run's own.
            num_cores=None if self._placement.counts_cpus else usable_cores(),
        )

    def scale(self, game: str, wanted: int) -> None:
        """See Engine; also if this machine has no memory for so many more."""
        check_wanted(game, wanted, self._recipe.games)
        if not self._placement.counts_cpus:
            num_more = wanted - self._actors.wanted(game)
            check_memory_for_actors(num_more, available_memory_bytes())
        self._fleet.check_assign(
            self._actors_counted_on() | {game: self._actors.ranks_after(game, wanted)}
        )
        self._actors.scale(game, wanted)

    def _actors_counted_on(self) -> dict[str, list[int]]:
        return {game: self._actors.counted_on(game) for game in self._recipe.games}

    def _follow_actors(self) -> None:
        """Have replay count on the actors that are there; a shard that is away is told later."""
        with suppress(ValueError):
            self._fleet.assign(self._actors_counted_on())

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """See Engine."""
        return self._fleet.configure(game, **change)

    def snapshot(self) -> WeightSnapshot:
        """See Engine."""
        return self._learners.snapshot()

    def state(self) -> dict[str, Any]:
        """See Engine; also what a learner that dies is restarted from."""
        return {
            "learner": self._learners.state(),
            "steps": {game: self._actors.steps(game) for game in self._recipe.games},
            "next_serial": self._actors.next_serial,
        }

    def pids(self) -> dict[str, list[int]]:
        """Process ids by role, as of the last `progress`; 0 for one that has not answered yet."""
        places = {
            "learner": range(self._learners.size),
            "shard": range(len(self._shards)),
            **({"inference": range(1)} if self._served else {}),
            **{f"actor/{game}": self._actors.ranks(game) for game in self._recipe.games},
        }
        known = {(p.role, p.rank): p.process.pid for p in self._processes()}
        return {
            role: [known.get((role, rank), 0) for rank in ranks] for role, ranks in places.items()
        }

    def close(self) -> None:
        """Ask all loops to end, wait a little, then end the processes."""
        self._actors.stop()
        self._learners.stop()
        loops = [*self._learners.loops, *self._actors.loops]
        ray.wait(loops, num_returns=len(loops), timeout=5.0)
        if not self._closed:
            self._closed = True
            self._fleet.save()
        self._learners.end()
        if self._served is not None:
            self._served.end()
        for handle in (*self._actors.handles, *self._fleet.handles):
            ray.kill(handle)


def _first_serial(state: dict[str, Any] | None, replay_dir: Path | None) -> int:
    """The first serial number of an actor that no earlier session of the run has used."""
    serial = int(state["next_serial"]) if state else 0
    if replay_dir is None:
        return serial
    # A snapshot may be newer than the checkpoint, and know actors that this one does not.
    return max(serial, newest_serial(replay_dir) + 1)
