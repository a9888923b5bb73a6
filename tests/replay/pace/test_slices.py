"""Which shards a game's actors feed, when they come and go."""

from hypothesis import given
from hypothesis import strategies as st

from replay.pace.slices import GameSlice, shard_of_rank, slice_of, slices_of_ranks

GAMES = ("a", "b")


def at_first(num_actors, num_shards):
    return [
        {
            game: slice_of(index, num_actors=num, shard=shard, num_shards=num_shards)
            for index, (game, num) in enumerate(zip(GAMES, num_actors, strict=True))
        }
        for shard in range(num_shards)
    ]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_actors_without_gaps_feed_what_they_feed_at_the_start(num_a, num_b, num_shards):
    before = at_first((1, 1), num_shards)
    expected = at_first((num_a, num_b), num_shards)
    found = slices_of_ranks({"a": range(num_a), "b": range(num_b)}, before=before)
    for shard, (now, wanted) in enumerate(zip(found, expected, strict=True)):
        if any(part.is_fed for part in wanted.values()):
            assert now == wanted
        else:
            assert now == before[shard]


@given(st.sets(st.integers(0, 7), min_size=1), st.integers(1, 4))
def test_a_shard_counts_on_a_game_only_if_one_of_its_actors_feeds_it(ranks, num_shards):
    found = slices_of_ranks({"a": ranks, "b": [0]}, before=at_first((1, 1), num_shards))
    fed = {shard_of_rank(0, rank, num_shards) for rank in ranks}
    for shard, parts in enumerate(found):
        if shard in fed:
            assert parts["a"] == GameSlice(num_fed=len(fed), is_fed=True)
        elif parts["b"].is_fed:
            assert not parts["a"].is_fed


def test_a_game_without_actors_is_waited_for_nowhere_and_keeps_its_memory():
    before = at_first((2, 1), 2)
    found = slices_of_ranks({"a": [], "b": [0, 1]}, before=before)
    assert [parts["a"] for parts in found] == [GameSlice(num_fed=2, is_fed=False)] * 2


def test_a_shard_that_nobody_feeds_stays_as_it_is():
    before = at_first((2, 1), 2)
    found = slices_of_ranks({"a": [0], "b": []}, before=before)
    assert found[0]["a"] == GameSlice(num_fed=1, is_fed=True)
    assert found[1] == before[1]
