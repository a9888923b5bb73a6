"""Killing one process and never another one."""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from runs import wait_until

from benchmarks.disruption.kill import kill_here, kill_own_node
from records.process_id import RoleProcess, find_process, own_process
from records.processes import title_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="told apart on Linux only")


@contextmanager
def sleeper(title="ray::ActorProcess.run"):
    """A process that is shown as one of Ray's actors."""
    process = subprocess.Popen([title, "1000"], executable="/bin/sleep")
    try:
        # It has no title yet while it is being started.
        wait_until(lambda: title_of(process.pid).startswith(title), timeout_s=30.0, what="it runs")
        yield process
    finally:
        process.kill()
        process.wait()


def role_of(process, role="actor/pong"):
    return RoleProcess(role=role, rank=0, done=1, process=replace(find_process(process.pid)))


def test_the_process_of_a_role_is_killed_and_gone_when_this_returns():
    with sleeper() as process:
        target = role_of(process)
        target = replace(target, process=replace(target.process, node="some node of Ray"))
        kill_here(target)
        assert process.poll() == -9
        with pytest.raises(ValueError, match=f"actor/pong 0 .pid {process.pid}. has gone"):
            kill_here(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"started": 1}, "has gone meanwhile"),
        ({"started": 0}, "on Linux 5.3 or newer only"),
        ({"machine": "another"}, "is on another machine"),
    ],
)
def test_another_process_of_the_same_number_is_left_alone(change, message):
    with sleeper() as process:
        target = role_of(process)
        with pytest.raises(ValueError, match=message):
            kill_here(replace(target, process=replace(target.process, **change)))
        assert process.poll() is None


def test_where_the_kernel_cannot_hold_a_process_nothing_is_killed(monkeypatch):
    def refuse(pid):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with sleeper() as process:
        target = role_of(process)
        monkeypatch.setattr(os, "pidfd_open", refuse)
        with pytest.raises(ValueError, match=r"Function not implemented.*on Linux 5\.3 or newer"):
            kill_here(target)
        assert process.poll() is None


@pytest.mark.parametrize("role", ["learner", "shard", "redis", "coordinator", "inference"])
def test_what_does_not_look_like_the_role_is_left_alone(role):
    with sleeper() as process:
        with pytest.raises(ValueError, match="does not look like"):
            kill_here(role_of(process, role))
        assert process.poll() is None


def test_a_process_that_has_ended_is_none_although_nobody_has_noticed():
    with sleeper() as process:
        target = role_of(process)
        assert find_process(process.pid) == target.process
        process.kill()
        # Not waited for: it stays, as a zombie.
        wait_until(lambda: find_process(process.pid) is None, timeout_s=10.0, what="it ends")
        with pytest.raises(ValueError, match="has gone meanwhile"):
            kill_here(target)


def test_a_process_knows_itself():
    here = own_process(node="n")
    assert find_process(here.pid, node="n") == here
    assert replace(here, node="") != here


def test_outside_ray_there_is_no_node_to_kill():
    with pytest.raises(ValueError, match="no node manager of Ray"):
        kill_own_node()
