"""Populations: who copies whom, how settings change, and that luck is drawn fairly."""

import math
from collections import Counter

import numpy as np
import pytest
import signals
from runs import save_random_expert

from recipes.config import RunConfig
from recipes.evolution import (
    Standing,
    confirming_seed,
    decide,
    explore,
    find_winner,
    initial_settings,
    is_clearly_better,
    member_seed,
)
from recipes.population import ExploitConfig, ExploreConfig, PopulationConfig
from recipes.population_plan import Range, plan_population

GAME = signals.GAMES[0].name
RATE = "learner.learning_rate"
DRAWS = 10_000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = save_random_expert(tmp_path_factory.mktemp("experts"), GAME, torso="minatar")
    return RunConfig(games=(GAME,), num_steps=1000, objective="joint", teachers=(f"{GAME}={path}",))


def plan(run, **settings):
    return plan_population(PopulationConfig(**settings), run)


def standings(*scores):
    return {
        member: Standing(score=score, settings={RATE: 1e-4 * (member + 1)})
        for member, score in enumerate(scores)
    }


def choose(plan, scores, *, member=0, comparison=1, steps=1000):
    return decide(plan, member, standings(*scores), comparison=comparison, steps=steps)


def test_only_a_score_above_the_margin_is_copied(run):
    population = plan(
        run, tune=(RATE,), exploit=ExploitConfig(margin=5.0), explore=ExploreConfig(enabled=False)
    )
    for better_by in (-20.0, 0.0, 4.9, 5.0, 5.1, 60.0):
        decision = choose(population, [10.0, 10.0 + better_by])
        copied = better_by > 5.0
        assert decision.donor == (1 if copied else None)
        assert decision.settings == standings(0, 0)[int(copied)].settings


def test_a_relative_margin_is_a_part_of_ones_own_score_whatever_its_sign():
    config = ExploitConfig(margin=0.1, margin_is="relative")
    assert is_clearly_better(111.0, 100.0, config)
    assert not is_clearly_better(109.0, 100.0, config)
    assert is_clearly_better(-8.9, -10.0, config)
    assert not is_clearly_better(-9.1, -10.0, config)


def test_partners_are_drawn_evenly_from_the_others(run):
    population = plan(run, members=4, tune=(RATE,), exploit=ExploitConfig(margin=0.0))
    donors = Counter(
        choose(population, [0.0, 1.0, 1.0, 1.0], comparison=number).donor for number in range(3000)
    )
    assert set(donors) == {1, 2, 3}
    # Four standard errors of a share of a third.
    assert all(abs(count - 1000) < 4 * math.sqrt(3000 * 2 / 9) for count in donors.values())


def test_a_setting_changes_once_in_three_times_up_as_often_as_down():
    rng = np.random.default_rng(0)
    wide = {"a": Range(low=1e-9, high=1e9)}
    factors = [explore({"a": 1.0}, wide, ExploreConfig(), rng)["a"] for _ in range(DRAWS)]
    assert set(np.round(factors, 9)) == {1.0, 1.2, round(1 / 1.2, 9)}
    changed = np.mean(np.asarray(factors) != 1.0)
    assert abs(changed - 1 / 3) < 4 * math.sqrt(2 / 9 / DRAWS)


def test_settings_have_no_drift():
    rng = np.random.default_rng(0)
    wide = {"a": Range(low=1e-9, high=1e9)}
    # More draws than for the rate, so that 55 % of rises would be seen for certain.
    steps = [math.log(explore({"a": 1.0}, wide, ExploreConfig(), rng)["a"]) for _ in range(100_000)]
    spread = math.log(1.2) * math.sqrt(1 / 3)
    assert abs(np.mean(steps)) < 4 * spread / math.sqrt(len(steps))


def test_settings_change_independently_of_each_other():
    rng = np.random.default_rng(0)
    wide = dict.fromkeys(("a", "b"), Range(low=1e-9, high=1e9))
    pairs = [explore({"a": 1.0, "b": 1.0}, wide, ExploreConfig(), rng) for _ in range(DRAWS)]
    both = np.mean([pair["a"] != 1.0 and pair["b"] != 1.0 for pair in pairs])
    assert abs(both - 1 / 9) < 4 * math.sqrt(8 / 81 / DRAWS)


def test_no_setting_leaves_its_bounds_and_none_dies_at_the_floor():
    rng = np.random.default_rng(1)
    narrow = {"a": Range(low=0.01, high=0.02)}
    value, seen = {"a": 0.01}, set()
    for _ in range(2000):
        value = explore(value, narrow, ExploreConfig(), rng)
        assert 0.01 <= value["a"] <= 0.02
        seen.add(value["a"])
    # It has come away from the floor, and back to it.
    assert {0.01, 0.02} <= seen


def test_first_values_are_log_uniform_and_members_differ(run):
    population = plan(run, members=1024, tune=(RATE,), initial=(f"{RATE}=1e-5,1e-3",))
    drawn = np.array([initial_settings(population, n)[RATE] for n in range(1024)])
    assert drawn.min() >= 1e-5
    assert drawn.max() <= 1e-3
    logs = (np.log10(drawn) + 5) / 2
    assert abs(logs.mean() - 0.5) < 4 * math.sqrt(1 / 12 / 1024)
    assert abs(np.mean(logs < 0.25) - 0.25) < 4 * math.sqrt(3 / 16 / 1024)
    assert (
        len({member_seed(population, n) for n in range(1024)} | {confirming_seed(population)})
        == 1025
    )


def test_nothing_changes_before_the_burn_in_is_over(run):
    population = plan(run, tune=(RATE,), burn_in_steps=500, explore=ExploreConfig(probability=1.0))
    early, late = (choose(population, [0.0, 9.0, 9.0], steps=steps) for steps in (499, 500))
    assert early.donor is None
    assert early.settings == standings(0)[0].settings
    assert late.donor is not None
    assert late.settings != standings(0)[0].settings


def test_exploit_and_explore_are_switched_apart(run):
    still = ExploreConfig(enabled=False)
    copies = choose(plan(run, tune=(RATE,), explore=still), [0.0, 9.0])
    assert (copies.donor, copies.settings) == (1, {RATE: 2e-4})
    alone = ExploitConfig(enabled=False)
    always = ExploreConfig(probability=1.0)
    changes = choose(plan(run, tune=(RATE,), exploit=alone, explore=always), [0.0, 9.0])
    assert changes.donor is None
    assert changes.settings[RATE] in (1e-4 * 1.2, 1e-4 / 1.2)


def test_a_population_of_one_changes_nothing(run):
    population = plan(run, members=1)
    assert initial_settings(population, 0) == {}
    assert member_seed(population, 0) == run.seed
    for comparison in range(100):
        decision = choose(population, [0.0], comparison=comparison)
        assert decision == decide(population, 0, standings(0.0), comparison=comparison, steps=0)
        assert decision.donor is None
        assert decision.settings == {RATE: 1e-4}


def test_the_same_scores_are_decided_alike_and_another_seed_differs(run):
    def decisions(seed):
        population = plan_population(
            PopulationConfig(tune=(RATE,)), RunConfig(**{**_fields(run), "seed": seed})
        )
        return [choose(population, [0.0, 1.0, 2.0], comparison=n) for n in range(50)]

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


def _fields(run):
    return {name: getattr(run, name) for name in ("games", "num_steps", "objective", "teachers")}


def test_the_student_is_the_best_members_or_for_comparison_the_medians():
    scores = {0: 1.0, 1: 4.0, 2: 3.0, 3: 2.0}
    assert find_winner(scores, student="best") == 1
    assert find_winner(scores, student="median") == 3
    assert find_winner({0: 1.0, 1: 1.0}, student="best") == 0
