"""What a member of a population does when it compares itself with the others; all draws are here.

Every draw comes from the population's seed, the member and the number of the comparison, so the
same scores give the same decision, also when a program dies in between and decides once more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recipes.population import ExploitConfig, ExploreConfig
from recipes.population_plan import PopulationPlan, Range

# Streams of draws of one population.
_RUN = 1
_INITIAL = 2
_PARTNER = 3
_EXPLORE = 4
_CONFIRM = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a member is judged by, as of its newest comparison."""

    score: float
    settings: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How a member goes on."""

    # Whose weights, optimizer's state and settings it takes; None to keep its own.
    donor: int | None
    settings: Mapping[str, float]


def member_seed(plan: PopulationPlan, member: int) -> int:
    """Seed of a member's own run; a population of one is the run itself."""
    if plan.config.members == 1:
        return plan.seed
    return int(np.random.SeedSequence((plan.seed, _RUN, member)).generate_state(1)[0])


def confirming_seed(plan: PopulationPlan) -> int:
    """Seed of the last test of the member that was picked; no member has it."""
    return int(np.random.SeedSequence((plan.seed, _CONFIRM)).generate_state(1)[0])


def initial_settings(plan: PopulationPlan, member: int) -> dict[str, float]:
    """First values of the tuned settings, log-uniform; none to change in a population of one."""
    if plan.config.members == 1:
        return {}
    rng = np.random.default_rng((plan.seed, _INITIAL, member))
    return {name: _log_uniform(plan.initial[name], rng) for name in plan.tuned}


def _log_uniform(where: Range, rng: np.random.Generator) -> float:
    drawn = math.exp(rng.uniform(math.log(where.low), math.log(where.high)))
    return min(where.high, max(where.low, drawn))


def decide(
    plan: PopulationPlan,
    member: int,
    standings: Mapping[int, Standing],
    *,
    comparison: int,
    steps: int,
) -> Decision:
    """Compare a member with one random other, then change settings, copied or not.

    (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846; the rule is that of IMPALA, Espeholt
    et al. 2018, https://arxiv.org/abs/1802.01561, appendix F.)

    Args:
        plan: of the population.
        member: who decides.
        standings: of all members that have one, the decider among them.
        comparison: number of this comparison of the member, from 1.
        steps: of the member, when it was scored.
    """
    own = standings[member]
    if steps < plan.config.burn_in_steps:
        return Decision(donor=None, settings=own.settings)
    donor = None
    others = sorted(set(standings) - {member})
    if plan.config.exploits and others:
        rng = np.random.default_rng((plan.seed, _PARTNER, member, comparison))
        other = others[int(rng.integers(len(others)))]
        if is_clearly_better(standings[other].score, own.score, plan.config.exploit):
            donor = other
    settings = own.settings if donor is None else standings[donor].settings
    if plan.config.explores:
        rng = np.random.default_rng((plan.seed, _EXPLORE, member, comparison))
        settings = explore(settings, plan.bounds, plan.config.explore, rng)
    return Decision(donor=donor, settings=settings)


def is_clearly_better(score: float, own: float, config: ExploitConfig) -> bool:
    """Whether another member's score lies above one's own by more than the margin.

    A relative margin is a part of the size of one's own score, which may be negative.
    """
    margin = config.margin * (abs(own) if config.margin_is == "relative" else 1.0)
    return score - own > margin


def explore(
    settings: Mapping[str, float],
    bounds: Mapping[str, Range],
    config: ExploreConfig,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Settings of which each is multiplied or divided by a factor, with some probability.

    Up and down come equally often and by equal distances in the logarithm, so the walk has no
    drift; bounds stop it.
    """
    explored = {}
    for name, value in settings.items():
        changes, rises = rng.random(2) < (config.probability, 0.5)
        factor = (config.factor if rises else 1 / config.factor) if changes else 1.0
        explored[name] = min(bounds[name].high, max(bounds[name].low, value * factor))
    return explored


def find_winner(scores: Mapping[int, float], *, student: str) -> int:
    """The member whose network a population ends with: `best`, or the lower `median`."""
    ranked = sorted(scores, key=lambda member: (-scores[member], member))
    return ranked[0] if student == "best" else ranked[len(ranked) // 2]
