"""Pairs of watched and unwatched phases, and what is made of them."""

import math

from benchmarks.instrumentation import Phase, alternate, compare
from benchmarks.system import Look


def phase(arm, rate, cpu=(("actors", 20.0),)):
    did = Look(
        seconds=10.0,
        steps=round(rate),
        updates=round(4 * rate),
        insert_wait_s=0.0,
        sample_wait_s=0.0,
        cpu_s=dict(cpu),
    )
    return Phase(arm, did)


def machine(*, cost, drift=0.0, noise=(0.0,)):
    """One whose speed changes slowly, and a little from phase to phase."""
    done = []

    def run_phase(arm, seconds):
        assert seconds == 5.0
        rate = 1e6 * math.exp(drift * len(done) + noise[len(done) % len(noise)])
        done.append(arm)
        return phase(arm, rate * (1 - cost if arm == "with" else 1.0))

    return run_phase, done


def test_each_pair_is_the_other_way_round_than_the_one_before():
    run_phase, done = machine(cost=0.0)
    alternate(run_phase, rounds=3, phase_s=5.0)
    assert done == ["without", "with", "with", "without", "without", "with"]


def test_interval_holds_the_truth_and_widens_with_the_noise():
    few, _ = machine(cost=0.01, noise=(0.0, 0.01, -0.01, 0.005, 0.0))
    much, _ = machine(cost=0.01, noise=(0.0, 0.1, -0.1, 0.05, 0.0))
    narrow = compare(alternate(few, rounds=20, phase_s=5.0))
    wide = compare(alternate(much, rounds=20, phase_s=5.0))
    assert narrow["low"] <= 0.99 <= narrow["high"]
    assert wide["high"] - wide["low"] > 3 * (narrow["high"] - narrow["low"])
