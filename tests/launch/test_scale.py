"""Asking a run for other numbers of actors, through a real Redis and a coordinator that answers."""

import dataclasses
import os
import signal
import stat
import sys
import threading
from contextlib import contextmanager

import pytest
from runs import wait_until

from engines.engine import check_wanted
from engines.on_redis.bus import RedisBus
from engines.on_redis.link import connect
from engines.on_redis.run_link import STATUS_TTL_S, RunLink
from engines.on_redis.server import PrivateRedis, write_private
from launch.scale import main
from records.run_dir import RunDir

pytestmark = pytest.mark.redis

GAMES = ("pong", "boxing")
SOON_S = 30.0
"""A bound for what takes milliseconds; only a failing test waits that long."""


@pytest.fixture(scope="module")
def server():
    with PrivateRedis() as server:
        yield server


@pytest.fixture
def run(tmp_path):
    return RunDir.create(
        tmp_path / "run", preset="smoke", config_text="{}", seed=1, argv=[], root=tmp_path
    )


@dataclasses.dataclass
class Coordinator:
    """What the launcher does, without any actors: it has room for four of each game."""

    link: RunLink
    room: int = 4
    wanted: dict = dataclasses.field(default_factory=lambda: dict.fromkeys(GAMES, 1))
    answered: dict = dataclasses.field(default_factory=dict)
    refused: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    phase: str = "training"
    is_deaf: bool = False

    def look(self):
        for game, number in self.link.wanted().items():
            if self.is_deaf or self.answered.get(game) == number:
                continue
            self.answered[game] = number
            try:
                if number == 13:
                    raise ValueError("13 is bad luck")
                check_wanted(game, number, GAMES)
                self.wanted[game] = number
                self.refused.pop(game, None)
            except ValueError as error:
                self.refused[game] = str(error)
        for game, change in self.link.settings().items():
            if change.get("quota") == 13:
                self.refused[f"{game} settings"] = "a quota of 13 is bad luck"
            if not self.is_deaf:
                self.settings[game] = change
        self.link.show(
            {
                "phase": self.phase,
                "games": {
                    game: {
                        "wanted": number,
                        "live": min(number, self.room),
                        "waiting": max(0, number - self.room),
                        "settings": {"share": 1.0, "quota": 500, **self.settings.get(game, {})},
                    }
                    for game, number in self.wanted.items()
                },
                "answered": self.answered,
                "answered_settings": self.settings,
                "refused": self.refused,
            },
            {"steps": 1.0},
        )


@contextmanager
def carried(run, url):
    link = RunLink(url, run.redis_name, period_s=0.02)
    coordinator = Coordinator(link)
    stopped = threading.Event()

    def work():
        while not stopped.wait(0.02):
            coordinator.look()

    coordinator.look()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    bus = RedisBus(url, run.redis_name)
    wait_until(bus.status, timeout_s=SOON_S, what="the run is seen")
    bus.close()
    try:
        yield coordinator
    finally:
        stopped.set()
        thread.join(SOON_S)
        link.close()


@pytest.fixture
def coordinator(run, server):
    write_private(run.redis_url_path, server.url)
    with carried(run, server.url) as coordinator:
        yield coordinator


def test_a_request_is_followed_and_said(coordinator, run, capsys):
    main([str(run.path), "pong=3", "boxing=0"])
    assert coordinator.wanted == {"pong": 3, "boxing": 0}
    assert capsys.readouterr().out.splitlines() == [
        "pong: 1 of 1 actors play",
        "boxing: 1 of 1 actors play",
        "asked for pong=3 boxing=0",
        "pong: 3 of 3 actors play",
        "boxing: 0 of 0 actors play",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seaquest=2"], "'seaquest' is not a game of this run; it plays pong, boxing"),
        (["pong=-1"], "pong cannot have -1 actors: give a whole number from 0 to 1,024"),
        (["pong=100000"], "pong cannot have 100000 actors"),
        (["pong"], "'pong' is not of the form GAME=N"),
        (["pong=many"], "'pong=many' is not of the form GAME=N"),
        (["pong=1", "pong=2"], "'pong' is given twice"),
        ([], "name what is to change, for example pong=8, or use --show"),
        (["--file", "nowhere.yaml"], "cannot read nowhere.yaml: No such file or directory"),
        (["pong=13"], "13 is bad luck"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(coordinator, run, words, message):
    with pytest.raises(ValueError, match=message) as refusal:
        main([str(run.path), *words])
    assert "\n" not in str(refusal.value)
    assert coordinator.wanted == {"pong": 1, "boxing": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must hold a mapping of games to numbers"),
        ("pong: [", "is not valid YAML"),
        ("pong: many", "pong cannot have 'many' actors"),
        ("pong: true", "pong cannot have True actors"),
        ("pong: 1.5", "pong cannot have 1.5 actors"),
        ("", "must hold a mapping"),
    ],
)
def test_a_file_that_is_none_is_refused(coordinator, run, tmp_path, text, message):
    path = tmp_path / "actors.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        main([str(run.path), "--file", str(path)])


@pytest.mark.parametrize("phase", ["testing", "ended"])
def test_a_run_at_its_end_takes_no_requests(coordinator, run, server, phase):
    coordinator.phase = phase
    bus = RedisBus(server.url, run.redis_name)
    wait_until(lambda: bus.status()["phase"] == phase, timeout_s=SOON_S, what="it is seen")
    bus.close()
    with pytest.raises(ValueError, match="its actors have gone"):
        main([str(run.path), "pong=2"])


def test_a_run_that_is_not_going_on_is_refused(run, server, monkeypatch):
    monkeypatch.delenv("ACTOR_MIMIC_REDIS_URL", raising=False)
    with pytest.raises(ValueError, match="is not going on"):
        main([str(run.path), "pong=2"])
    # Killed: the address is still there, the server is not.
    write_private(run.redis_url_path, "unix:///nowhere/redis.sock")
    with pytest.raises(ValueError, match="does not answer"):
        main([str(run.path), "pong=2"])
    # A server of the user's own, in which nobody has been heard of lately.
    write_private(run.redis_url_path, server.url)
    with pytest.raises(ValueError, match="nothing has been heard of its launcher"):
        main([str(run.path), "pong=2"])


def test_a_password_is_never_shown(run, monkeypatch):
    url = "redis://:sesame@127.0.0.1:1/0"
    write_private(run.redis_url_path, url)
    with pytest.raises(ValueError, match="does not answer") as refusal:
        main([str(run.path), "pong=2"])
    assert "sesame" not in str(refusal.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no modes there")
def test_the_address_is_readable_for_its_owner_alone(tmp_path):
    path = tmp_path / "redis_url"
    path.write_text("somebody else's")
    path.chmod(0o666)
    with path.open() as held:
        write_private(path, "redis://secret")
        assert held.read() == "somebody else's", "a file that is held open got the text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "redis://secret"


def test_a_run_whose_launcher_has_died_is_seen_to_have_gone(coordinator, run, server):
    client = connect(server.url)
    assert 0 < client.ttl(f"am:{run.redis_name}:status") <= STATUS_TTL_S
    client.close()


# The launcher's side


def test_metrics_and_status_arrive_and_are_there_again_after_redis_has_died(run):
    with PrivateRedis() as server:
        link = RunLink(server.url, run.redis_name, period_s=0.02)
        bus = RedisBus(server.url, run.redis_name)
        link.show({"phase": "training"}, {"steps": 1.0})
        wait_until(bus.latest_metrics, timeout_s=SOON_S, what="the first record")
        bus.set_wanted({"pong": 5})
        wait_until(lambda: link.wanted() == {"pong": 5}, timeout_s=SOON_S, what="the wish")
        assert link.figures() == {"redis_up": 1.0}
        os.kill(server.pid, signal.SIGKILL)
        wait_until(
            lambda: link.figures() == {"redis_up": 0.0}, timeout_s=SOON_S, what="it is missed"
        )
        link.show({"phase": "training"}, {"steps": 2.0})
        link.show({"phase": "training"}, {"steps": 3.0})
        wait_until(server.restart_if_dead, timeout_s=SOON_S, what="it has died and is back")
        fresh = RedisBus(server.url, run.redis_name)
        wait_until(fresh.status, timeout_s=SOON_S, what="the status is back")
        wait_until(lambda: fresh.wanted() == {"pong": 5}, timeout_s=SOON_S, what="the wish is back")
        assert link.wanted() == {"pong": 5}
        assert link.figures() == {"redis_up": 1.0}
        records = fresh.latest_metrics(10)
        assert [record["steps"] for record in records] == [2.0, 3.0]  # Shown while it was away.
        link.close()
        bus.close()
        fresh.close()


def test_a_redis_that_hangs_holds_up_nobody(run):
    with PrivateRedis() as server:
        link = RunLink(server.url, run.redis_name, period_s=0.02)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            done = threading.Event()

            def use():
                for number in range(200):
                    link.show({"phase": "training"}, {"steps": float(number)})
                    link.wanted()
                done.set()

            threading.Thread(target=use, daemon=True).start()
            assert done.wait(SOON_S)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        bus = RedisBus(server.url, run.redis_name)
        wait_until(
            lambda: bus.latest_metrics() == [{"steps": 199.0}], timeout_s=SOON_S, what="the newest"
        )
        link.close()
        bus.close()


def test_settings_of_replay_are_asked_for_beside_actors(coordinator, run, capsys):
    main([str(run.path), "pong=2", "--share", "pong=2", "boxing=0.5", "--cap", "pong=4"])
    assert coordinator.wanted["pong"] == 2
    assert coordinator.settings == {
        "pong": {"share": 2.0, "samples_per_insert_cap": 4.0},
        "boxing": {"share": 0.5},
    }
    lines = capsys.readouterr().out.splitlines()
    assert "pong: share 1, quota 500" in lines, "what is in force before"
    assert lines[-2:] == ["pong: share 2, samples_per_insert_cap 4", "boxing: share 0.5"]
    # What was asked for before stays asked for.
    main([str(run.path), "--quota", "pong=20000"])
    assert coordinator.settings["pong"] == {
        "share": 2.0,
        "samples_per_insert_cap": 4.0,
        "quota": 20_000,
    }
