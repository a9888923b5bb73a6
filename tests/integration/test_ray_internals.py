"""What the engine uses of Ray that Ray does not promise, one test each."""

import os
import signal

import pytest
import ray
from runs import wait_until

from engines.on_ray import ray_internals
from engines.on_ray.ray_internals import (
    autoscaler_node_types,
    dead_daemons,
    free_cpus,
    log_folder,
    named_processes,
    near,
    pid_of,
    silence_daemons,
)
from engines.on_ray.role_processes import RoleNames, find_processes

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("shared_ray")]


class Sleeper:
    """An actor that does nothing."""

    def pid(self):
        """Of its process."""
        return os.getpid()


RemoteSleeper = ray.remote(num_cpus=1)(Sleeper)


@pytest.fixture
def sleeper():
    names = RoleNames("run")
    handle = RemoteSleeper.options(name=names.new("learner", 3)).remote()
    pid = ray.get(handle.pid.remote())
    yield handle, pid
    ray.kill(handle)


def test_a_named_process_is_in_the_table_with_its_pid_and_node_until_it_dies(sleeper):
    handle, pid = sleeper
    (entry,) = (entry for entry in named_processes() if entry.pid == pid)
    here = ray.get_runtime_context().get_node_id()
    assert (entry.node, entry.is_up) == (here, True)
    (process,) = find_processes("run")
    assert (process.place, process.pid) == ("learner 3", pid)
    assert find_processes("another") == []
    assert pid_of(handle) == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not find_processes("run"), timeout_s=30.0, what="it is off the table")


def test_an_actor_that_waits_for_room_has_no_process():
    waiting = ray.remote(num_cpus=64)(Sleeper).remote()
    assert pid_of(waiting) == 0
    ray.kill(waiting)


def test_a_cpu_that_is_asked_for_is_not_free(sleeper):
    here = ray.get_runtime_context().get_node_id()
    wait_until(lambda: free_cpus() == {here: 7.0}, timeout_s=30.0, what="one of eight is taken")


def test_an_actor_near_a_node_is_on_it_if_it_has_room():
    here = ray.get_runtime_context().get_node_id()
    handle = RemoteSleeper.options(name="a:b:learner:0:0", scheduling_strategy=near(here)).remote()
    ray.get(handle.pid.remote())
    assert [entry.node for entry in named_processes() if entry.name == "a:b:learner:0:0"] == [here]
    ray.kill(handle)


def test_daemons_live_and_their_logs_are_where_they_say():
    assert dead_daemons() == []
    assert "raylet.out" in os.listdir(log_folder())


def test_a_cluster_without_an_autoscaler_has_no_kinds_of_nodes_with_names():
    assert all(kind.startswith("node_") for kind in autoscaler_node_types())


def test_what_daemons_say_is_kept_off_the_output(capsys, monkeypatch):
    worker = ray_internals._worker
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    said = {"lines": ["a warning"], "pid": "raylet", "is_err": False, "ip": "", "job": None}
    silence_daemons()
    worker.print_to_stdstream(said, ignore_prefix=False)
    assert capsys.readouterr().out == ""
