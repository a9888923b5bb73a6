#!/usr/bin/env python
"""Measure one part of the system against what it could do at best on this machine.

    python launch/bench.py actor                        acting, one core
    python launch/bench.py replay                       replay, in processes as in production
    python launch/bench.py replay-soak --seconds 600    replay for ten minutes at full rate
    python launch/bench.py learner                      learning from replay in this process
    python launch/bench.py system                       everything, on Ray
    python launch/bench.py actor --games pong --num-envs 32
    python launch/bench.py soak --output DIR            a whole run for half an hour: nothing grows
    python launch/bench.py instrumentation              what it costs a run to be watched

`soak` and `instrumentation` watch a run and have options of their own (`bench.py soak --help`). Of
all others the last line is one JSON object with "measured", "bound" and "ratio". The bound is put
together from parts that are measured in the same run; benchmarks/results/README.md says from which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from benchmarks import acting, instrumentation, learning, system
from benchmarks.replay import replay
from benchmarks.reporting import complete_report, format_report
from benchmarks.setup import BenchOptions, BenchSetup, prepare
from benchmarks.soak import replay as replay_soak
from benchmarks.soak import run as soak
from benchmarks.timing import Result
from launch.options.command_line import parse_options
from launch.options.exit_status import run_command

BENCHMARKS: Mapping[str, Callable[[BenchSetup], Result]] = {
    "actor": acting.run,
    "replay": replay.run,
    "replay-soak": replay_soak.run,
    "learner": learning.run,
    "system": system.run,
}


_WITH_OWN_OPTIONS = {
    "soak": soak.main,
    "instrumentation": instrumentation.main,
}


def main(argv: Sequence[str], *, prog: str = "bench.py") -> None:
    """Measure one part and print its report; status 1 if a soak failed."""
    if argv and (own_main := _WITH_OWN_OPTIONS.get(argv[0])):
        own_main(argv[1:])
        return
    options = parse_options(BenchOptions, argv, prog=prog, doc=__doc__)
    # As in the roles' own processes; the learner's measurement sets what its process would have.
    torch.set_num_threads(1)
    with ExitStack() as stack:
        setup = prepare(options, stack)
        result = BENCHMARKS[options.benchmark](setup)
        report: dict[str, Any] = complete_report(result, setup)
    print(format_report(report, result.table))
    print(json.dumps(report, allow_nan=False))
    if result.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
