"""What the live page knows of a run: from its folder, and from a real Redis while it goes on."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from pages import served
from recorded_runs import make_run
from runs import wait_until

from engines.on_redis.bus import RedisBus
from engines.on_redis.server import PrivateRedis, write_private
from records.run_dir import RunDir
from views.live.guard import TOKEN_HEADER, Guard
from views.live.source import RunSource
from views.live.view import curves, describe

GAMES = ("pong", "boxing")
SOON_S = 30.0
TOKEN = "a-token-that-is-long-enough"


@pytest.fixture
def run(tmp_path):
    """One that has been stopped a while ago, before its end."""
    run = make_run(tmp_path / "run", finish=False)
    an_hour_ago = time.time() - 3600
    os.utime(run.metrics_path, (an_hour_ago, an_hour_ago))
    return run


def status(**parts):
    games = {game: {"live": 1, "wanted": 2, "waiting": 1, "teacher": 10.0} for game in GAMES}
    return {"phase": "training", "games": games, "refused": {}, "events": [], **parts}


def state_of(run):
    return describe(RunSource(run).look())


def append(run, **row):
    with run.metrics_path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_a_folder_alone_tells_whether_its_run_goes_on(run):
    state = state_of(run)
    assert state["state"] == "stopped"
    assert "--resume" in state["note"]
    os.utime(run.metrics_path)  # Somebody writes into it, without a Redis: the local engine.
    assert state_of(run)["state"] == "training"


def test_a_run_that_was_interrupted_is_not_at_its_end(run):
    summary = {"updates": 3, "games": {}, "throughput": {"steps_per_second": 7.0}}
    run.write_summary(summary)
    state = state_of(run)
    assert state["state"] == "stopped"
    assert state["figures"]["steps_per_second"] == 7.0
    run.write_summary(summary | {"updates": 10**9})
    assert state_of(run)["state"] == "ended"


def test_frames_are_those_that_were_measured(run):
    assert state_of(run)["figures"]["frames_per_second"] == pytest.approx(4 * 2 * 1000 / 60)
    assert state_of(run)["frames_per_step"] == 4
    # MinAtar, and a look in which nothing was played.
    append(run, seconds=9000.0, steps_per_second=70.0, frames_per_second=70.0)
    append(run, seconds=9001.0, steps_per_second=0.0, frames_per_second=0.0)
    assert state_of(run)["figures"]["frames_per_second"] == 0.0
    assert state_of(run)["frames_per_step"] == 1
    run.metrics_path.unlink()
    append(run, seconds=1.0, steps=0)
    assert "frames_per_second" not in state_of(run)["figures"]
    assert state_of(run)["frames_per_step"] is None


def test_a_game_without_a_teacher_is_measured_by_human_play_and_its_own_best(tmp_path):
    run = make_run(tmp_path / "run", finish=False, num_tests=2, num_looks=2)
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    rows = [
        {key: x for key, x in row.items() if "teacher" not in key and "agreement" not in key}
        for row in lines
    ]
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = run.config_path.read_text().replace("objective: mimic", "objective: dqn")
    run.config_path.write_text(text)
    pong = state_of(run)["games"][0]
    means = [row["test/pong/mean"] for row in rows if "test/pong/mean" in row]
    assert (pong["teacher"], pong["goal"], pong["best"]) == (None, 14.6, max(means))
    assert pong["test"]["normalized"] == pytest.approx((means[-1] + 20.7) / (14.6 + 20.7))


def test_a_folder_without_a_configuration_is_refused(run):
    run.config_path.write_text("nothing: here")
    with pytest.raises(ValueError, match=r"config\.yaml names no games"):
        RunSource(run)


@pytest.fixture(scope="module")
def server():
    with PrivateRedis() as server:
        yield server


@pytest.fixture
def bus(server, run):
    bus = RedisBus(server.url, run.redis_name)
    yield bus
    bus.forget_run()
    bus.close()


@pytest.fixture
def source(server, run, bus):
    """Of the run, through the address that its launcher leaves in the folder."""
    write_private(run.redis_url_path, server.url)
    source = RunSource(run)
    yield source
    source.close()


@pytest.fixture
def copied(run, tmp_path):
    """What another machine has of the run."""
    copy = tmp_path / "copy" / run.path.name
    copy.mkdir(parents=True)
    for name in ("config.yaml", "meta.json"):
        shutil.copy(run.path / name, copy)
    return RunDir.open_existing(copy)


@pytest.mark.redis
def test_what_the_launcher_says_goes_before_what_is_in_files(source, bus):
    bus.set_status(status(refused={"boxing": "no room"}, verdict={"limit": "actors", "numbers": {
        "learner_busy": 0.25}, "reason": "because", "advice": "more of them"}))  # fmt: skip
    state = describe(source.look())
    assert state["state"] == "training"
    pong, boxing = state["games"]
    assert (pong["live"], pong["wanted"], pong["waiting"], pong["teacher"]) == (1, 2, 1, 10.0)
    assert (pong["refused"], boxing["refused"]) == (None, "no room")
    assert state["verdict"] == {
        "limit": "actors", "numbers": {"learner_busy": 0.25}, "reason": "because",
        "advice": "more of them",
    }  # fmt: skip


@pytest.mark.redis
def test_a_run_is_stopped_when_nothing_is_heard_of_its_launcher(source, bus):
    assert describe(source.look())["state"] == "stopped"
    bus.set_status(status(phase="testing"))
    assert describe(source.look())["state"] == "testing"


@pytest.mark.redis
def test_a_run_on_another_machine_needs_two_files_and_redis(copied, bus, server):
    event = {"seconds": 3.0, "steps": 1, "updates": 1, "event": "pong: 1 -> 2 actors"}
    bus.set_status(status(events=[event], tests={"test/pong/mean": 5.0}))
    for second in range(1, 4):
        bus.push_metrics({"seconds": float(second), "steps": 10 * second, "policy_loss": 1.5})
    source = RunSource(copied, redis_url=server.url)
    seen = source.look()
    state = describe(seen)
    assert state["steps"] == 30
    assert state["events"] == [{"seconds": 3.0, "text": "pong: 1 -> 2 actors", "kind": "scale"}]
    assert state["games"][0]["test"]["mean"] == 5.0
    assert curves(seen)["looks"]["policy_loss"] == [1.5, 1.5, 1.5]
    bus.push_metrics({"seconds": 4.0, "steps": 40})
    bus.push_metrics({"seconds": 5.0, "steps": 50})
    assert curves(source.look())["looks"]["steps"] == [10, 20, 30, 40, 50]
    bus.push_metrics({"seconds": 4.5, "steps": 45})  # Resumed from a checkpoint.
    assert curves(source.look())["looks"]["steps"] == [10, 20, 30, 40, 45]
    source.close()


@pytest.mark.redis
def test_a_page_on_another_machine_changes_the_actors_through_redis(copied, bus, server):
    bus.set_status(status())
    bus.push_metrics({"seconds": 1.0, "steps": 10})
    with served(RunSource(copied, redis_url=server.url), Guard(token=TOKEN)) as page:
        wait_until(
            lambda: page.ask("/api/state").document["steps"] == 10,
            timeout_s=SOON_S,
            what="the page hears of the run",
        )
        headers = {TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
        answer = page.ask("/api/wanted", {"pong": 3}, **headers)
        assert (answer.status, answer.document) == (200, {"asked": {"pong": 3}})
        assert bus.wanted() == {"pong": 3}
        answer = page.ask("/api/wanted", {"seaquest": 3}, **headers)
        assert answer.status == 409
        assert "seaquest" in answer.document["error"]
        assert page.ask("/api/wanted", {"pong": 4}, **{**headers, TOKEN_HEADER: "x"}).status == 403
        assert bus.wanted() == {"pong": 3}


@pytest.mark.redis
def test_a_redis_that_is_away_is_said_and_heard_again(run, tmp_path):
    with PrivateRedis() as server:
        bus = RedisBus(server.url, run.redis_name)
        bus.set_status(status())
        source = RunSource(run, redis_url=server.url)
        assert describe(source.look())["state"] == "training"
        os.kill(server.pid, 9)
        wait_until(server.restart_if_dead, timeout_s=SOON_S, what="it is dead, and started again")
        # Empty, as a private server is after a restart.
        wait_until(
            lambda: describe(source.look())["state"] == "stopped", timeout_s=SOON_S, what="empty"
        )
        wait_until(lambda: _set(bus), timeout_s=SOON_S, what="the launcher writes it again")
        assert describe(source.look())["state"] == "training"
        os.kill(server.pid, 9)
        os.utime(run.metrics_path)
        wait_until(lambda: server.pid is None, timeout_s=SOON_S, what="it is dead")
        state = describe(source.look())
        assert state["state"] == "lost"
        assert "Redis does not answer" in state["note"]
        assert state["steps"] > 0
        source.close()
        bus.close()


def _set(bus):
    try:
        bus.set_status(status())
    except ConnectionError:
        return False
    return True


def test_who_looks_at_a_run_does_not_wait_for_torch():
    code = "import sys; import views.live.server; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
