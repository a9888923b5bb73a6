"""Carries a run on Ray: starts every role, watches them, replaces the ones that die.

| role    | on death                                                                             |
|---------|--------------------------------------------------------------------------------------|
| actor   | a new one with fresh environments; the chunk under way is lost                       |
| shard   | Ray starts it again, from its newest snapshot; the others go on meanwhile            |
| learner | a new incarnation from the newest checkpoint's state                                 |
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from actors.actor import ActorCounts
from launch.cluster import (
    CALL_TIMEOUT_S,
    RUN_GROUP,
    ActorReport,
    LearnerReport,
    Link,
    RemoteActor,
    RemoteLearner,
)
from launch.engine import Played, Progress, claim_serial, summarize
from launch.ray_answers import answers
from launch.ray_clients import CONTROL_GROUP
from launch.recipe import Recipe
from launch.shard_fleet import ShardFleet
from networks.weights import WeightSnapshot
from replay.game_settings import GameSettings, SettingsChange
from replay.restore import newest_serial

_MAX_DEATHS_PER_MINUTE = 10
"""Above it something is wrong that a restart does not mend, and the run stops with the cause."""


@dataclass(slots=True)
class _LiveActor:
    """One running actor process."""

    game: str
    rank: int
    serial: int
    handle: Any
    running: Any
    """Reference that becomes ready when its loop ends."""
    pid: int = 0
    counts: ActorCounts = field(default_factory=ActorCounts)


class RayEngine:
    """The roles as Ray processes; see launch/cluster.py for how they are wired."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        link: Link,
        device: torch.device,
        state: dict[str, Any] | None = None,
        replay_dir: Path | None = None,
        keep_redis_alive: Callable[[], bool] = lambda: False,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Start all roles on the Ray that this process is connected to.

        Args:
            recipe: what to train.
            link: the run's Redis.
            device: the learner's.
            state: a checkpoint's, of a run to go on with.
            replay_dir: for snapshots of replay; None for none.
            keep_redis_alive: starts a private Redis again if it has died; says whether it had.
            note: told about deaths and restarts.
        """
        self._keep_redis_alive = keep_redis_alive
        self._recipe = recipe
        self._link = link
        self._device = device
        self._note = note
        self._learner_state: dict[str, Any] | None = state["learner"] if state else None
        self._incarnation = self._learner_state["incarnation"] + 1 if self._learner_state else 0
        self._steps_before: dict[str, int] = dict(state["steps"]) if state else {}
        self._next_serial = int(state["next_serial"]) if state else 0
        if replay_dir is not None:
            # A snapshot may be newer than the checkpoint, and know actors that this one does not.
            self._next_serial = max(self._next_serial, newest_serial(replay_dir) + 1)
        self._faults = {"actor_restarts": 0, "learner_restarts": 0}
        self._chunks_lost: dict[int, int] = {}
        self._redis_reconnects: dict[str, int] = {}
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS_PER_MINUTE)
        self._retired: dict[str, ActorCounts] = {game: ActorCounts() for game in recipe.games}
        self._updates = 0
        self._finished = self._closed = False
        self._fleet = ShardFleet(
            recipe, replay_dir=replay_dir, note=note, count_death=self._count_death
        )
        self._shards = self._fleet.shards
        self._start_learner()
        self._actors: list[_LiveActor] = []
        self._actors += [
            self._start_actor(game, rank, num_actors)
            for game, num_actors in recipe.num_actors.items()
            for rank in range(num_actors)
        ]

    def _start_learner(self) -> None:
        options = {"num_gpus": 1} if self._device.type == "cuda" else {}
        self._learner = RemoteLearner.options(**options).remote(
            self._recipe,
            shards=self._fleet.handles,
            link=self._link,
            device=self._device.type,
            incarnation=self._incarnation,
            state=self._learner_state,
        )
        self._learning = self._learner.run.options(concurrency_group=RUN_GROUP).remote()
        self._learner_pid = 0

    def _start_actor(self, game: str, rank: int, num_ranks: int) -> _LiveActor:
        serial = claim_serial(
            self._next_serial,
            game_index=self._recipe.games.index(game),
            rank=rank,
            num_shards=self._recipe.config.replay.num_shards,
        )
        self._next_serial = serial + 1
        envs = num_ranks * self._recipe.config.actor.num_envs
        handle = RemoteActor.remote(
            self._recipe,
            game,
            rank=rank,
            num_ranks=num_ranks,
            serial=serial,
            shards=self._fleet.handles,
            link=self._link,
            start_step=self._steps(game) // envs,
        )
        running = handle.run.options(concurrency_group=RUN_GROUP).remote()
        return _LiveActor(game, rank, serial, handle, running)

    def advance(self, seconds: float) -> bool:
        """Watch the roles for this long, or until the learner has made its updates."""
        deadline = time.monotonic() + seconds
        if self._keep_redis_alive():
            self._note("Redis died and was started again; the learner rewrites the weights")
        while not self._finished:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            loops = [self._learning, *(actor.running for actor in self._actors)]
            ready, _ = ray.wait(loops, timeout=remaining)
            for loop in ready:
                self._loop_ended(loop)
        return not self._finished

    def _loop_ended(self, loop: Any) -> None:
        """The learner is done, or a process has died."""
        try:
            ray.get(loop)
        except RayActorError as error:
            if error.actor_init_failed:
                raise
            self._count_death(str(error))
            if loop == self._learning:
                self._replace_learner()
            else:
                self._replace_actor(loop)
        except RayTaskError as error:
            # An error in the role itself: doing the same again would end the same way.
            raise error.cause if isinstance(error.cause, ValueError) else error from None
        else:
            self._finished = self._finished or loop == self._learning

    def _count_death(self, cause: str) -> None:
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == self._deaths.maxlen and now - self._deaths[0] < 60.0:
            raise RuntimeError(
                f"{len(self._deaths)} processes of the run died within a minute; the last one: "
                f"{cause}"
            )

    def _replace_learner(self) -> None:
        self._faults["learner_restarts"] += 1
        self._incarnation += 1
        updates = self._learner_state["num_updates"] if self._learner_state else 0
        self._note(f"the learner died; going on from update {updates}")
        self._start_learner()

    def _replace_actor(self, loop: Any) -> None:
        self._faults["actor_restarts"] += 1
        index = next(i for i, actor in enumerate(self._actors) if actor.running == loop)
        dead = self._actors[index]
        self._retire(dead)
        self._note(f"an actor of {dead.game} died; starting another")
        self._actors[index] = self._start_actor(
            dead.game, dead.rank, self._recipe.num_actors[dead.game]
        )

    def _retire(self, actor: _LiveActor) -> None:
        """Keep what a dead actor had reported."""
        kept = self._retired[actor.game]
        kept.steps += actor.counts.steps
        kept.episodes += actor.counts.episodes

    def progress(self) -> Progress:
        """See Engine; a role that does not answer in time is left out."""
        metrics = self._ask_learner()
        returns = self._ask_actors()
        shards = self._fleet.look()
        return summarize(
            updates=self._updates,
            metrics=metrics,
            played={game: self._played(game, returns[game]) for game in self._recipe.games},
            shards=shards,
            faults={
                **self._faults,
                "shard_restarts": self._fleet.restarts,
                "transitions_lost": self._fleet.transitions_lost,
                "chunks_lost": sum(self._chunks_lost.values()),
                "redis_reconnects": sum(self._redis_reconnects.values()),
            },
        )

    def _ask_learner(self) -> dict[str, float]:
        report: LearnerReport | None = answers(
            [self._learner.report.options(concurrency_group=CONTROL_GROUP).remote()]
        )[0]
        if report is None:
            return {}
        self._learner_pid, self._updates = report.pid, report.updates
        self._redis_reconnects["learner"] = report.redis_reconnects
        return report.metrics

    def _ask_actors(self) -> dict[str, list[tuple[float, float]]]:
        """Returns of the episodes that ended since the last time, by game."""
        reports: list[ActorReport | None] = answers(
            [
                actor.handle.report.options(concurrency_group=CONTROL_GROUP).remote()
                for actor in self._actors
            ]
        )
        returns: dict[str, list[tuple[float, float]]] = {game: [] for game in self._recipe.games}
        for actor, report in zip(self._actors, reports, strict=True):
            if report is None:
                continue
            actor.pid, actor.counts = report.pid, report.counts
            self._chunks_lost[actor.serial] = report.chunks_lost
            self._redis_reconnects[str(actor.serial)] = report.redis_reconnects
            returns[actor.game].extend(report.counts.returns)
        return returns

    def _played(self, game: str, returns: list[tuple[float, float]]) -> Played:
        live = [actor for actor in self._actors if actor.game == game]
        episodes = sum(actor.counts.episodes for actor in live)
        return Played(
            steps=self._steps(game),
            episodes=self._retired[game].episodes + episodes,
            actors=len(live),
            returns=tuple(returns),
        )

    def _steps(self, game: str) -> int:
        playing = [actor.counts.steps for actor in self._actors if actor.game == game]
        return self._steps_before.get(game, 0) + self._retired[game].steps + sum(playing)

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """See Engine."""
        return self._fleet.configure(game, **change)

    def snapshot(self) -> WeightSnapshot:
        """See Engine."""
        snapshot: WeightSnapshot = self._ask_living_learner("snapshot")
        return snapshot

    def state(self) -> dict[str, Any]:
        """See Engine; also what a learner that dies is restarted from."""
        self._learner_state = self._ask_living_learner("state")
        return {
            "learner": self._learner_state,
            "steps": {game: self._steps(game) for game in self._recipe.games},
            "next_serial": self._next_serial,
        }

    def _ask_living_learner(self, question: str) -> Any:
        """The answer of a learner; of the next one, if this one dies meanwhile."""
        while True:
            method = getattr(self._learner, question)
            reference = method.options(concurrency_group=CONTROL_GROUP).remote()
            try:
                return ray.get(reference, timeout=CALL_TIMEOUT_S)
            except RayActorError as error:
                if error.actor_init_failed:
                    raise
                self._count_death(str(error))
                self._replace_learner()

    def pids(self) -> dict[str, list[int]]:
        """Process ids by role, as of the last `progress`; 0 for one that has not answered yet."""
        return {
            "learner": [self._learner_pid],
            "shard": [shard.pid for shard in self._shards],
            **{
                f"actor/{game}": [a.pid for a in self._actors if a.game == game]
                for game in self._recipe.games
            },
        }

    def close(self) -> None:
        """Ask all loops to end, wait a little, then end the processes."""
        for actor in self._actors:
            actor.handle.stop.options(concurrency_group=CONTROL_GROUP).remote()
        self._learner.stop.options(concurrency_group=CONTROL_GROUP).remote()
        loops = [self._learning, *(actor.running for actor in self._actors)]
        ray.wait(loops, num_returns=len(loops), timeout=5.0)
        if not self._closed:
            self._closed = True
            self._fleet.save()
        for handle in (
            *(actor.handle for actor in self._actors),
            self._learner,
            *(shard.handle for shard in self._shards),
        ):
            ray.kill(handle)
