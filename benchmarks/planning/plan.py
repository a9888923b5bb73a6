"""Puts a plan together: what the probe means on this machine, and on a cluster if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from benchmarks.planning.cluster_file import Cluster, Node, read_cluster
from benchmarks.planning.estimate import Estimate, LearnerSpeed, Place, assume_gpu, estimate
from benchmarks.planning.options import PlanOptions
from benchmarks.planning.probe import Probe, measure
from benchmarks.planning.text import as_json
from benchmarks.reporting import describe_versions
from recipes.config import RunConfig
from records.machine import available_memory_bytes, describe_hardware, usable_cores

# GPU to assume where none is named: the slowest in use, so that the plan errs on the safe side.
_UNKNOWN_GPU = "T4"
# Share of a core below which a probe was not alone on the machine.
_IDLE = 0.95


def plan(config: RunConfig, options: PlanOptions, *, preset: str) -> dict[str, Any]:
    """Probe and estimate; ValueError for anything the user got wrong, before probing."""
    config = replace(config, num_steps=options.steps(config.num_steps))
    cluster = None if options.cluster is None else read_cluster(options.cluster)
    if cluster is not None and config.engine == "local":
        raise ValueError("a cluster is for --engine ray; the local engine is one process")
    here = Node(
        kind="this machine",
        cpus=usable_cores(),
        gpus=torch.cuda.device_count(),
        memory_bytes=available_memory_bytes(),
    )
    probe = measure(what_is_probed(config, options, cluster), seconds=options.probe_s)
    return {
        **make_plan(config, probe, options, cluster, here=here),
        "preset": preset,
        "versions": describe_versions(),
        "hardware": describe_hardware(),
    }


def what_is_probed(config: RunConfig, options: PlanOptions, cluster: Cluster | None) -> RunConfig:
    """One learner with its part of the batch, on what is here, wherever the run is to learn."""
    # The run would learn on a CPU there, whatever is here.
    has_none = cluster is not None and cluster.smallest[0].gpus == 0 and not options.gpu
    on_cpu = config.device == "cpu" or (config.device == "auto" and has_none)
    return replace(
        config,
        device="cpu" if on_cpu else "auto",
        learner=replace(config.learner, num_replicas=1),
        replay=replace(config.replay, batch_size=config.learner.part_of(config.replay.batch_size)),
    )


def make_plan(
    config: RunConfig, probe: Probe, options: PlanOptions, cluster: Cluster | None, *, here: Node
) -> dict[str, Any]:
    """The plan as a document; `num_steps` of `config` are its target."""
    notes = _notes(config, probe, cluster, here)
    estimates = [_estimate_here(config, probe, options, here, notes)]
    if cluster is not None:
        estimates += _estimate_there(config, probe, options, cluster, here, notes)
    return {
        "games": list(config.games),
        "actors": config.actors_of,
        "target_steps": config.num_steps,
        "estimates": [as_json(found) for found in estimates],
        "notes": notes,
        "probe": as_json(probe),
    }


def _notes(config: RunConfig, probe: Probe, cluster: Cluster | None, here: Node) -> list[str]:
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
    return notes


def _is_on_cpu(probe: Probe) -> bool:
    return probe.learner_device == "cpu"


def _estimate_here(
    config: RunConfig, probe: Probe, options: PlanOptions, here: Node, notes: list[str]
) -> Estimate:
    # With a cluster, the options are of that and say nothing about this machine.
    is_planned = options.cluster is None
    wants_gpu = is_planned and (config.device == "cuda" or bool(options.gpu))
    if wants_gpu and _is_on_cpu(probe):
        notes.append("this machine has no GPU: the figures are of it with one added")
    config = _on(config, gpu=wants_gpu or not _is_on_cpu(probe))
    speed = learner_speed(config, probe, options if is_planned else PlanOptions())
    place = Place(name="this machine", nodes=(here,), shares_cores=True)
    return estimate(config, probe, speed, place)


def _estimate_there(
    config: RunConfig,
    probe: Probe,
    options: PlanOptions,
    cluster: Cluster,
    here: Node,
    notes: list[str],
) -> list[Estimate]:
    estimates: list[Estimate] = []
    for size, nodes in (("smallest", cluster.smallest), ("largest", cluster.largest)):
        nodes = _complete(nodes, here, options, notes)
        if estimates and estimates[-1].nodes == len(nodes):
            continue
        # Like the run itself, `auto` takes what the launching machine has.
        has_gpu = bool(nodes[0].gpus or options.gpu)
        there = _on(config, gpu=config.device == "cuda" or (config.device == "auto" and has_gpu))
        place = Place(
            name=f"{options.cluster}, {size}",
            nodes=nodes,
            shares_cores=False,
            cpu_speed=options.cpu_speed,
            network_bytes_per_s=options.network_gbit_s and options.network_gbit_s * 1e9 / 8,
        )
        estimates.append(estimate(there, probe, learner_speed(there, probe, options), place))
    notes.append(
        f"a CPU of the cluster is taken for {options.cpu_speed:g} of a core of this machine "
        "(--cpu-speed); in clouds a CPU is half of a core as a rule"
    )
    return estimates


def _on(config: RunConfig, *, gpu: bool) -> RunConfig:
    device: Literal["cuda", "cpu"] = "cuda" if gpu else "cpu"
    return replace(config, device=device)


def _complete(
    nodes: Sequence[Node], here: Node, options: PlanOptions, notes: list[str]
) -> tuple[Node, ...]:
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
            least = 1 if index == 0 and options.gpu else 0
            node = replace(node, gpus=max(least, here.gpus or 0))
        completed.append(node)
    return tuple(completed)


def learner_speed(config: RunConfig, probe: Probe, options: PlanOptions) -> LearnerSpeed:
    """Given, measured here, or assumed, in this order; the origin says which."""
    if options.learner_samples_per_s is not None:
        return LearnerSpeed(options.learner_samples_per_s, "given")
    if _is_on_cpu(probe) and config.device == "cpu":
        return LearnerSpeed(probe.learner_samples_per_s, "measured here, on the CPU")
    if not _is_on_cpu(probe) and options.gpu in probe.learner_device:
        return LearnerSpeed(probe.learner_samples_per_s, f"measured here, {probe.learner_device}")
    batch_size = config.learner.part_of(config.replay.batch_size)
    if options.gpu:
        return assume_gpu(options.gpu, probe, batch_size=batch_size)
    slow = assume_gpu(_UNKNOWN_GPU, probe, batch_size=batch_size)
    return LearnerSpeed(slow.samples_per_s, f"{slow.origin}, as it is not known which GPU it is")
