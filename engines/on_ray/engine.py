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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import ray
import torch

from engines.engine import check_wanted
from engines.on_ray.actor_fleet import ActorFleet
from engines.on_ray.calls import error_of
from engines.on_ray.learner_team import LearnerTeam
from engines.on_ray.placement import Placement
from engines.on_ray.ray_health import CHECK_PERIOD_S, RayDiedError, RayHealth
from engines.on_ray.ray_run import RayRun
from engines.on_ray.role_processes import RoleNames, find_processes
from engines.on_ray.served_inference import ServedInference
from engines.on_ray.shard_fleet import ShardFleet
from engines.on_ray.start_up import StartUp
from engines.on_redis.bus import RedisAddress, RedisBus
from networks.weights import WeightSnapshot
from recipes.limits import check_memory_for_processes
from recipes.recipe import Recipe
from records.machine import available_memory_bytes, usable_cores
from records.progress import Progress, summarize
from records.usage import RoleUse, Usage
from replay.pace.game_settings import GameSettings, SettingsChange
from replay.snapshots.restore import newest_serial

# How long an ended learner's actors, none of which has made a step, are waited for.
_IDLE_S = 10.0


class _Since(NamedTuple):
    """A number of steps, and the time since which it has not changed."""

    value: int
    time: float


class RayEngine:
    """The roles as Ray processes; see engines/on_ray/cluster.py for how they are wired."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        redis: RedisAddress,
        device: torch.device,
        state: dict[str, Any] | None = None,
        replay_dir: Path | None = None,
        placement: Placement | None = None,
        keep_redis_alive: Callable[[], bool] = lambda: False,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Start all roles on the Ray that this process is connected to.

        A checkpoint's `state` is of a run that goes on, `replay_dir` for snapshots of replay.
        `keep_redis_alive` starts a private Redis again if it has died, and says whether it had.
        """
        self._recipe = recipe
        self._redis = redis
        self._keep_redis_alive = keep_redis_alive
        self._note = note
        self._placement = placement or Placement(needs_gpu=device.type == "cuda")
        self._health = RayHealth()
        self._num_redis_restarts = 0
        self._is_ray_dead = self._finished = self._closed = False
        self._last_steps = _Since(0, time.monotonic())
        run = RayRun(
            recipe=recipe,
            redis=redis,
            placement=self._placement,
            names=RoleNames(redis.run),
            note=note,
        )
        self._fleet = ShardFleet(run, replay_dir=replay_dir)
        shards = self._fleet.handles
        self._learners = LearnerTeam(
            run, shards=shards, device=device, state=state["learner"] if state else None
        )
        is_served = recipe.config.actor.inference == "server"
        self._served = ServedInference(run, device=device) if is_served else None
        self._actors = ActorFleet(
            run,
            server=self._served.handle if self._served else None,
            shards=shards,
            first_serial=_first_serial(state, replay_dir),
            steps_before=state["steps"] if state else {},
        )
        wanted = {f"actor/{game}": number for game, number in recipe.num_actors.items()}
        wanted |= {"shard": len(shards), "learner": self._learners.size, "inference": is_served}
        self._start_up = StartUp(redis.run, wanted, note=note)

    def advance(self, seconds: float, *, until_updates: int | None = None) -> bool:
        """Watch the roles for this long, or until the learner has made the updates of the run.

        It goes on past `until_updates`: nobody waits for whoever comes late to a look.
        """
        deadline = time.monotonic() + seconds
        if self._keep_redis_alive():
            self._num_redis_restarts += 1
            self._note("Redis died and was started again; the learner rewrites the weights")
        self._check_ray()
        while not self._is_over():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            self._start_up.look()
            loops = [*self._learners.loops, *self._actors.loops]
            ready, _ = ray.wait(loops, timeout=min(remaining, CHECK_PERIOD_S))
            self._check_ray()
            for loop in ready:
                self._loop_ended(loop)
        return not self._is_over()

    def _is_over(self) -> bool:
        """Whether the updates are made and, as of the last look, the steps are played.

        Replay lets the learner be ahead. Actors that play no more, as those whose chunks replay
        does not take, have no learner to wait for, so they are not waited for either.
        """
        steps = sum(self._actors.steps(game) for game in self._recipe.games)
        if not self._finished or steps != self._last_steps.value:
            self._last_steps = _Since(steps, time.monotonic())
        idle_s = time.monotonic() - self._last_steps.time
        return self._finished and (steps >= self._recipe.config.num_steps or idle_s > _IDLE_S)

    def _check_ray(self) -> None:
        """Raises RayDiedError if Ray has died; from then on nothing is asked of it."""
        try:
            self._health.check()
        except RayDiedError:
            self._is_ray_dead = True
            raise

    def _is_ray_up(self) -> bool:
        with suppress(RayDiedError):
            self._check_ray()
        return not self._is_ray_dead

    def _loop_ended(self, loop: Any) -> None:
        """The learners are done, an actor has retired, or a process has died."""
        if loop in self._actors.loops:
            self._actors.loop_ended(loop, error_of(loop))
        else:
            self._finished = self._learners.loop_ended(loop) or self._finished

    def progress(self) -> Progress:
        """Counts of all roles; one that does not answer in time is left out."""
        self._check_ray()
        metrics = self._learners.look()
        faults = {}
        if self._served is not None:
            metrics |= self._served.look()
            faults["inference_restarts"] = self._served.restarts
        self._actors.look()
        self._follow_actors()
        shards = self._fleet.look()
        uses = [role.total for role in self._uses().values()]
        return summarize(
            updates=self._learners.updates,
            metrics=metrics,
            games={game: self._actors.progress(game) for game in self._recipe.games},
            shards=shards,
            usage=self._usage(),
            faults={
                "actor_restarts": self._actors.restarts,
                "learner_restarts": self._learners.restarts,
                "shard_restarts": self._fleet.restarts,
                "transitions_lost": self._fleet.transitions_lost,
                "updates_lost": self._learners.updates_lost,
                "chunks_lost": sum(use.chunks_lost for use in uses),
                **faults,
                "redis_restarts": self._num_redis_restarts,
                "redis_reconnects": sum(use.redis_reconnects for use in uses),
            },
            owners=[self._learners.owner, *self._fleet.owners],
        )

    def _uses(self) -> dict[str, RoleUse]:
        uses = {"actors": self._actors.use, "learner": self._learners.use}
        return uses | ({"inference": self._served.use} if self._served else {})

    def _usage(self) -> Usage:
        uses = {name: role.total for name, role in self._uses().items()}
        return Usage(
            learner=self._learners.usage,
            cpu_s={
                **{name: use.cpu_s for name, use in uses.items()},
                "coordinator": time.process_time(),
            },
            moved_bytes={"weights": sum(use.weight_bytes for use in uses.values())},
            # A cluster's cores are not all the run's own.
            num_cores=None if self._placement.counts_cpus else usable_cores(),
        )

    def scale(self, game: str, wanted: int) -> None:
        """Start or retire actors; ValueError also if memory is too short for so many more."""
        check_wanted(game, wanted, self._recipe.games)
        if not self._placement.counts_cpus:
            num_more = wanted - self._actors.wanted(game)
            check_memory_for_processes(num_more, available_memory_bytes())
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
        """Change what all shards keep and give of a game; nothing changes if one refuses."""
        return self._fleet.configure(game, **change)

    def follow_gaps(self, gaps: Mapping[str, Sequence[float]]) -> None:
        """Set the weight of distillation by the games' gaps to their teachers."""
        self._learners.follow_gaps(gaps)

    def change_learner(self, recipe: Recipe, *, state: dict[str, Any] | None = None) -> None:
        """Have the learner go on by other settings, and from another learner's state if given."""
        self._learners.change(recipe, state)
        self._recipe = recipe

    def snapshot(self) -> WeightSnapshot:
        """The learner's weights; once Ray has died, the newest published, in half precision."""
        return self._learners.snapshot() if self._is_ray_up() else self._published()

    def _published(self) -> WeightSnapshot:
        with closing(RedisBus(self._redis.url, self._redis.run)) as bus:
            snapshot = bus.fetch_weights(None)
        if snapshot is None:
            raise TimeoutError("the run has published no weights yet")
        return snapshot

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, from which a learner that dies is restarted, too."""
        return {
            "learner": (self._learners.state() if self._is_ray_up() else self._learners.last_state),
            "steps": {game: self._actors.steps(game) for game in self._recipe.games},
            "next_serial": self._actors.next_serial,
        }

    def pids(self, role: str) -> list[int]:
        """Process ids of the living processes of a role, in the order of their places."""
        return [p.pid for p in find_processes(self._redis.run) if p.role == role]

    def close(self) -> None:
        """Ask all loops to end, wait a little, then end the processes."""
        if self._is_ray_dead:
            return  # They have gone with it.
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
