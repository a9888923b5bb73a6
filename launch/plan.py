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

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch

from benchmarks.planning.cluster_file import ClusterFile, Node, read_cluster
from benchmarks.planning.estimate import (
    GPUS,
    Estimate,
    LearnerSpeed,
    assume_gpu,
    estimate_cluster,
    estimate_machine,
)
from benchmarks.planning.probe import Probe, measure
from benchmarks.planning.text import as_json, format_plan
from benchmarks.planning.workload import Workload
from benchmarks.reporting import describe_versions
from launch.options.exit_status import run_command
from recipes.config import RunConfig
from recipes.loading import build_config, parse_invocation
from records.machine import available_memory_bytes, describe_hardware, usable_cores

_UNKNOWN_GPU = "T4"
"""GPU to assume where none is named: the slowest in use, so that the plan errs on the safe side."""

_IDLE = 0.95
"""Share of a core below which a probe was not alone on the machine."""

_MAX_STEPS = 10**15
"""Most steps of a plan, more than anybody plays: a year has 3e7 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The options that multitask.py does not have."""

    target_steps: int | None = None
    cluster: Path | None = None
    gpu: str = ""
    learner_samples_per_s: float | None = None
    cpu_speed: float = 1.0
    network_gbit_s: float | None = None
    probe_s: float = 40.0
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and a GPU that nothing is known of."""
        if self.target_steps is not None:
            _check_steps("target-steps", self.target_steps)
        for name in ("learner_samples_per_s", "cpu_speed", "network_gbit_s", "probe_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name.replace('_', '-')} must be a positive number, got {value}")
        if self.gpu and self.gpu not in GPUS:
            raise ValueError(
                f"nothing is known of a GPU {self.gpu!r}; choose among {', '.join(GPUS)}, or give "
                "--learner-samples-per-s"
            )


def main(argv: Sequence[str], *, prog: str = "plan.py") -> None:
    """Probe, estimate, print; ValueError for anything the user got wrong, before probing."""
    options, words = parse_options(argv, prog=prog)
    invocation = parse_invocation(words, default_preset="quickstart")
    config = build_config(invocation, prog=prog, doc=__doc__).with_absolute_paths()
    _check_steps("num-steps", config.num_steps)
    cluster = None if options.cluster is None else read_cluster(options.cluster)
    probe = measure(what_is_probed(config, options, cluster), seconds=options.probe_s)
    document = make_plan(
        config,
        probe,
        options,
        cluster,
        here=Node(
            kind="this machine",
            cpus=usable_cores(),
            gpus=torch.cuda.device_count(),
            memory_bytes=available_memory_bytes(),
        ),
    )
    document |= {
        "preset": invocation.preset,
        "versions": describe_versions(),
        "hardware": describe_hardware(),
    }
    print(json.dumps(document, allow_nan=False) if options.json else format_plan(document))


def _check_steps(name: str, number: int) -> None:
    if not 1 <= number <= _MAX_STEPS:
        raise ValueError(f"{name} must be at least 1 and at most {_MAX_STEPS:.0e}, got {number}")


class _Parser(argparse.ArgumentParser):
    """Makes one line of a mistake, as all commands do."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def parse_options(argv: Sequence[str], *, prog: str = "plan.py") -> tuple[PlanOptions, list[str]]:
    """(the plan's options, those of the run); ValueError for the former."""
    parser = _Parser(
        prog=prog,
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All options of launch/multitask.py are taken as well: --games, --preset, "
        "--actors, ... (see multitask.py --help).",
    )
    parser.add_argument(
        "--target-steps", type=int, help="how many steps are wanted; without, the run's num_steps"
    )
    parser.add_argument(
        "--cluster", type=Path, help="cluster.yaml of `ray up`, or a RayCluster of KubeRay"
    )
    parser.add_argument("--gpu", default="", help=f"the learner's, there: one of {', '.join(GPUS)}")
    parser.add_argument(
        "--learner-samples-per-s",
        type=float,
        help="what one learner does there, if you have measured it (bench.py learner)",
    )
    parser.add_argument(
        "--cpu-speed",
        type=float,
        default=1.0,
        help="of one CPU of the cluster over one core of this machine (default: 1)",
    )
    parser.add_argument("--network-gbit-s", type=float, help="of the head; without, no limit")
    parser.add_argument(
        "--probe-s", type=float, default=40.0, help="length of the measurement (default: 40)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    known, words = parser.parse_known_args(list(argv))
    # Says nothing about the pace.
    return PlanOptions(**vars(known)), [word for word in words if word != "--balance"]


def make_plan(
    config: RunConfig,
    probe: Probe,
    options: PlanOptions,
    cluster: ClusterFile | None,
    *,
    here: Node,
) -> dict[str, Any]:
    """The plan as a document: what the probe means here, and on the cluster if there is one."""
    notes = []
    if probe.made_up_teachers:
        notes.append(
            f"no expert is there for {', '.join(probe.made_up_teachers)}: probed with one of "
            "random weights, which is as fast; the run itself needs a real one"
        )
    if config.actor.inference == "server":
        notes.append(
            "the work of actor.inference server is not planned, only its CPU: actors are taken to "
            "run the student"
        )
    if cluster is not None and here.gpus and config.device == "auto" and _is_on_cpu(probe):
        notes.append(
            "the cluster's head has no GPU, so the learner was probed on the CPU, for this machine "
            "as well"
        )
    if probe.core_share < _IDLE:
        notes.append(
            f"other programs are running here: the probe got {probe.core_share:.0%} of a core, and "
            "as long as they run expect about that part of this machine's pace"
        )
    estimates = [_estimate_here(config, probe, options, here, notes)]
    if cluster is not None:
        estimates += _estimate_there(config, probe, options, cluster, here, notes)
    return {
        "games": list(config.games),
        "actors": config.actors_of,
        "target_steps": options.target_steps or config.num_steps,
        "estimates": [as_json(estimate) for estimate in estimates],
        "notes": notes,
        "probe": as_json(probe),
    }


def _is_on_cpu(probe: Probe) -> bool:
    return probe.learner_device == "cpu"


def _estimate_here(
    config: RunConfig, probe: Probe, options: PlanOptions, here: Node, notes: list[str]
) -> Estimate:
    wants_gpu = config.device == "cuda" or bool(options.gpu and options.cluster is None)
    on_gpu = not _is_on_cpu(probe) or (wants_gpu and options.cluster is None)
    work = _workload(config, options, needs_gpu=on_gpu)
    gpu = options.gpu if options.cluster is None else ""
    if on_gpu and _is_on_cpu(probe):
        notes.append("this machine has no GPU: the figures are of it with one added")
    return estimate_machine(
        work,
        probe,
        learner_speed(work, probe, options if options.cluster is None else PlanOptions(), gpu),
        cores=here.cpus or 1,
        available_bytes=here.memory_bytes or 0,
        learns_on_gpu=on_gpu,
    )


def _estimate_there(
    config: RunConfig,
    probe: Probe,
    options: PlanOptions,
    cluster: ClusterFile,
    here: Node,
    notes: list[str],
) -> list[Estimate]:
    estimates: list[Estimate] = []
    for size, largest in (("smallest", False), ("largest", True)):
        nodes = _complete(cluster.nodes(largest=largest), here, options, notes)
        if estimates and estimates[-1].nodes == len(nodes):
            continue
        gpu = options.gpu or next((node.gpu for node in nodes if node.gpu), "")
        # Like the run itself, `auto` takes what the launching machine has.
        has_gpu = bool(nodes[0].gpus or options.gpu)
        needs_gpu = config.device == "cuda" or (config.device == "auto" and has_gpu)
        work = _workload(config, options, needs_gpu=needs_gpu)
        estimates.append(
            estimate_cluster(
                work,
                probe,
                learner_speed(work, probe, options, gpu),
                nodes,
                where=f"{options.cluster}, {size}",
                cpu_speed=options.cpu_speed,
                network_bytes_per_s=None
                if options.network_gbit_s is None
                else options.network_gbit_s * 1e9 / 8,
            )
        )
    notes.append(
        f"a CPU of the cluster is taken for {options.cpu_speed:g} of a core of this machine "
        "(--cpu-speed); in clouds a CPU is half of a core as a rule"
    )
    return estimates


def _complete(
    nodes: Sequence[Node], here: Node, options: PlanOptions, notes: list[str]
) -> list[Node]:
    """Machines of which the file says nothing are taken to be like this one."""
    completed = []
    for index, node in enumerate(nodes):
        if node.cpus is None:
            note = (
                f"the file does not say how many CPUs a {node.kind} has, which is taken to be like "
                "here; write `resources: {CPU: N, GPU: N}` into its node type"
            )
            if note not in notes:
                notes.append(note)
            node = replace(node, cpus=here.cpus, memory_bytes=here.memory_bytes)
        if node.gpus is None:
            node = replace(node, gpus=here.gpus)
            if index == 0 and options.gpu:
                node = replace(node, gpus=max(1, here.gpus or 0), gpu=options.gpu)
        completed.append(node)
    return completed


def learner_speed(work: Workload, probe: Probe, options: PlanOptions, gpu: str) -> LearnerSpeed:
    """Given, measured here, or assumed, in this order; the origin says which."""
    if options.learner_samples_per_s is not None:
        return LearnerSpeed(options.learner_samples_per_s, "given")
    on_gpu_here = not _is_on_cpu(probe)
    if not work.needs_gpu and not on_gpu_here:
        return LearnerSpeed(probe.learner_samples_per_s, "measured here, on the CPU")
    if on_gpu_here and (not gpu or gpu in probe.learner_device):
        return LearnerSpeed(probe.learner_samples_per_s, f"measured here, {probe.learner_device}")
    batch_size = work.batch_size // work.learners
    if gpu in GPUS:
        return assume_gpu(gpu, probe, batch_size=batch_size)
    slow = assume_gpu(_UNKNOWN_GPU, probe, batch_size=batch_size)
    return LearnerSpeed(slow.samples_per_s, f"{slow.origin}, as it is not known which GPU it is")


def _workload(config: RunConfig, options: PlanOptions, *, needs_gpu: bool) -> Workload:
    return Workload.of(
        config, target_steps=options.target_steps or config.num_steps, needs_gpu=needs_gpu
    )


def what_is_probed(
    config: RunConfig, options: PlanOptions, cluster: ClusterFile | None
) -> RunConfig:
    """One learner with its part of the batch, on what is here, wherever the run is to learn."""
    work_of_one = config.learner.part_of(config.replay.batch_size)
    return replace(
        config,
        device=_probed_device(config, options, cluster),
        learner=replace(config.learner, num_replicas=1),
        replay=replace(config.replay, batch_size=work_of_one),
    )


def _probed_device(
    config: RunConfig, options: PlanOptions, cluster: ClusterFile | None
) -> Literal["auto", "cpu"]:
    # The run would learn on a CPU there, whatever is here.
    has_none = cluster is not None and cluster.head.gpus == 0 and not options.gpu
    return "cpu" if config.device == "cpu" or (config.device == "auto" and has_none) else "auto"


if __name__ == "__main__":
    run_command(main)
