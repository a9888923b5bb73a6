"""The whole system: steps per second on Ray against the work that its roles cannot avoid.

    bound = cores / (act + samples_per_insert * (learn + gather) + insert)

with CPU seconds of one thread: `act` of an actor for a step, `learn` of the learner for a sample,
`gather` of replay for a sample, `insert` of replay for a transition. They are measured in this
process before Ray is there and again after it has gone. What is lost to processes talking to each
other, to waiting, and to cores that slow each other down, is the difference. The CPU time that the
run's processes really spent tells these apart, on a busy machine too:

    ratio = (cores used / cores) * (CPU seconds of a step in the bound / CPU seconds spent)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self

import torch

from benchmarks.processes import cpu_by_role
from benchmarks.role_work import RoleWork
from benchmarks.setup import BenchSetup, without_pacing
from benchmarks.timing import Result, Rounds, measure_rounds, medians
from engines.engine import Engine
from engines.opening import connect_to_ray, open_engine, open_redis
from learner.learner import precision_on
from recipes.recipe import Recipe
from records.machine import usable_cores
from records.progress import Progress

# Time for measuring the parts, before the run and again after it.
_PARTS_S = 5.0
# Longest wait from the start of the roles to the first update.
_MAX_START_S = 120.0
# Longest wait from the first update until one side sets the pace.
_MAX_SETTLING_S = 15.0
# Time that one side has waited for the other when the slower one sets the pace.
_MIN_WAIT_S = 0.5


def run(setup: BenchSetup) -> Result:
    """Measure the parts, the run, and the parts again."""
    if os.environ.get("RAY_ADDRESS"):
        raise ValueError("the system is measured on this machine alone; unset RAY_ADDRESS")
    recipe = _endless(setup.recipe)
    before = _measure_parts(recipe, setup.device)
    look = _measure_run(recipe, setup)
    after = _measure_parts(recipe, setup.device)
    cost = medians({name: before[name] + after[name] for name in before})
    replay = recipe.config.replay
    per_step = (
        cost["act"] + replay.samples_per_insert * (cost["learn"] + cost["gather"]) + cost["insert"]
    )
    return Result(
        measured=look.steps / look.seconds,
        bound=usable_cores() / per_step,
        unit="steps/s",
        target=0.6,
        parts={
            "act_cpu_s_per_step": cost["act"],
            "learn_cpu_s_per_sample": cost["learn"],
            "gather_cpu_s_per_sample": cost["gather"],
            "insert_cpu_s_per_step": cost["insert"],
            "samples_per_insert": replay.samples_per_insert,
            "bound_cpu_s_per_step": per_step,
            **look.spent(),
            "cores": float(usable_cores()),
            # Equal to `measured` when neither side has run ahead of the other.
            "steps_per_s_by_samples": look.updates
            * replay.batch_size
            / replay.samples_per_insert
            / look.seconds,
            "actors_waiting": look.insert_wait_s / look.seconds,
            "learner_waiting": look.sample_wait_s / look.seconds,
        },
        rounds=len(before["act"]) + len(after["act"]),
        settings={
            "seconds": round(look.seconds, 1),
            "actors": sum(recipe.num_actors.values()),
            "shards": replay.num_shards,
            "device": setup.device.type,
            "precision": precision_on(setup.device, recipe.config.learner.precision),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Counters of a run at one moment, or the differences between two."""

    seconds: float
    steps: int
    updates: int
    insert_wait_s: float
    sample_wait_s: float
    cpu_s: dict[str, float]

    @classmethod
    def take(cls, engine: Engine) -> Self:
        """Read the counters as they are now."""
        progress = engine.progress()
        return cls(
            seconds=time.monotonic(),
            steps=progress.steps,
            updates=progress.updates,
            insert_wait_s=progress.replay.insert_wait_s,
            sample_wait_s=progress.sample_wait_s,
            cpu_s=cpu_by_role(),
        )

    def since(self, earlier: Self) -> Self:
        """Counters' growth since an earlier look."""
        return replace(
            self,
            seconds=self.seconds - earlier.seconds,
            steps=self.steps - earlier.steps,
            updates=self.updates - earlier.updates,
            insert_wait_s=self.insert_wait_s - earlier.insert_wait_s,
            sample_wait_s=self.sample_wait_s - earlier.sample_wait_s,
            cpu_s={role: cpu - earlier.cpu_s.get(role, 0.0) for role, cpu in self.cpu_s.items()},
        )

    def spent(self) -> dict[str, float]:
        """CPU time of each role for a step, and cores that were used; empty if it is unknown."""
        if not self.cpu_s or not self.steps:
            return {}
        total = sum(self.cpu_s.values())
        return {
            **{f"{role}_cpu_s_per_step": cpu / self.steps for role, cpu in self.cpu_s.items()},
            "spent_cpu_s_per_step": total / self.steps,
            "cores_used": total / self.seconds,
        }


def _endless(recipe: Recipe) -> Recipe:
    """Put the run on Ray and let it never reach its end."""
    return Recipe(replace(recipe.config, engine="ray", num_steps=2**40))


def _measure_run(recipe: Recipe, setup: BenchSetup) -> Look:
    """Start the run, let it settle, and measure what it does from there."""
    with ExitStack() as stack:
        connect_to_ray(recipe, stack, device=setup.device)
        engine = open_engine(
            recipe,
            device=setup.device,
            state=None,
            redis=open_redis(recipe.config, stack, run="bench", note=_note),
            note=_note,
        )
        stack.callback(engine.close)
        settle(engine)
        first = Look.take(engine)
        engine.advance(setup.options.measuring_s)
        return Look.take(engine).since(first)


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def settle(engine: Engine) -> None:
    """Wait until the learner learns and the slower of actors and learner sets the pace."""
    progress = _advance_until(engine, lambda now: now.updates > 0, _MAX_START_S)
    if progress.updates == 0:
        raise ValueError(
            f"no update within {_MAX_START_S:.0f} s; choose a preset that fills less replay first"
        )
    waited = progress.replay.insert_wait_s, progress.sample_wait_s

    def is_paced(now: Progress) -> bool:
        waits = now.replay.insert_wait_s - waited[0], now.sample_wait_s - waited[1]
        return max(waits) > _MIN_WAIT_S

    _advance_until(engine, is_paced, _MAX_SETTLING_S)


def _advance_until(engine: Engine, reached: Callable[[Progress], bool], max_s: float) -> Progress:
    """Go on second by second, at most this long."""
    deadline = time.monotonic() + max_s
    while True:
        engine.advance(1.0)
        progress = engine.progress()
        if reached(progress) or time.monotonic() >= deadline:
            return progress


def _measure_parts(recipe: Recipe, device: torch.device) -> Rounds:
    """CPU seconds per step or sample of every part, by one thread of this process."""
    with RoleWork(without_pacing(recipe), device) as work:
        parts = {"act": work.act_all, "insert": work.insert, "gather": work.gather}
        return measure_rounds(parts | {"learn": work.learn}, seconds=_PARTS_S)
