"""The plan: its arithmetic with made-up probes, the cluster files it reads, and the command."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import ROOT, clean_environment
from torch import nn

from benchmarks.planning.cluster_file import Node, read_cluster
from benchmarks.planning.estimate import (
    BUSY,
    LearnerSpeed,
    Place,
    assume_gpu,
    estimate,
)
from benchmarks.planning.options import PlanOptions
from benchmarks.planning.plan import learner_speed, make_plan
from benchmarks.planning.probe import Probe, count_flops
from benchmarks.planning.text import format_plan
from launch.options.command_line import parse_known_options
from recipes.loading import build_config, load_config, parse_invocation

GIB = 1 << 30
PROBE = Probe(
    act_s={"pong": 0.5e-3, "boxing": 0.5e-3},
    insert_s=5e-6,
    gather_s=6e-6,
    learn_s=2e-4,
    learner_samples_per_s=5_000.0,
    learner_device="cpu",
    chunk_bytes_per_step=8_000.0,
    batch_bytes_per_sample=28_000.0,
    weights_bytes=3_000_000,
    flops_per_sample=6e7,
    replay_bytes=2 * GIB,
)
WORDS = (
    "--games pong boxing --num-steps 450000 --device cpu --replay.min-size-per-game 1000 "
    "--replay.samples-per-insert 4 --replay.batch-size 128 --learner.publish-period 50"
)
WORK = load_config(WORDS.split())
CPU_SPEED = LearnerSpeed(5_000.0, "measured here")
FAST = LearnerSpeed(400_000.0, "given")
HERE = Node(kind="this machine", cpus=2, memory_bytes=20 * GIB)
HEAD = Node(kind="head", cpus=8, gpus=1, memory_bytes=32 * GIB)
WORKER = Node(kind="worker", cpus=16)


def run_with(pong=1, boxing=1, *, shards=1, replicas=1, publish_period=50, spread=False, **changes):
    """The run with some of its settings changed."""
    return replace(
        WORK,
        actors=(f"pong={pong}", f"boxing={boxing}"),
        learner=replace(WORK.learner, num_replicas=replicas, publish_period=publish_period),
        replay=replace(WORK.replay, num_shards=shards, spread=spread),
        **changes,
    )


def here(config=WORK, probe=PROBE, learner=CPU_SPEED, *, cores=2, memory=20 * GIB):
    node = replace(HERE, cpus=cores, memory_bytes=memory)
    return estimate(config, probe, learner, Place(name="here", nodes=(node,), shares_cores=True))


def there(config, nodes, learner=FAST, **changes):
    place = Place(name="there", nodes=tuple(nodes), shares_cores=False, **changes)
    return estimate(config, PROBE, learner, place)


def test_on_a_cluster_more_actors_help_until_the_learner_is_the_bottleneck():
    few = there(run_with(2, 2, device="cuda"), [HEAD, WORKER])
    many = there(run_with(10, 10, device="cuda"), [HEAD, WORKER])
    assert few.bottleneck == "actors"
    assert many.limits["actors"] == pytest.approx(5 * few.limits["actors"])
    assert many.bottleneck == "replay"
    slow = there(
        run_with(10, 10, device="cuda"),
        [HEAD, WORKER],
        learner=LearnerSpeed(10_000.0, "given"),
    )
    assert slow.bottleneck == "learner"
    assert slow.steps_per_s == pytest.approx(BUSY * 10_000 / 4)


def test_the_local_engine_is_one_process_on_one_core():
    local = here(replace(WORK, engine="local"), cores=16)
    assert set(local.memory_bytes) == {"replay", "learner", "actors"}
    assert sum(local.memory_bytes.values()) < sum(here(cores=16).memory_bytes.values())
    assert local.limits["cores"] == pytest.approx(here(cores=1).limits["cores"])
    assert local.needs == {"cpus": 1, "gpus": 0}


def test_memory_is_that_of_replay_and_of_every_process():
    estimate = here()
    assert estimate.memory_bytes["replay"] == 2 * GIB
    assert sum(estimate.memory_bytes.values()) > 3 * GIB
    assert estimate.memory_shortage == ""
    small = here(memory=GIB)
    assert small.memory_shortage.startswith("this machine needs ")
    assert small.memory_shortage.endswith("GiB of memory and has 1.0")
    tight = there(run_with(device="cuda"), [replace(HEAD, memory_bytes=GIB), WORKER])
    assert tight.memory_shortage.startswith("the head needs ")
    # Ray on the workers takes the workers' memory.
    needed = there(run_with(device="cuda"), [HEAD])
    enough = sum(size for name, size in needed.memory_bytes.items() if name != "actors")
    many = [replace(HEAD, memory_bytes=enough), *[WORKER] * 9]
    assert there(run_with(device="cuda"), many).memory_shortage == ""


def test_the_network_carries_chunks_and_weights_and_only_spread_shards_batches():
    work = run_with(4, 4, device="cuda")
    alone = there(work, [HEAD])
    assert sum(alone.network_bytes_per_s.values()) == 0
    two = there(work, [HEAD, WORKER])
    rate = two.steps_per_s
    assert two.network_bytes_per_s["chunks"] == pytest.approx(8_000 * rate)
    assert two.network_bytes_per_s["weights"] == pytest.approx(8 * 3e6 * rate * 4 / 128 / 50)
    assert two.network_bytes_per_s["batches"] == 0
    spread = there(run_with(4, 4, device="cuda", spread=True), [HEAD, WORKER])
    assert spread.network_bytes_per_s["batches"] == pytest.approx(0.5 * 4 * 28_000 * rate)


def test_the_speed_of_a_gpu_is_given_measured_or_assumed_and_said_to_be():
    work = run_with(device="cuda")
    given = learner_speed(work, PROBE, PlanOptions(learner_samples_per_s=7e4, gpu="L4"))
    assert given == LearnerSpeed(7e4, "given")
    assumed = learner_speed(work, PROBE, PlanOptions(gpu="L4"))
    assert assumed == assume_gpu("L4", PROBE, batch_size=128)
    assert assumed.origin.startswith("assumed")
    unknown = learner_speed(work, PROBE, PlanOptions())
    assert unknown.origin.endswith("as it is not known which GPU it is")
    with_gpu = replace(PROBE, learner_device="NVIDIA L4", learner_samples_per_s=9e4)
    measured = learner_speed(work, with_gpu, PlanOptions(gpu="L4"))
    assert measured == LearnerSpeed(9e4, "measured here, NVIDIA L4")
    assert learner_speed(work, with_gpu, PlanOptions(gpu="H100")) == assume_gpu(
        "H100", with_gpu, batch_size=128
    )
    assert learner_speed(WORK, PROBE, PlanOptions()).samples_per_s == 5_000


def test_operations_are_those_of_convolutions_and_linear_layers():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3)
            self.linear = nn.Linear(8 * 4, 5)

        def forward(self, frames):
            return self.linear(self.conv(frames.float()).relu().flatten(1))

    forward = 2 * (4 * 9) * (8 * 2 * 2) + 2 * 32 * 5
    assert count_flops(Small(), (4, 4, 4)) == 3 * forward
    assert count_flops(Small(), (4, 99, 99)) == 0
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("file", "head", "smallest", "largest"),
    [
        ("cluster.yaml", (8, 1), 2, 8),
        ("cluster-gcp.yaml", (8, 1), 2, 8),
        # No autoscaler: there are as many as it says.
        ("docker/kuberay.yaml", (8, 1), 2, 2),
    ],
)
def test_our_own_cluster_files_are_read(file, head, smallest, largest):
    cluster = read_cluster(ROOT / file)
    assert (cluster.smallest[0].cpus, cluster.smallest[0].gpus) == head
    assert [n.cpus for n in cluster.smallest] == [8] + [16] * smallest
    assert [n.cpus for n in cluster.largest] == [8] + [16] * largest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not valid YAML"),
        ("just words", "is not the file of a cluster"),
        ("available_node_types: {h: 5}", "is damaged"),
        ("available_node_types: {}", "is damaged"),
        ("provider: {head_ip: 1.2.3.4, worker_ips: 7}", "is damaged"),
        ("kind: RayCluster", "is damaged"),
        ("available_node_types: {h: {resources: {CPU: .inf}}}", "is damaged"),
        (
            "{kind: RayCluster, spec: {headGroupSpec: {template: {spec: {containers: []}}}}}",
            "is damaged",
        ),
    ],
)
def test_a_file_that_is_no_cluster_is_refused(tmp_path, text, message):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_cluster(path)


def parse(words):
    return parse_known_options(PlanOptions, words, prog="plan.py", doc=None)


def test_options_of_the_plan_and_of_the_run_are_told_apart():
    options, words = parse(["--games", "pong", "--target-steps", "5", "--json", "--actors", "2"])
    assert (options.target_steps, options.json) == (5, True)
    assert words == ["--games", "pong", "--actors", "2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target-steps", "-5"], "target_steps must be at least 1, got -5"),
        (["--target-steps", "many"], "target-steps"),
        (["--gpu", "Voodoo"], "nothing is known of a GPU 'Voodoo'; choose among T4, "),
        (["--probe-s", "0"], "probe_s must be positive"),
        (["--learner-samples-per-s", "nan"], "learner_samples_per_s must be a finite number"),
    ],
)
def test_bad_options_of_the_plan_are_refused(words, message):
    with pytest.raises(ValueError, match=r".") as refused:
        parse(words)
    (line,) = str(refused.value).splitlines()
    assert message in line
    assert line.endswith("see plan.py --help")


def test_more_steps_than_anybody_plays_are_refused():
    with pytest.raises(ValueError, match=r"at most 1e.15 steps"):
        PlanOptions(target_steps=int("9" * 400)).steps(5)
    assert PlanOptions().steps(5) == 5


def plan_of(words=(), *, cluster=None, probe=PROBE, here=HERE, **options):
    words = ["--games", "pong", "boxing", *words]
    invocation = parse_invocation(words, default_preset="quickstart")
    config = build_config(invocation, prog="plan.py")
    given = PlanOptions(cluster=cluster, **options)
    return make_plan(
        replace(config, num_steps=given.steps(config.num_steps)),
        probe,
        given,
        None if cluster is None else read_cluster(cluster),
        here=here,
    )


def text_of(document):
    return format_plan({**document, "preset": "quickstart", "hardware": "2 cores"})


def test_a_plan_is_of_this_machine_and_of_the_cluster_at_its_smallest_and_largest():
    document = plan_of(
        ["--actors", "8"], cluster=ROOT / "cluster.yaml", target_steps=10**7, gpu="L4"
    )
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    mine, smallest, largest = document["estimates"]
    assert mine["steps_per_s"] == pytest.approx(here().steps_per_s, rel=1e-3)
    assert (smallest["cpus"], largest["cpus"]) == (40, 136)
    assert smallest["learner"]["origin"].startswith("assumed for the GPU L4")
    text = text_of(document)
    assert "assumed for the GPU L4" in text
    assert "10,000,000 steps" in text
    assert "in clouds a CPU is half of a core" in text
    with_speed = plan_of(cluster=ROOT / "cluster.yaml", learner_samples_per_s=1e4)
    assert with_speed["estimates"][1]["learner"] == {"samples_per_s": 1e4, "origin": "given"}
    # What is measured there says nothing about the machine here.
    assert with_speed["estimates"][0]["learner"]["samples_per_s"] == 5_000


def run_plan(tmp_path, *words):
    return subprocess.run(
        [sys.executable, str(ROOT / "launch" / "plan.py"), *words],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--games", "nosuchgame"], "nosuchgame"),
        (["--target-steps", "-1"], "target_steps must be at least 1"),
        (["--cluster", "nowhere.yaml"], "cannot read the cluster file nowhere.yaml"),
        (["--cluster", "."], "cannot read the cluster file"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(tmp_path, words, message):
    done = run_plan(tmp_path, *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.slow
def test_a_real_probe_makes_a_plan(tmp_path):
    done = run_plan(
        tmp_path, "--preset", "smoke", "--games", "pong", "qbert", "--probe-s", "2", "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    probe = document["probe"]
    assert set(probe["act_s"]) == {"pong", "qbert"}
    assert probe["made_up_teachers"] == ["qbert"]
    # A frame of 84 x 84 for a step, four of them for a sample.
    assert 7_056 < probe["chunk_bytes_per_step"] < 9_000
    assert 4 * 7_056 < probe["batch_bytes_per_sample"] < 30_000
    assert probe["flops_per_sample"] > 1e6
    assert probe["weights_bytes"] > 10_000
    assert 0 < probe["core_share"] <= 1
    (estimate,) = document["estimates"]
    assert estimate["steps_per_s"] > 0
    assert estimate["seconds"] > 0
    assert estimate["memory_bytes"]["replay"] == probe["replay_bytes"]
