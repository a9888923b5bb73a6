"""The replay processes of a run on Ray: started, asked, set, and followed through their deaths.

Ray itself starts a dead one again, under the same handle; the new process begins from the newest
snapshot of the one before (replay/snapshots/keeper.py), or empty. It is recognised by its process
id.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from engines.on_ray.calls import CALL_TIMEOUT_S, answers, ask, cause_of, could_not_start, is_loss
from engines.on_ray.cluster import RemoteShard
from engines.on_ray.ray_run import RayRun
from recipes.roles import slices_of
from replay.pace.game_settings import GameSettings, SettingsChange
from replay.pace.slices import GameSlice, slices_of_ranks
from replay.snapshots.keeper import clear_snapshots
from replay.stats import NoteReader, ShardStats

# How long the end of a run waits for the shards' last snapshots.
_SAVE_PATIENCE_S = 120.0


@dataclass(slots=True)
class LiveShard:
    """One replay process, and what it said last."""

    handle: Any
    # None before it has answered.
    process: str | None = None
    stats: ShardStats | None = None
    notes: NoteReader = field(default_factory=NoteReader)


class ShardFleet:
    """All replay processes of a run."""

    def __init__(self, run: RayRun, *, replay_dir: Path | None) -> None:
        """Start them; without a `replay_dir` they keep no snapshots."""
        recipe = run.recipe
        self._run = run
        self._replay_dir = replay_dir if recipe.config.replay.snapshot_period_s > 0 else None
        # The same for a process and all that take its place, so that they know each other.
        session = secrets.token_hex(8)
        options = run.placement.shard()
        self.shards = [
            LiveShard(
                run.start(
                    RemoteShard,
                    "shard",
                    number,
                    options,
                    shard=number,
                    replay_dir=str(replay_dir or ""),
                    session=session,
                )
            )
            for number in range(recipe.config.replay.num_shards)
        ]
        # Processes that took the place of a dead one.
        self.restarts = 0
        # Stored by processes that died, and not in the snapshots that others began from.
        self.transitions_lost = 0
        self._dead: list[ShardStats] = []
        self._settings: dict[str, GameSettings] = {}
        self._slices_at_first = [
            slices_of(recipe, shard=number, num_actors=recipe.num_actors)
            for number in range(len(self.shards))
        ]
        self._slices = list(self._slices_at_first)

    @property
    def handles(self) -> list[Any]:
        """Handles of all processes, in the order of the shards."""
        return [shard.handle for shard in self.shards]

    def look(self) -> list[ShardStats]:
        """What all processes have done, those that died among them, as far as they answer."""
        replies = answers([ask(shard.handle, "stats") for shard in self.shards])
        for shard, reply in zip(self.shards, replies, strict=True):
            if reply is None:
                continue
            process, stats = reply
            if shard.process not in (None, process):
                self._restarted(shard, stats)
            shard.process, shard.stats = process, stats
            for line in shard.notes.new(stats):
                self._run.note(line)
        return [*self._dead, *(shard.stats for shard in self.shards if shard.stats)]

    @property
    def owners(self) -> list[str]:
        """Names of the processes that have counted what `look` gave; empty before an answer."""
        return [shard.process or "" for shard in self.shards]

    def _restarted(self, shard: LiveShard, now: ShardStats) -> None:
        """Another process is in a dead one's place."""
        self.restarts += 1
        self.transitions_lost += now.transitions_lost
        shard.notes = NoteReader()
        before = shard.stats
        if not now.num_notes:
            self._run.note("a replay shard died and came back empty")
        if before is not None and not now.snapshots.has_restored:
            # One that was restored has the old counts, too; they must not be there twice.
            empty = {
                game: replace(table, size=0, ready=0, capacity=0, num_bytes=0, num_raw_bytes=0)
                for game, table in before.tables.items()
            }
            self._dead.append(replace(before, tables=empty, limiter_error=0.0))
        number = self.shards.index(shard)
        if self._slices[number] != self._slices_at_first[number]:
            ask(shard.handle, "assign", self._slices[number])
        for game, settings in self._settings.items():
            ask(shard.handle, "configure", game, **asdict(settings))
        self._run.deaths.count("a replay shard died")

    def configure(self, game: str, **change: Unpack[SettingsChange]) -> GameSettings:
        """Change what all shards keep and give of a game; nothing changes if one refuses."""
        # All must agree before the first one changes anything.
        self._ask_all("check_configure", game, **change)
        settings: GameSettings = self._ask_all("configure", game, **change)[-1]
        self._settings[game] = settings
        return settings

    def check_assign(self, ranks: Mapping[str, Collection[int]]) -> None:
        """Raises ValueError if replay cannot go on with just those actors of each game."""
        self._assign("check_assign", ranks)

    def assign(self, ranks: Mapping[str, Collection[int]]) -> None:
        """Go on with just those actors of each game: nothing waits for data that nobody sends.

        A shard that none of them feeds stays as it is: it gives batches as long as it may.
        ValueError if a shard refuses, or does not answer; the others may have changed by then.
        """
        self._slices = self._assign("assign", ranks)

    def _assign(
        self, question: str, ranks: Mapping[str, Collection[int]]
    ) -> list[dict[str, GameSlice]]:
        wanted = slices_of_ranks(ranks, before=self._slices)
        if wanted != self._slices:
            _wait_for(
                [
                    ask(shard.handle, question, slices)
                    for shard, slices in zip(self.shards, wanted, strict=True)
                ]
            )
        return wanted

    def _ask_all(self, question: str, *args: Any, **kwargs: Any) -> list[Any]:
        return _wait_for([ask(shard.handle, question, *args, **kwargs) for shard in self.shards])

    def save(self) -> None:
        """Have all write their last snapshots, and delete those of another number of shards."""
        if self._replay_dir is None:
            return
        self._run.note("writing replay to disk")
        references = [ask(shard.handle, "save") for shard in self.shards]
        are_saved: list[Any] = [False]
        with suppress(RayActorError):  # One that cannot start; why is known already.
            are_saved = answers(references, patience_s=_SAVE_PATIENCE_S)
        if all(are_saved):
            clear_snapshots(self._replay_dir, keep_num_shards=len(self.shards))
        else:
            self._run.note("not all of replay could be written; --resume goes on with what was")


def _wait_for(references: list[Any]) -> list[Any]:
    """All answers of shards; ValueError if one refuses or does not answer."""
    try:
        return ray.get(references, timeout=CALL_TIMEOUT_S)
    except RayError as error:
        if isinstance(error, GetTimeoutError) or is_loss(error) or could_not_start(error):
            raise ValueError(
                "a replay shard does not answer, perhaps because it is being started again; try "
                "again in a few seconds"
            ) from None
        raise cause_of(error) from None
