"""Snapshots in random sequences of what happens to a shard, against plain bookkeeping."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_chunks import make_spec
from replay_shards import GAMES, Players, contents, make_config

import replay.snapshots.snapshot as snapshot_module
from networks.atomic_file import write_atomically
from replay.samplers import HierarchicalSampler
from replay.shard import ReplayShard
from replay.snapshots.keeper import ShardKeeper
from replay.snapshots.restore import shard_folder
from replay.snapshots.snapshot_files import list_manifests, manifest_name
from replay.types import PriorityUpdate

CAPACITY = 64
NOTHING = ({game: {} for game in GAMES}, dict.fromkeys(GAMES, 0))


class Story:
    """A shard on disk, and what must be there when its process has died."""

    def __init__(self, root: Path, *, compression: str, sampler: str, seed: int) -> None:
        self.root = root
        self.config = make_config(sampler=sampler)
        self.specs = [
            replace(make_spec(game=game, capacity=CAPACITY), compression=compression)
            for game in GAMES
        ]
        self.rng = np.random.default_rng(seed)
        self.minutes = itertools.count()
        self.actors = itertools.count(step=len(GAMES))
        self.saved = []
        """(contents, transitions stored) of the snapshots that can be begun from, oldest first."""
        self.next_generation = dict.fromkeys(GAMES, 0)
        self.begin()

    def begin(self) -> None:
        self.shard = ReplayShard(self.config, self.specs)
        minute = next(self.minutes)
        self.keeper = ShardKeeper(
            self.shard,
            self.root,
            write=write_atomically,
            session="one",
            now=lambda: 1_000.0 + 60.0 * minute,
        )
        self.players = Players(self.shard, first_actor=next(self.actors), seed=minute)
        self.has_news = True

    def inserted(self) -> dict[str, int]:
        return {game: table.counts.inserted for game, table in self.shard.stats().tables.items()}

    def play(self, num_chunks: int) -> None:
        self.players.play(num_chunks, games=[str(self.rng.choice(GAMES))])
        self.has_news = True
        for game, columns in contents(self.shard).items():
            newest = max(columns["generations"].tolist(), default=-1)
            self.next_generation[game] = max(self.next_generation[game], newest + 1)

    def learn(self) -> None:
        batch = self.shard.sample()
        if batch is None:
            return
        priorities = self.rng.random(batch.batch_size, np.float32)
        self.shard.update_priorities(PriorityUpdate(keys=batch.keys, priorities=priorities))
        self.has_news = True

    def save(self) -> None:
        assert self.keeper.save()
        if self.has_news:
            self.saved = [*self.saved, (contents(self.shard), self.inserted())][-2:]
        self.has_news = False

    def spoil(self) -> None:
        """The newest snapshot is cut short, as by a disk that fails."""
        folder = shard_folder(self.root, 0, 1)
        for number in list_manifests(folder)[:1]:
            path = folder / manifest_name(number)
            if len(path.read_bytes()) > 100:  # Else it is cut short already.
                path.write_bytes(path.read_bytes()[:100])
                self.saved.pop()

    def die(self) -> None:
        before = self.inserted()
        self.begin()
        wanted, stored = self.saved[-1] if self.saved else NOTHING
        found = contents(self.shard)
        for game in GAMES:
            for name, column in wanted[game].items():
                np.testing.assert_array_equal(found[game][name], column, err_msg=name)
            assert wanted[game] or not len(found[game]["generations"])
        assert self.inserted() == stored
        assert self.keeper.stats().transitions_lost == sum(
            min(CAPACITY, before[game] - stored[game]) for game in GAMES
        )
        with self.shard.locked() as parts:
            for game, table in zip(GAMES, parts.tables, strict=True):
                assert table.ring.num_added >= self.next_generation[game], "keys come again"


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.integers(1, 14)),
        st.tuples(st.sampled_from(["learn", "save", "save", "spoil", "die"]), st.none()),
    ),
    max_size=24,
)


# Whatever came before: from the last but one snapshot, and from one that was written after that.
END = [("save", None), ("spoil", None), ("die", None), ("play", 2), ("save", None), ("die", None)]


@pytest.mark.parametrize("sampler", ["proportional", "rank", "hierarchical"])
@pytest.mark.parametrize("compression", ["none", "lz4"])
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(operations=OPERATIONS, seed=st.integers(0, 1_000))
def test_whatever_happens_a_shard_comes_back_as_it_was_saved(
    compression, sampler, operations, seed
):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "SEGMENT_ENTRIES", 16)
        patch.setattr(snapshot_module, "_ENTRIES_AT_ONCE", 5)
        patch.setattr(snapshot_module, "_PRIORITIES_AT_ONCE", 7)
        # Else tables of 64 would stay one partition.
        patch.setitem(HierarchicalSampler.__init__.__kwdefaults__, "first_edges_after", 20)
        story = Story(Path(folder), compression=compression, sampler=sampler, seed=seed)
        for name, argument in [*operations, *END]:
            getattr(story, name)(*([] if argument is None else [argument]))
            story.shard.check_valid()
