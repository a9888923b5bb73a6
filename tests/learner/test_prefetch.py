"""The prefetching thread: order, bounds, errors and its end. Gates instead of sleeps."""

import threading

import pytest

from learner.prefetch import Prefetcher

SOON_S = 20.0
"""A bound for what takes milliseconds; only a failing test waits that long."""


class Source:
    """Gives 0, 1, 2, ... and notes how far it has come."""

    def __init__(self):
        self.given = 0
        self.reached = threading.Condition()

    def sample(self, timeout_s):
        with self.reached:
            self.given += 1
            self.reached.notify_all()
            return self.given - 1

    def wait_until_given(self, count):
        with self.reached:
            return self.reached.wait_for(lambda: self.given >= count, SOON_S)


def test_batches_come_loaded_and_in_the_order_they_were_sampled():
    batches = Prefetcher(Source().sample, lambda batch: batch * 10)
    try:
        assert [batches.next(SOON_S) for _ in range(5)] == [0, 10, 20, 30, 40]
    finally:
        batches.close()


def test_no_more_batches_are_sampled_than_fit():
    source = Source()
    batches = Prefetcher(source.sample, lambda batch: batch, depth=2)
    try:
        # Two are held, the third waits in the thread's hand.
        assert source.wait_until_given(3)
        assert batches.next(SOON_S) == 0
        assert source.wait_until_given(4)
        assert source.given == 4
    finally:
        batches.close()


def test_without_a_batch_next_gives_none():
    batches = Prefetcher(lambda timeout_s: None, lambda batch: batch)
    try:
        assert batches.next(0.01) is None
    finally:
        batches.close()


def test_an_error_in_the_thread_reaches_whoever_asks_for_the_next_batch():
    def fail(batch):
        raise ValueError("a batch that cannot be loaded")

    batches = Prefetcher(Source().sample, fail)
    try:
        with pytest.raises(ValueError, match="cannot be loaded"):
            batches.next(SOON_S)
    finally:
        batches.close()


def test_close_ends_the_thread_also_when_nobody_takes_its_batches():
    source = Source()
    batches = Prefetcher(source.sample, lambda batch: batch)
    assert source.wait_until_given(2)
    batches.close()
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}
