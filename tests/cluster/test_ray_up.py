"""`ray up cluster-ssh.yaml` for real: a head and two workers, hosts of their own on this machine.

The file is used as it is but for addresses, the account and its key, the size of the nodes, and
the two commands that would install what is installed already. The tests share one cluster and run
in the order in which they are written; the last one takes it down.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ssh_hosts import OPERATOR, REPOSITORY, SshHosts, why_not_here

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())]

_WORKERS = ("worker-1", "worker-2")
_NODES = ("head", *_WORKERS)
_NODE_SIZE = "--num-cpus=2 --object-store-memory=150000000"
_SHELL = {
    "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # The hosts have the machine's processors; they stay close to what the nodes are said to have.
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class _Cluster:
    hosts: SshHosts

    def type(
        self, command: str, *, timeout_s: float = 120.0, **environment: str
    ) -> tuple[int, str]:
        """Type a command at the operator's, in the repository: its exit status and output."""
        done = self.hosts.run(
            OPERATOR,
            ["bash", "-c", f"cd {REPOSITORY} && {command}"],
            timeout_s=timeout_s,
            environment=_SHELL | environment,
        )
        return done.returncode, done.stdout

    def on(self, host: str, code: str) -> str:
        """Output of Python code on a host, without a token."""
        return self.hosts.run(host, [f"{sys.prefix}/bin/python", "-c", code]).stdout

    def listening(self, host: str) -> list[tuple[str, str]]:
        """(address, program) of every listening TCP socket of a host."""
        lines = self.hosts.run(host, ["ss", "-Hltnp"]).stdout.splitlines()
        fields = [line.split() for line in lines]
        return [(field[3], field[5] if len(field) > 5 else "") for field in fields]


def _config(hosts: SshHosts) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster-ssh.yaml").read_text())
    config["provider"] |= {
        "head_ip": hosts.address("head"),
        "worker_ips": [hosts.address(worker) for worker in _WORKERS],
    }
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/cluster_key"}
    installing = ("python3 -m venv", "pip install")
    commands = config["setup_commands"]
    kept = [line for line in commands if not any(word in line for word in installing)]
    assert len(kept) == len(commands) - len(installing)
    config["setup_commands"] = [f"ln -sfn {sys.prefix} ~/actor-mimic/.venv", *kept]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[commands] = [
            line.replace("ray start", f"ray start {_NODE_SIZE}") for line in config[commands]
        ]
    return config


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Cluster]:
    with SshHosts(tmp_path_factory.mktemp("hosts"), _NODES) as hosts:
        cluster = _Cluster(hosts)
        (hosts.home(OPERATOR) / "cluster.yaml").write_text(yaml.safe_dump(_config(hosts)))
        assert cluster.type("umask 077 && ray get-auth-token --generate")[0] == 0
        status, output = cluster.type("ray up --yes ~/cluster.yaml", timeout_s=300)
        assert status == 0, output
        hosts.start(
            OPERATOR, ["bash", "-c", "exec ray dashboard ~/cluster.yaml"], environment=_SHELL
        )
        yield cluster


def _wait_until(
    condition: Callable[[], bool], *, timeout_s: float, what: str, period_s: float = 0.5
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s:g} s")
        time.sleep(period_s)


def test_head_and_both_workers_join(cluster: _Cluster) -> None:
    last = ""

    def all_there() -> bool:
        nonlocal last
        last = cluster.type("ray exec ~/cluster.yaml 'ray status'")[1]
        return "/6.0 CPU" in last

    _wait_until(all_there, timeout_s=180, what=f"three nodes of two CPUs each\n{last}")


def test_the_dashboard_listens_on_loopback_alone(cluster: _Cluster) -> None:
    addresses = {address for address, _ in cluster.listening("head") if address.endswith(":8265")}
    assert addresses == {"127.0.0.1:8265"}


def test_token_and_key_are_nobody_elses_to_read(cluster: _Cluster) -> None:
    for node in _NODES:
        assert (cluster.hosts.home(node) / ".ray/auth_token").stat().st_mode & 0o077 == 0
    key = cluster.hosts.home("head") / "ray_bootstrap_key.pem"
    assert key.stat().st_mode & 0o077 == 0


def test_without_the_token_the_cluster_turns_away(cluster: _Cluster) -> None:
    head = cluster.hosts.address("head")
    dashboard = (
        "import urllib.request as r, urllib.error as e\n"
        "try: print(r.urlopen('http://127.0.0.1:8265/api/jobs/', timeout=5).status)\n"
        "except e.HTTPError as error: print(error.code)"
    )
    assert cluster.on("head", dashboard).strip() == "401"
    status, output = cluster.type(
        f"ray status --address {head}:6379", RAY_AUTH_TOKEN="0" * 64, timeout_s=60
    )
    assert status != 0
    assert "Unauthenticated" in output or "InvalidAuthToken" in output, output


def test_a_job_has_actors_on_several_nodes_that_share_one_redis(cluster: _Cluster) -> None:
    hosts, home = cluster.hosts, Path.home()
    _wait_until(
        lambda: any(":8265" in address for address, _ in cluster.listening(OPERATOR)),
        timeout_s=30,
        what="the tunnel of `ray dashboard`",
    )
    job = (
        "ray job submit --address http://127.0.0.1:8265 --working-dir . --"
        f" python launch/multitask.py --preset smoke --actors 2 --run-dir {home}/run"
    )
    hosts.start(
        OPERATOR,
        ["bash", "-c", f"cd {REPOSITORY}; {job} > ~/job.log 2>&1; echo $? > ~/job.status"],
        environment=_SHELL,
    )
    nodes_with_actors: set[str] = set()
    redis: set[str] = set()

    def ended() -> bool:
        for node in _NODES:
            if any("ActorProcess" in line for line in hosts.processes(node)):
                nodes_with_actors.add(node)
        found = {a for a, program in cluster.listening("head") if "redis-server" in program}
        if found and not redis:
            redis.update(found)
            address, port = next(iter(found)).rsplit(":", 1)
            ask = f"import redis; redis.Redis('{address}', {port}, protocol=2).get('am:x')"
            assert "Authentication required" in cluster.on("worker-1", ask)
        return (hosts.home(OPERATOR) / "job.status").exists()

    _wait_until(ended, timeout_s=400, what="the job's end", period_s=1.0)
    log = (hosts.home(OPERATOR) / "job.log").read_text()
    assert (hosts.home(OPERATOR) / "job.status").read_text() == "0\n", log
    assert (hosts.home("head") / "run/summary.json").exists(), log
    assert len(nodes_with_actors) >= 2, nodes_with_actors
    assert {address.rsplit(":", 1)[0] for address in redis} == {hosts.address("head")}
    assert not any(address.endswith(":6379") for address in redis)
    # All of it is gone with the run.
    assert not any("redis-server" in program for _, program in cluster.listening("head"))


def test_a_job_that_is_stopped_leaves_a_checkpoint_and_a_summary(cluster: _Cluster) -> None:
    run = cluster.hosts.home("head") / "stopped"
    address = "--address http://127.0.0.1:8265"
    submitted = cluster.type(
        f"ray job submit {address} --no-wait --submission-id stopped --working-dir . --"
        " python launch/multitask.py --preset smoke --num-steps 1000000"
        f" --run-dir {Path.home()}/stopped"
    )
    assert submitted[0] == 0, submitted[1]
    metrics = run / "metrics.jsonl"
    _wait_until(
        lambda: metrics.exists() and metrics.stat().st_size > 0, timeout_s=200, what="a report"
    )
    stopped = cluster.type(f"ray job stop {address} stopped", timeout_s=150)
    assert stopped[0] == 0, stopped[1]
    log = cluster.type(f"ray job logs {address} stopped")[1]
    assert (run / "summary.json").exists(), log
    assert any((run / "checkpoints").iterdir()), log


def test_down_leaves_no_process_and_close_no_namespace(cluster: _Cluster) -> None:
    hosts = cluster.hosts
    status, output = cluster.type("ray down --yes ~/cluster.yaml")
    assert status == 0, output
    for node in _NODES:
        # A worker notices after about a minute that its head has gone.
        _wait_until(
            lambda node=node: not any(_is_ray(line) for line in hosts.processes(node)),
            timeout_s=150,
            what=f"no process of Ray on {node}",
        )
    namespaces = hosts.namespaces()
    hosts.close()
    _wait_until(
        lambda: not namespaces & _namespaces_in_use(), timeout_s=10, what="the namespaces' end"
    )


def _is_ray(command_line: str) -> bool:
    return "ray" in command_line and "sleep 86400" not in command_line


def _namespaces_in_use() -> set[str]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.add(os.readlink(process / "ns/net"))
        except OSError:
            continue  # It has ended, or is not ours to look at.
    return found
