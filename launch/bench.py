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

import importlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.options import BenchOptions, InstrumentationOptions, SoakOptions
from launch.options.command_line import parse_options
from launch.options.exit_status import run_command

_PARTS = {
    "actor": "benchmarks.acting",
    "replay": "benchmarks.replay.replay",
    "replay-soak": "benchmarks.soak.replay",
    "learner": "benchmarks.learning",
    "system": "benchmarks.system",
}
# The report of one benchmark, and the same for people.
Found = tuple[dict[str, Any], str]


def main(argv: Sequence[str], *, prog: str = "bench.py") -> None:
    """Measure one part and print its report; status 1 if a soak failed."""
    measure = {"soak": _soak, "instrumentation": _instrumentation}.get(argv[0] if argv else "")
    report, text = _part(argv, prog) if measure is None else measure(argv[1:], f"{prog} {argv[0]}")
    print(text)
    print(json.dumps(report, allow_nan=False))
    if report.get("passed") is False:
        raise SystemExit(1)


# What measures brings torch and Ray, so it is imported when the options have been read.


def _part(argv: Sequence[str], prog: str) -> Found:
    options = parse_options(BenchOptions, argv, prog=prog, doc=__doc__)
    import torch

    from benchmarks.reporting import complete_report, format_report
    from benchmarks.setup import prepare

    # As in the roles' own processes; the learner's measurement sets what its process would have.
    torch.set_num_threads(1)
    with ExitStack() as stack:
        setup = prepare(options, stack)
        result = importlib.import_module(_PARTS[options.benchmark]).run(setup)
        report = complete_report(result, setup)
    return report, format_report(report, result.table)


def _soak(argv: Sequence[str], prog: str) -> Found:
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    options = parse_options(SoakOptions, words[:cut], prog=prog, doc=None)
    from benchmarks.soak.run import run

    return run(options, words[cut + 1 :])


def _instrumentation(argv: Sequence[str], prog: str) -> Found:
    options = parse_options(InstrumentationOptions, argv, prog=prog, doc=None)
    from benchmarks.instrumentation import describe, run

    report = run(options)
    return report, describe(report)


if __name__ == "__main__":
    run_command(main)
