"""Killing one process and never another one."""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from runs import wait_until

from engines.chaos.processes import is_alive, kill_here
from records.machine import title_of

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


def test_the_process_of_a_role_is_killed_and_gone_when_this_returns():
    with sleeper() as process:
        assert is_alive(process.pid, "actor/pong 0")
        kill_here(process.pid, "actor/pong 0")
        assert process.poll() == -9
        assert not is_alive(process.pid, "actor/pong 0")
        with pytest.raises(ValueError, match=f"actor/pong 0 .pid {process.pid}. has gone"):
            kill_here(process.pid, "actor/pong 0")


def test_where_the_kernel_cannot_hold_a_process_nothing_is_killed(monkeypatch):
    def refuse(pid):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with sleeper() as process:
        monkeypatch.setattr(os, "pidfd_open", refuse)
        with pytest.raises(ValueError, match=r"Function not implemented.*on Linux 5\.3 or newer"):
            kill_here(process.pid, "actor/pong 0")
        assert process.poll() is None


@pytest.mark.parametrize("place", ["learner 0", "shard 1", "redis", "coordinator", "inference"])
def test_what_does_not_look_like_the_role_is_left_alone(place):
    with sleeper() as process:
        with pytest.raises(ValueError, match="does not look like"):
            kill_here(process.pid, place)
        assert process.poll() is None
        assert not is_alive(process.pid, place), "another process has its number"


def test_a_process_that_has_ended_is_gone_although_nobody_has_noticed():
    with sleeper() as process:
        process.kill()
        # Not waited for: it stays, as a zombie without a title.
        wait_until(lambda: not is_alive(process.pid, "actor 0"), timeout_s=10.0, what="it ends")
