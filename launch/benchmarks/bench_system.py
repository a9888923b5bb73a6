"""The whole system: steps per second on Ray against the work that its roles cannot avoid.

    bound = cores / (act + samples_per_insert * (learn + gather) + insert)

with CPU seconds of one thread: `act` of an actor for a step, `learn` of the learner for a sample,
`gather` of replay for a sample, `insert` of replay for a transition. They are measured in this
process before Ray is there and again after it has gone. What is lost to processes talking to each
other, to waiting, and to cores that slow each other down, is the difference.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

from launch.benchmarks.bench_setup import BenchSetup
from launch.benchmarks.bench_timing import Result, medians
from launch.engine import Progress
from launch.engines import open_engine, open_redis
from launch.recipe import MultitaskRecipe

_PARTS_S = 6.0
"""Of measuring the parts, before and again after the run."""
_MAX_START_S = 60.0
"""From the start of the roles to the first update."""
_MAX_SETTLING_S = 20.0
"""From there to the measurement."""
_MIN_WAIT_S = 0.5
"""Time that one side has waited for the other when the slower one sets the pace."""


def run(setup: BenchSetup) -> Result:
    """Measure the parts, the run, and the parts again."""
    recipe = _endless(setup.recipe)
    before = _measure_parts(recipe, setup.device)
    first, last, seconds = _measure_run(recipe, setup)
    after = _measure_parts(recipe, setup.device)
    cost = medians({name: before[name] + after[name] for name in before})
    replay = recipe.config.replay
    per_step = (
        cost["act"]
        + replay.samples_per_insert * (cost["learn"] + cost["gather"])
        + cost["insert"]
    )
    samples = (last.updates - first.updates) * replay.batch_size
    return Result(
        measured=(last.steps - first.steps) / seconds,
        bound=_cores() / per_step,
        unit="steps/s",
        target=0.6,
        parts={
            "act_cpu_s_per_step": cost["act"],
            "learn_cpu_s_per_sample": cost["learn"],
            "gather_cpu_s_per_sample": cost["gather"],
            "insert_cpu_s_per_step": cost["insert"],
            "samples_per_insert": replay.samples_per_insert,
            "cores": float(_cores()),
            # Equal to `measured` when neither side has run ahead of the other.
            "steps_per_s_by_samples": samples / replay.samples_per_insert / seconds,
            "actors_waiting": (last.insert_wait_s - first.insert_wait_s) / seconds,
            "learner_waiting": (last.sample_wait_s - first.sample_wait_s) / seconds,
        },
        rounds=len(before["act"]) + len(after["act"]),
        settings={
            "seconds": round(seconds, 1),
            "actors": sum(recipe.num_actors.values()),
            "shards": replay.num_shards,
            "device": setup.device.type,
            "precision": recipe.config.learner.precision,
        },
    )


def _endless(recipe: MultitaskRecipe) -> MultitaskRecipe:
    """On Ray, and never at its end."""
    return MultitaskRecipe(replace(recipe.config, engine="ray", num_steps=2**40))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _measure_run(recipe: MultitaskRecipe, setup: BenchSetup) -> tuple[Progress, Progress, float]:
    """(progress at the start and at the end of the measurement, seconds in between)."""
    with ExitStack() as stack:
        engine = open_engine(
            recipe,
            stack,
            device=setup.device,
            state=None,
            link_name="bench",
            redis_url=open_redis(recipe.config, stack),
            note=lambda text: print(text, file=sys.stderr),
        )
        stack.callback(engine.close)
        _settle(engine)
        start = time.monotonic()
        first = engine.progress()
        engine.advance(setup.options.measuring_s)
        last = engine.progress()
        return first, last, time.monotonic() - start


def _settle(engine: Engine) -> None:
    """Wait until the learner learns and the slower of actors and learner sets the pace.

    Raises:
        ValueError: the learner has not begun within a minute.
    """
    progress = _advance_until(engine, lambda now: now.updates > 0, _MAX_START_S)
    if progress.updates == 0:
        raise ValueError(
            f"no update within {_MAX_START_S:.0f} s; choose a preset that fills less replay first"
        )
    waited = progress.insert_wait_s, progress.sample_wait_s

    def is_paced(now: Progress) -> bool:
        waits = now.insert_wait_s - waited[0], now.sample_wait_s - waited[1]
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


def _measure_parts(recipe: MultitaskRecipe, device: torch.device) -> Rounds:
    """CPU seconds per step or sample of every part, by one thread of this process."""
    work = _Work(without_pacing(recipe), device)
    try:
        return measure_rounds(
            {"act": work.act, "insert": work.insert, "gather": work.gather, "learn": work.learn},
            seconds=_PARTS_S,
        )
    finally:
        work.close()


class _Work:
    """What the roles do with a chunk or a batch, without the processes around them."""

    def __init__(self, recipe: MultitaskRecipe, device: torch.device) -> None:
        self._replay = fill_replay(recipe)
        self._batch = draw_batch(self._replay)
        self._learner = build_learner(
            recipe, replay=self._replay, weights=LocalWeights(), device=device
        )
        self._actors = [
            build_actor(
                recipe,
                game,
                rank=0,
                num_ranks=1,
                serial=len(recipe.games) + index,  # Those below have filled the replay.
                replay=self._replay,
                weights=LocalWeights(),
            )
            for index, game in enumerate(recipe.games)
        ]
        self._chunks: list[Chunk] = []

    def act(self) -> Window:
        """Each actor plays a chunk."""
        before = self._num_steps

        def collect() -> None:
            self._chunks = [actor.collect() for actor in self._actors]

        window = timed(collect, 1, clock=time.process_time)
        return Window(window.seconds, self._num_steps - before)

    @property
    def _num_steps(self) -> int:
        return sum(actor.counts.steps for actor in self._actors)

    def insert(self) -> Window:
        """Replay takes the chunks."""
        return timed(
            lambda: [self._replay.add(chunk) for chunk in self._chunks],
            sum(chunk.num_transitions for chunk in self._chunks),
            clock=time.process_time,
        )

    def gather(self) -> Window:
        """Replay makes a batch."""

        def gather() -> None:
            self._batch = draw_batch(self._replay)

        return timed(gather, self._batch.batch_size, clock=time.process_time)

    def learn(self) -> Window:
        """The learner uses the batch and sends its priorities back."""

        def learn() -> None:
            self._learner.update(self._learner.load_batch(self._batch))

        return timed(learn, self._batch.batch_size, clock=time.process_time)

    def close(self) -> None:
        """End the emulators."""
        for actor in self._actors:
            actor.close()
