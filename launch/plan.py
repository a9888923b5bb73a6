#!/usr/bin/env python
"""What a run would come to here or on a cluster, before it is started: pace, memory, time.

    python launch/plan.py                                         the quickstart preset, here
    python launch/plan.py --games pong boxing --actors 4 --target-steps 10000000
    python launch/plan.py --preset amn_8games --actors 4 --cluster cluster.yaml --gpu L4
    python launch/plan.py --preset amn_8games --cluster cluster.yaml --learner-samples-per-s 40000

Takes all options of launch/multitask.py, so that the plan is of that very run; starts nothing of
it, asks nothing of a cloud. docs/cluster.md ("Planning") says how good such a plan is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.planning.options import PlanOptions
from launch.options.command_line import parse_known_options
from launch.options.exit_status import run_command


def main(argv: Sequence[str], *, prog: str = "plan.py") -> None:
    """Probe, estimate, print; ValueError for anything the user got wrong, before probing."""
    options, words = parse_known_options(PlanOptions, argv, prog=prog, doc=__doc__)
    # Not above: they bring torch, and help is shown without.
    from benchmarks.planning.plan import plan
    from benchmarks.planning.text import format_plan
    from recipes.loading import build_config, parse_invocation

    # Balancing says nothing about the pace.
    words = [word for word in words if word != "--balance"]
    invocation = parse_invocation(words, default_preset="quickstart")
    config = build_config(invocation, prog=prog, doc=__doc__).with_absolute_paths()
    document = plan(config, options, preset=invocation.preset)
    print(json.dumps(document, allow_nan=False) if options.json else format_plan(document))


if __name__ == "__main__":
    run_command(main)
