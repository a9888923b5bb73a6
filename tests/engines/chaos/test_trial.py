"""One kill after another beside a run that is made up: what is killed, and what is said of it."""

import os
import socket

import pytest

from engines.chaos.trial import Trial, look_at
from engines.on_ray.role_processes import RoleProcess
from engines.on_redis.link import RedisUnavailableError

HERE, ELSEWHERE = "here", "elsewhere"


class MadeUpRun:
    """Works by one step at every look; mends what was killed, and counts that."""

    def __init__(self):
        self.phase = "training"
        self.mends = True
        self.host = socket.gethostname()
        self.redis_pid = None
        self.here = HERE
        self.killed = []
        self.processes = [
            RoleProcess(role="actor/pong", rank=0, pid=11, node=ELSEWHERE),
            RoleProcess(role="actor/pong", rank=1, pid=12, node=ELSEWHERE),
            RoleProcess(role="learner", rank=0, pid=13, node=HERE),
            RoleProcess(role="shard", rank=0, pid=14, node=HERE),
        ]
        self.faults = {}
        self.updates = self.steps = 1000
        self.live = 2

    # As RayProcesses.

    def find(self):
        return list(self.processes)

    def kill(self, process):
        self.killed.append(process.pid)
        if not self.mends:
            self.live = 1
            return
        self._count(f"{process.role.partition('/')[0]}_restarts")
        if process.role == "learner":
            self.updates -= 119
            self._count("updates_lost", 119)

    def kill_node(self, node):
        for process in self.processes:
            if process.node == node:
                self.kill(process)

    def _count(self, kind, number=1):
        self.faults[kind] = self.faults.get(kind, 0) + number

    # As RedisBus.

    def status(self):
        self.updates += 1
        self.steps += 1
        return {
            "phase": self.phase,
            "updates": self.updates,
            "games": {"pong": {"live": self.live, "wanted": 2, "waiting": 0, "steps": self.steps}},
            "faults": dict(self.faults),
            "host": self.host,
            "pid": os.getpid(),
            "redis_pid": self.redis_pid,
            "ray": "127.0.0.1:1",
        }

    def newest_version(self):
        return (0, 1)


class Clock:
    """Goes on by what is slept, and a little at every look."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        self.seconds += 0.001
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


@pytest.fixture
def run():
    return MadeUpRun()


@pytest.fixture
def trial(run):
    clock = Clock()
    return Trial(run, run, timeout_s=5.0, clock=clock, sleep=clock.sleep)


def test_a_role_dies_and_what_that_has_cost_is_told(run, trial):
    kill = trial.carry_out("learner")
    assert run.killed == [13]
    assert kill.killed == "learner 0 (pid 13)"
    assert 0 < kill.recovery_s < 1.0
    assert kill.lost == {"chunks_lost": 0, "transitions_lost": 0, "updates_lost": 119}


def test_the_first_process_of_a_role_is_taken_and_of_a_node_all(run, trial):
    standing = trial.wait_until_ready()
    assert str(trial.find("actor", standing)) == "actor/pong 0 (pid 11)"
    assert trial.find("actor/pong", standing).roles == ("actor/pong",)
    node = trial.find("node", standing)
    assert str(node) == "node elsewher with actor/pong 0, actor/pong 1"
    assert node.roles == ("actor/pong", "actor/pong")
    trial.carry_out("node")
    assert run.killed == [11, 12]


def test_what_a_run_has_can_be_killed_and_redis_if_it_is_its_own(run, trial):
    assert trial.roles(look_at(run)) == ["actor", "learner", "shard"]
    run.redis_pid = 15
    assert trial.roles(look_at(run)) == ["actor", "learner", "shard", "redis"]
    assert str(trial.find("redis", look_at(run))) == "redis (pid 15)"


def test_what_does_not_recover_in_time_is_told(run, trial):
    run.mends = False
    kill = trial.carry_out("actor")
    assert run.killed == [11]
    assert (kill.role, kill.recovery_s, kill.lost) == ("actor", None, {})
    with pytest.raises(ValueError, match=r"not whole within 5 s .not all of its actors play"):
        trial.carry_out("shard")
    assert run.killed == [11], "what is not whole is left alone"


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("inference", "no process of role 'inference'; it has actor/pong, learner, shard"),
        ("actor/boxing", "no process of role 'actor/boxing'"),
        ("redis", "a Redis that it has not started itself"),
    ],
)
def test_what_is_not_there_or_not_ours_is_refused(run, trial, role, message):
    with pytest.raises(ValueError, match=message):
        trial.carry_out(role)
    assert not run.killed


@pytest.mark.parametrize("role", ["coordinator", "redis"])
def test_what_is_beside_the_launcher_is_killed_there_only(run, trial, role):
    run.host, run.redis_pid = "another", 15
    with pytest.raises(ValueError, match=rf"{role} is on another, .*give the command there"):
        trial.find(role, look_at(run))


@pytest.mark.parametrize("phase", ["testing", "ended"])
def test_a_run_at_its_end_is_left_alone(run, trial, phase):
    run.phase = phase
    with pytest.raises(ValueError, match="has reached its end"):
        trial.carry_out("actor")
    assert not run.killed


def test_while_redis_is_away_a_run_is_waited_for(run, trial, monkeypatch):
    away = iter([True, True, False])
    version = run.newest_version

    def newest_version():
        if next(away, False):
            raise RedisUnavailableError("away")
        return version()

    monkeypatch.setattr(run, "newest_version", newest_version)
    assert look_at(run) is None
    assert trial.wait_until_ready().phase == "training"
