"""From costs on one core to what a machine or a cluster would deliver. Pure arithmetic.

On this machine all roles share the cores. On a cluster a role has a CPU of its own, and the slowest
part sets the pace, because actors and learner wait for each other:

    actors    sum over the games: actors / CPU seconds of a step
    learner   samples/s / samples per insert
    replay    shards / (insert + samples per insert * gather), CPU seconds
    cores     only here: cores / CPU seconds of a step in all roles
    network   only where its speed is given

What processes cost beyond the bare work, and what is lost to waiting, are the factors below; they
were measured (docs/cluster.md, "Planning").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.planning.cluster_file import Node
from benchmarks.planning.network import largest_rate, traffic
from benchmarks.planning.probe import Probe
from benchmarks.planning.workload import Workload
from engines.on_ray.room import Room, find_shortage
from recipes.limits import ACTOR_BYTES

# CPU seconds of an actor's process over those of its steps alone.
ACTOR_FACTOR = 1.15
# CPU seconds of a learner's process over those of its updates alone, on a CPU.
LEARNER_FACTOR = 1.14
# CPU seconds that a step costs a shard besides storing and drawing: messages, its statistics.
SHARD_S_PER_STEP = 0.9e-4
# CPU seconds that a step costs Ray, Redis and the launcher.
OTHERS_S_PER_STEP = 0.8e-4
# Share of the time in which whoever sets the pace really works.
BUSY = 0.92
# Share of its speed that each of several learners keeps, as they wait for each other; assumed.
REPLICA_FACTOR = 0.9
# Relative error of the steps per second, either way.
UNCERTAINTY = 0.25

LEARNER_BYTES = 1 << 30
LEARNER_GPU_BYTES = 3 << 30
# Memory of a shard's process without its tables.
SHARD_BYTES = 250 << 20
# Memory of Ray on a node; on the head also of launcher and Redis.
NODE_BYTES = 1 << 30

# Time from the command to the first step.
START_S = 30.0
_GPU_LAUNCH_S = 4e-3
_GPU_SHARE_OF_PEAK = 0.2
_GPU_BUS_BYTES_PER_S = 6e9
# Speed of dense products in bfloat16 or float16, from the makers' data sheets.
_PEAK_TFLOPS = {
    "T4": 65,
    "V100": 125,
    "A10G": 70,
    "L4": 121,
    "L40S": 362,
    "A100": 312,
    "H100": 989,
    "H200": 989,
}
GPUS = tuple(_PEAK_TFLOPS)


@dataclass(frozen=True, slots=True)
class LearnerSpeed:
    """Samples per second of one learner, and where the figure is from."""

    samples_per_s: float
    # `measured`, `given` or `assumed`, and of what.
    origin: str

    @property
    def is_given(self) -> bool:
        """Whether somebody has measured it on the very machine that is planned with."""
        return self.origin == "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What would be delivered."""

    where: str
    nodes: int
    cpus: int | None
    # Roles that find no room, in words; the other figures are then of the actors that do.
    shortage: str
    # Actors that find room.
    actors: int
    # Steps per second that each part would allow by itself.
    limits: Mapping[str, float]
    samples_per_insert: float
    learner: LearnerSpeed
    # Memory by what needs it.
    memory_bytes: Mapping[str, int]
    memory_shortage: str
    # Traffic between nodes by kind, at most.
    network_bytes_per_s: Mapping[str, float]
    # Time to the target.
    seconds: float

    @property
    def bottleneck(self) -> str:
        """The part that sets the pace."""
        return min(self.limits, key=lambda name: self.limits[name])

    @property
    def steps_per_s(self) -> float:
        """Steps of all games together, once the learner learns."""
        return self.limits[self.bottleneck]

    @property
    def samples_per_s(self) -> float:
        """Samples of all learners together."""
        return self.steps_per_s * self.samples_per_insert


def estimate_machine(
    work: Workload,
    probe: Probe,
    learner: LearnerSpeed,
    *,
    cores: int,
    available_bytes: int,
    learns_on_gpu: bool,
) -> Estimate:
    """This machine, where the roles share the cores, however many they are."""
    limits = _limits(work, probe, learner, actors=work.actors, speed=1.0)
    learning = 0.0 if learns_on_gpu else LEARNER_FACTOR * probe.learn_s
    per_step = (
        ACTOR_FACTOR * _mean_act_s(work, probe)
        + work.samples_per_insert * learning
        + _shard_s_per_step(work, probe)
        + OTHERS_S_PER_STEP
    )
    limits["cores"] = BUSY * cores / per_step
    memory = _memory(work, probe, actors=sum(work.actors.values()), nodes=1)
    return _estimate(
        work,
        probe,
        where="this machine",
        nodes=1,
        cpus=cores,
        actors=sum(work.actors.values()),
        limits=limits,
        learner=learner,
        memory=memory,
        memory_shortage=_shortage_of_memory("this machine", sum(memory.values()), available_bytes),
        # Nobody learns meanwhile, so the actors have all cores.
        filling_s=_filling_s(
            work, probe, actors=work.actors, speed=min(1.0, cores / sum(work.actors.values()))
        ),
    )


def estimate_cluster(
    work: Workload,
    probe: Probe,
    learner: LearnerSpeed,
    nodes: Sequence[Node],
    *,
    where: str,
    cpu_speed: float = 1.0,
    network_bytes_per_s: float | None = None,
) -> Estimate:
    """A cluster whose nodes' CPUs are known; the head comes first.

    Args:
        work: the run.
        probe: of this machine.
        learner: its speed there.
        nodes: the head first.
        where: name for the estimate.
        cpu_speed: of a CPU there over a core here.
        network_bytes_per_s: of the head's network; None for no limit.
    """
    cpus = sum(node.cpus or 0 for node in nodes)
    wanted = sum(work.actors.values())
    playing = max(0, min(wanted, cpus - (work.roles - wanted)))
    share = playing / wanted
    actors = {game: count * share for game, count in work.actors.items()}
    limits = _limits(work, probe, learner, actors=actors, speed=cpu_speed)
    memory = _memory(work, probe, actors=playing, nodes=len(nodes))
    head = nodes[0]
    if network_bytes_per_s is not None and len(nodes) > 1:
        limits["network"] = largest_rate(
            work, probe, network_bytes_per_s, actors=playing, nodes=len(nodes)
        )
    on_head = sum(size for name, size in memory.items() if name not in ("actors", "ray"))
    return _estimate(
        work,
        probe,
        where=where,
        nodes=len(nodes),
        cpus=cpus,
        actors=playing,
        limits=limits,
        learner=learner,
        memory=memory,
        memory_shortage=_shortage_of_memory("the head", on_head + NODE_BYTES, head.memory_bytes),
        shortage=_shortage(work, nodes),
        filling_s=_filling_s(work, probe, actors=actors, speed=cpu_speed),
    )


def _shortage(work: Workload, nodes: Sequence[Node]) -> str:
    """Name what the run lacks to begin, by the rule of the run itself; empty if nothing."""
    need = Room(cpus=work.roles, gpus=work.learners if work.needs_gpu else 0)
    resources = [{"CPU": node.cpus or 0, "GPU": node.gpus or 0} for node in nodes]
    missing = find_shortage(need, [{"Alive": True, "Resources": r} for r in resources])
    return missing and f"the run {missing}"


def assume_gpu(gpu: str, probe: Probe, *, batch_size: int) -> LearnerSpeed:
    """A learner on a GPU that nobody has measured.

    An update takes 4 ms of launching kernels, the network's arithmetic at a fifth of what the GPU
    can do, and the batch's way over a bus of 6 GB/s. Good for the order of magnitude.
    """
    peak = _PEAK_TFLOPS[gpu] * 1e12
    arithmetic = batch_size * probe.flops_per_sample / (_GPU_SHARE_OF_PEAK * peak)
    loading = batch_size * probe.batch_bytes_per_sample / _GPU_BUS_BYTES_PER_S
    return LearnerSpeed(
        samples_per_s=batch_size / (_GPU_LAUNCH_S + arithmetic + loading),
        origin=f"assumed for the GPU {gpu}: 4 ms an update, a fifth of its peak, a bus of 6 GB/s",
    )


def _limits(
    work: Workload,
    probe: Probe,
    learner: LearnerSpeed,
    *,
    actors: Mapping[str, float],
    speed: float,
) -> dict[str, float]:
    playing = sum(
        count * speed / (ACTOR_FACTOR * probe.act_s[game]) for game, count in actors.items()
    )
    per_learner = learner.samples_per_s * (1.0 if work.learners == 1 else REPLICA_FACTOR)
    if not work.needs_gpu:
        # What was measured there is of a CPU there already.
        per_learner *= (1.0 if learner.is_given else speed) / LEARNER_FACTOR
    return {
        "actors": BUSY * playing,
        "learner": BUSY * work.learners * per_learner / work.samples_per_insert,
        "replay": BUSY * work.shards * speed / _shard_s_per_step(work, probe),
    }


def _mean_act_s(work: Workload, probe: Probe) -> float:
    """CPU seconds of a step of the run: games play in proportion to their actors' speed."""
    rates = {game: count / probe.act_s[game] for game, count in work.actors.items()}
    return sum(work.actors.values()) / sum(rates.values())


def _shard_s_per_step(work: Workload, probe: Probe) -> float:
    return probe.insert_s + work.samples_per_insert * probe.gather_s + SHARD_S_PER_STEP


def _memory(work: Workload, probe: Probe, *, actors: int, nodes: int) -> dict[str, int]:
    learner = LEARNER_GPU_BYTES if work.needs_gpu else LEARNER_BYTES
    return {
        "replay": probe.replay_bytes,
        "shards": work.shards * SHARD_BYTES,
        "learner": work.learners * learner,
        "actors": actors * ACTOR_BYTES,
        "ray": nodes * NODE_BYTES,
    }


def _shortage_of_memory(where: str, needed: int, available: int | None) -> str:
    if available is None or needed <= available:
        return ""
    return f"{where} needs {needed / 2**30:.1f} GiB of memory and has {available / 2**30:.1f}"


def _filling_s(work: Workload, probe: Probe, *, actors: Mapping[str, float], speed: float) -> float:
    """Until the game that is slowest to fill has what the learner begins with."""
    each = work.fill_steps / len(work.actors)
    rates = [
        BUSY * count * speed / (ACTOR_FACTOR * probe.act_s[game]) for game, count in actors.items()
    ]
    return each / min(rates) if min(rates) else float("inf")


def _estimate(
    work: Workload,
    probe: Probe,
    *,
    limits: dict[str, float],
    actors: int,
    memory: dict[str, int],
    nodes: int,
    where: str,
    cpus: int | None,
    learner: LearnerSpeed,
    memory_shortage: str,
    filling_s: float,
    shortage: str = "",
) -> Estimate:
    rate = min(limits.values())
    return Estimate(
        where=where,
        nodes=nodes,
        cpus=cpus,
        shortage=shortage,
        actors=actors,
        limits=limits,
        samples_per_insert=work.samples_per_insert,
        learner=learner,
        memory_bytes=memory,
        memory_shortage=memory_shortage,
        network_bytes_per_s=traffic(work, probe, rate=rate, actors=actors, nodes=nodes),
        seconds=START_S + filling_s + (work.target_steps / rate if rate else float("inf")),
    )
