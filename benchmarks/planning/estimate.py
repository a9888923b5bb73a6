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

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from benchmarks.planning.cluster_file import Node
from benchmarks.planning.options import PEAK_TFLOPS
from benchmarks.planning.probe import Probe
from engines.on_ray.room import Room, find_shortage, num_roles
from recipes.config import RunConfig
from recipes.limits import ACTOR_BYTES
from recipes.recipe import Recipe

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

_LEARNER_BYTES = {"cpu": 1 << 30, "cuda": 3 << 30}
# Memory of an actor in the local engine's one process: emulators, a student, a teacher, a chunk.
_LOCAL_ACTOR_BYTES = 40 << 20
# Memory of a shard's process without its tables.
_SHARD_BYTES = 250 << 20
# Memory of Ray on a node; on the head also of launcher and Redis.
NODE_BYTES = 1 << 30

# Time from the command to the first step.
START_S = 30.0
# Most fetches of an actor (docs/architecture.md, "Weights and their versions").
_MAX_WEIGHT_PULLS_PER_S = 5.0


@dataclass(frozen=True, slots=True)
class LearnerSpeed:
    """Samples per second of one learner, and where the figure is from."""

    samples_per_s: float
    # `measured`, `given` or `assumed`, and of what; `given` is of the very machine planned with.
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Machines that a run would be on."""

    name: str
    # The head comes first; their CPUs are known.
    nodes: tuple[Node, ...]
    # Whether all roles share the cores, however many they are, as on this machine.
    shares_cores: bool
    # Speed of a CPU there over a core here.
    cpu_speed: float = 1.0
    # Speed of the head's network; None for no limit.
    network_bytes_per_s: float | None = None

    @property
    def cpus(self) -> int:
        """CPUs of all nodes."""
        return sum(node.cpus or 0 for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What would be delivered."""

    where: str
    nodes: int
    cpus: int
    # What to ask a cloud for: a CPU for each role, a GPU for each learner that computes on one.
    needs: Mapping[str, int]
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


def estimate(config: RunConfig, probe: Probe, learner: LearnerSpeed, place: Place) -> Estimate:
    """What a run of `num_steps` would come to in a place; its device is `cpu` or `cuda`."""
    roles = 1 if config.engine == "local" else num_roles(Recipe(config))
    wanted = sum(config.actors_of.values())
    has_room_for = place.cpus - max(0, roles - wanted)
    playing = wanted if place.shares_cores else max(0, min(wanted, has_room_for))
    limits = _limits(config, probe, learner, place, playing=playing)
    rate = min(limits.values())
    on_gpu = config.device == "cuda"
    need = Room(cpus=roles, gpus=config.learner.num_replicas if on_gpu else 0)
    memory = _memory(config, probe, place, playing=playing)
    pulls_per_s = min(_publications_per_step(config) * rate, _MAX_WEIGHT_PULLS_PER_S)
    traffic = {kind: rate * size for kind, size in _bytes_per_step(config, probe, place).items()}
    pulling = playing if len(place.nodes) > 1 else 0
    traffic["weights"] = pulling * pulls_per_s * probe.weights_bytes
    return Estimate(
        where=place.name,
        nodes=len(place.nodes),
        cpus=place.cpus,
        needs=asdict(need),
        shortage="" if place.shares_cores else _shortage(need, place),
        actors=playing,
        limits=limits,
        samples_per_insert=config.replay.samples_per_insert,
        learner=learner,
        memory_bytes=memory,
        memory_shortage=_shortage_of_memory(memory, place),
        network_bytes_per_s=traffic,
        seconds=START_S
        + _filling_s(config, probe, place, playing=playing)
        + (config.num_steps / rate if rate else float("inf")),
    )


def _memory(config: RunConfig, probe: Probe, place: Place, *, playing: int) -> dict[str, int]:
    """Bytes of each kind of process; the local engine has everything in one."""
    learner = config.learner.num_replicas * _LEARNER_BYTES[config.device]
    if config.engine == "local":
        actors = playing * _LOCAL_ACTOR_BYTES
        return {"replay": probe.replay_bytes, "learner": learner, "actors": actors}
    return {
        "replay": probe.replay_bytes,
        "shards": config.replay.num_shards * _SHARD_BYTES,
        "learner": learner,
        "actors": playing * ACTOR_BYTES,
        "ray": len(place.nodes) * NODE_BYTES,
    }


def _limits(
    config: RunConfig, probe: Probe, learner: LearnerSpeed, place: Place, *, playing: int
) -> dict[str, float]:
    replay = config.replay
    on_cpu = config.device == "cpu"
    # Games play in proportion to their actors' speed.
    rates = {game: n / (ACTOR_FACTOR * probe.act_s[game]) for game, n in config.actors_of.items()}
    wanted = sum(config.actors_of.values())
    shard_s = probe.insert_s + replay.samples_per_insert * probe.gather_s + SHARD_S_PER_STEP
    per_learner = learner.samples_per_s * (
        1.0 if config.learner.num_replicas == 1 else REPLICA_FACTOR
    )
    if on_cpu:
        # What was measured there is of a CPU there already.
        speed = 1.0 if learner.origin == "given" else place.cpu_speed
        per_learner *= speed / LEARNER_FACTOR
    samples_per_s = config.learner.num_replicas * per_learner
    limits = {
        "actors": BUSY * place.cpu_speed * sum(rates.values()) * playing / wanted,
        "learner": BUSY * samples_per_s / replay.samples_per_insert,
        "replay": BUSY * place.cpu_speed * replay.num_shards / shard_s,
    }
    if place.shares_cores:
        learn_s = LEARNER_FACTOR * probe.learn_s if on_cpu else 0.0
        act_s = wanted / sum(rates.values())
        per_step = act_s + replay.samples_per_insert * learn_s + shard_s + OTHERS_S_PER_STEP
        cores = 1 if config.engine == "local" else place.cpus
        limits["cores"] = BUSY * cores / per_step
    if place.network_bytes_per_s is not None and len(place.nodes) > 1:
        limits["network"] = _network_limit(config, probe, place, place.network_bytes_per_s, playing)
    return limits


def _network_limit(
    config: RunConfig, probe: Probe, place: Place, bytes_per_s: float, playing: int
) -> float:
    """Steps per second at which the traffic comes to so much.

    Weights grow with the pace until actors fetch them as often as they may, and no more from
    there: so the greater of the two solutions is the one.
    """
    bulk = sum(_bytes_per_step(config, probe, place).values())
    weights = playing * probe.weights_bytes
    growing = bytes_per_s / (bulk + weights * _publications_per_step(config))
    return max(growing, (bytes_per_s - weights * _MAX_WEIGHT_PULLS_PER_S) / bulk)


def _publications_per_step(config: RunConfig) -> float:
    replay = config.replay
    return replay.samples_per_insert / replay.batch_size / config.learner.publish_period


def _bytes_per_step(config: RunConfig, probe: Probe, place: Place) -> dict[str, float]:
    """Bytes between nodes for every step, with all actors on other nodes than replay."""
    nodes = len(place.nodes)
    # Share of the shards that are not where the learner is.
    away = (nodes - 1) / nodes if config.replay.spread else 0.0
    return {
        "chunks": probe.chunk_bytes_per_step if nodes > 1 else 0.0,
        "batches": away * config.replay.samples_per_insert * probe.batch_bytes_per_sample,
    }


def _filling_s(config: RunConfig, probe: Probe, place: Place, *, playing: int) -> float:
    """Until the game that is slowest to fill has what the learner begins with."""
    wanted = sum(config.actors_of.values())
    if place.shares_cores:
        # Nobody learns meanwhile, so the actors have all cores.
        speed = min(1.0, place.cpus / wanted)
    else:
        speed = place.cpu_speed * playing / wanted
    if not speed:
        return float("inf")
    slowest = max(probe.act_s[game] / count for game, count in config.actors_of.items())
    return config.replay.min_size_per_game * ACTOR_FACTOR * slowest / (BUSY * speed)


def _shortage(need: Room, place: Place) -> str:
    """Name what the run lacks to begin, by the rule of the run itself; empty if nothing."""
    resources = [{"CPU": node.cpus or 0, "GPU": node.gpus or 0} for node in place.nodes]
    missing = find_shortage(need, [{"Alive": True, "Resources": r} for r in resources])
    return missing and f"the run {missing}"


def _shortage_of_memory(memory: Mapping[str, int], place: Place) -> str:
    """Name the memory that is missing here, or on the head, which holds all but the actors."""
    name, needed = "this machine", sum(memory.values())
    if not place.shares_cores:
        name, needed = "the head", needed - memory["actors"] - memory["ray"] + NODE_BYTES
    available = place.nodes[0].memory_bytes
    if available is None or needed <= available:
        return ""
    return f"{name} needs {needed / 2**30:.1f} GiB of memory and has {available / 2**30:.1f}"


def assume_gpu(gpu: str, probe: Probe, *, batch_size: int) -> LearnerSpeed:
    """A learner on a GPU that nobody has measured.

    An update takes 4 ms of launching kernels, the network's arithmetic at a fifth of what the GPU
    can do, and the batch's way over a bus of 6 GB/s. Good for the order of magnitude.
    """
    arithmetic_s = batch_size * probe.flops_per_sample / (0.2 * PEAK_TFLOPS[gpu] * 1e12)
    loading_s = batch_size * probe.batch_bytes_per_sample / 6e9
    return LearnerSpeed(
        samples_per_s=batch_size / (4e-3 + arithmetic_s + loading_s),
        origin=f"assumed for the GPU {gpu}: 4 ms an update, a fifth of its peak, a bus of 6 GB/s",
    )
