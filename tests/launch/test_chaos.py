"""chaos.py beside a run that is made up, but for its processes and its Redis, which are real."""

import io
import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from runs import wait_until

from engines.on_redis.bus import RedisBus
from engines.on_redis.run_link import RunLink
from engines.on_redis.server import PrivateRedis, write_private
from launch.chaos import main
from networks.weights import WeightSnapshot, WeightsVersion
from records.process_id import RoleProcess, find_process, own_process
from records.run_dir import RunDir

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(sys.platform != "linux", reason="told apart on Linux only"),
]

SOON_S = 30.0
"""A bound for what takes milliseconds; only a failing test waits that long."""
_TITLES = {
    "actor/pong": "ray::ActorProcess.run",
    "shard": "ray::ShardProcess",
    "learner": "ray::LearnerProcess.run",
}


class MadeUpRun:
    """Shows processes that sleep, and starts another one where one has died."""

    def __init__(self, link):
        self.phase = "training"
        self.mends = True
        self.processes = {}
        self._link = link
        self._updates = 0
        self._done = dict.fromkeys(_TITLES, 0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._look()
        self._thread.start()

    def _work(self):
        while not self._stopped.wait(0.02):
            self._look()

    def _look(self):
        self._updates += 1
        for role, title in _TITLES.items():
            process = self.processes.get(role)
            if process is None or (process.poll() is not None and self.mends):
                self._done[role] = 0
                self.processes[role] = subprocess.Popen([title, "1000"], executable="/bin/sleep")
            self._done[role] += 1
        self._link.show(
            {
                "phase": self.phase,
                "updates": self._updates,
                "games": {"pong": {"live": 1, "wanted": 1, "waiting": 0}},
                "faults": {"chunks_lost": 0, "transitions_lost": 0},
                "processes": [entry.to_map() for entry in self._entries()],
            }
        )

    def _entries(self):
        for role, process in self.processes.items():
            if found := find_process(process.pid):
                yield RoleProcess(role=role, rank=0, done=self._done[role], process=found)
        yield RoleProcess(role="coordinator", rank=0, done=0, process=own_process())

    def close(self):
        self._stopped.set()
        self._thread.join(SOON_S)
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def server():
    with PrivateRedis() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return RunDir.create(
        tmp_path / "run", preset="smoke", config_text="{}", seed=1, argv=[], root=tmp_path
    )


@contextmanager
def carried(folder, url):
    bus = RedisBus(url, folder.redis_name)
    bus.publish_weights(WeightSnapshot(WeightsVersion(0, 1), {}))
    link = RunLink(url, folder.redis_name, period_s=0.02)
    run = MadeUpRun(link)
    try:
        wait_until(bus.status, timeout_s=SOON_S, what="the run is seen")
        yield run
    finally:
        run.close()
        link.close()
        bus.close()


@pytest.fixture
def run(folder, server):
    write_private(folder.redis_url_path, server.url)
    with carried(folder, server.url) as run:
        yield run


def test_roles_die_one_at_a_time_and_their_recovery_is_told(run, folder, capsys):
    before = dict(run.processes)
    main([str(folder.path), "--roles", "learner", "actor", "--yes", "--json"])
    *lines, last = capsys.readouterr().out.splitlines()
    assert before["learner"].poll() == before["actor/pong"].poll() == -signal.SIGKILL
    assert before["shard"].poll() is None
    names = [f"learner 0 (pid {before['learner'].pid})"]
    names.append(f"actor/pong 0 (pid {before['actor/pong'].pid})")
    assert lines[0] == "kill -9, one at a time: " + "; ".join(names)
    for line, name in zip(lines[1:3], names, strict=True):
        assert line.startswith(f"{name}: counted again after ")
    assert lines[4].split() == ["killed", "recovered", "after", "lost"]
    assert [line.split()[-1] for line in lines[5:]] == ["-", "-"]
    kills = json.loads(last)["kills"]
    assert [kill["killed"] for kill in kills] == names
    assert [kill["role"] for kill in kills] == ["learner", "actor"]
    assert all(0 <= kill["recovery_s"] < SOON_S for kill in kills)


def test_without_roles_all_that_the_run_has_are_killed(run, folder, capsys):
    before = dict(run.processes)
    main([str(folder.path), "--yes"])
    assert all(process.poll() == -signal.SIGKILL for process in before.values())
    assert capsys.readouterr().out.count("counted again") == 3


def test_what_does_not_recover_is_told_and_is_status_1(run, folder, capsys):
    run.mends = False
    with pytest.raises(SystemExit) as end:
        main([str(folder.path), "--roles", "shard", "actor", "--yes", "--json", "--timeout-s", "1"])
    assert end.value.code == 1
    output = capsys.readouterr().out
    assert "NOT RECOVERED in time" in output
    assert run.processes["actor/pong"].poll() is None, "what comes after it is left alone"
    (kill,) = json.loads(output.splitlines()[-1])["kills"]
    assert (kill["role"], kill["recovery_s"]) == ("shard", None)


def test_a_run_that_is_not_whole_is_left_alone(run, folder, server):
    run.mends = False
    run.processes["learner"].kill()
    bus = RedisBus(server.url, folder.redis_name)
    wait_until(
        lambda: "learner" not in [entry["role"] for entry in bus.status()["processes"]],
        timeout_s=SOON_S,
        what="it is seen to have died",
    )
    bus.close()
    with pytest.raises(ValueError, match=r"not whole within 0\.5 s .learner or replay has done"):
        main([str(folder.path), "--roles", "actor", "--yes", "--timeout-s", "0.5"])
    assert run.processes["actor/pong"].poll() is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "this kills processes of the run; add --yes"),
        (["--roles", "redis", "--yes"], "a Redis that it has not started itself"),
        (["--roles", "inference", "--yes"], "no process of role 'inference'"),
        (["--roles", "actor/boxing", "--yes"], "no process of role 'actor/boxing'"),
        (["--roles", "node", "--yes"], "all of the run is on the launcher's node"),
        (["--roles", "teacher"], "unknown role 'teacher'; choose of actor, shard"),
        (["--roles", "coordinator", "actor"], "name that role last"),
        (["--quickly"], "unrecognized options: --quickly"),
        (
            ["--timeout-s", "soon"],
            "--timeout-s: must be a positive number of seconds, got 'soon'",
        ),
        (["--timeout-s", "nan"], "--timeout-s: must be a positive number of seconds, got 'nan'"),
        (["--timeout-s", "-5"], "--timeout-s: must be a positive number of seconds, got '-5'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_dies(
    run, folder, monkeypatch, words, message
):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = dict(run.processes)
    with pytest.raises(ValueError, match=message) as refusal:
        main([str(folder.path), *words])
    assert "\n" not in str(refusal.value)
    assert all(process.poll() is None for process in before.values())


def give(answer):
    """What somebody types; EOFError is Ctrl-D."""
    if isinstance(answer, EOFError):
        raise answer
    return answer


@pytest.mark.parametrize("answer", ["", "n", "perhaps", EOFError()])
def test_whoever_does_not_say_yes_kills_nothing(run, folder, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: give(answer))
    with pytest.raises(ValueError, match="nothing was killed"):
        main([str(folder.path), "--roles", "actor"])
    assert all(process.poll() is None for process in run.processes.values())


@pytest.mark.parametrize("phase", ["testing", "ended"])
def test_a_run_at_its_end_is_left_alone(run, folder, phase):
    run.phase = phase
    with pytest.raises(ValueError, match="has reached its end"):
        main([str(folder.path), "--yes", "--timeout-s", "20"])


def test_a_run_that_is_not_going_on_is_refused(folder, server, monkeypatch):
    monkeypatch.delenv("ACTOR_MIMIC_REDIS_URL", raising=False)
    with pytest.raises(ValueError, match="name the folder of a run"):
        main([])
    with pytest.raises(ValueError, match="is not going on"):
        main([str(folder.path), "--yes"])
    write_private(folder.redis_url_path, server.url)
    with pytest.raises(ValueError, match="nothing has been heard of its launcher"):
        main([str(folder.path), "--yes"])
