"""`scale.py` beside a run of the real command, in processes of their own."""

import stat

import pytest
from runs import read_metrics, run_command

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]


def actors(run, game):
    return read_metrics(run)[-1][f"game/{game}/actors"]


def test_a_game_gets_actors_and_loses_them_while_the_run_goes_on(running):
    launcher, run, _ = running
    scaled = run_command("scale.py", run, "pong=3", "--timeout-s", "200", cwd=run, timeout_s=240)
    assert (scaled.status, scaled.errors) == (0, "")
    assert scaled.output.splitlines() == [
        "pong: 1 of 1 actors play",
        "boxing: 1 of 1 actors play",
        "asked for pong=3",
        "pong: 3 of 3 actors play",
    ]
    before = read_metrics(run)[-1]["updates"]
    launcher.wait_for(
        lambda: actors(run, "pong") == 3 and read_metrics(run)[-1]["updates"] > before,
        timeout_s=120.0,
        what="three actors play and the learner goes on",
    )
    scaled = run_command("scale.py", run, "pong=1", "--timeout-s", "200", cwd=run, timeout_s=240)
    assert scaled.status == 0
    assert scaled.output.splitlines()[-1] == "pong: 1 of 1 actors play"
    assert actors(run, "boxing") == 1
    events = (run / "events.jsonl").read_text()
    assert "pong: 1 -> 3 actors" in events
    assert "pong: 3 -> 1 actors" in events
    assert "pong: 1 -> 3 actors" in (launcher.scratch / "output").read_text()


def test_a_games_part_of_replay_changes_while_the_run_goes_on(running):
    launcher, run, _ = running
    words = ["--share", "pong=2", "--quota", "pong=20000", "--cap", "pong=4"]
    changed = run_command("scale.py", run, *words, "--timeout-s", "200", cwd=run, timeout_s=240)
    assert (changed.status, changed.errors) == (0, "")
    last = changed.output.splitlines()[-1]
    assert last == "pong: share 2, quota 20000, samples_per_insert_cap 4"
    shown = run_command("scale.py", run, "--show", cwd=run, timeout_s=240).output
    assert "pong: share 2, quota 20000, samples_per_insert_cap 4" in shown
    refused = run_command("scale.py", run, "--quota", "pong=1", cwd=run, timeout_s=240)
    assert refused.status == 2
    assert "quota" in refused.errors
    assert launcher.process.poll() is None


def test_what_cannot_be_is_one_line_and_changes_nothing(running, tmp_path):
    _, run, _ = running
    for words, message in ((["seaquest=2"], "not a game of this run"), (["pong=-1"], "-1 actors")):
        refused = run_command("scale.py", run, *words, cwd=tmp_path)
        assert refused.status == 2
        (line,) = refused.errors.splitlines()
        assert line.startswith("error: ")
        assert message in line
    assert actors(run, "pong") == 1


def test_a_second_launcher_for_the_same_run_is_refused(running, tmp_path):
    launcher, run, _ = running
    second = run_command(
        "multitask.py", "--resume", run, "--engine", "local", cwd=tmp_path, timeout_s=240
    )
    assert second.status == 2
    assert "another program is carrying the run" in second.errors
    assert launcher.process.poll() is None


def test_the_address_is_a_secret_of_this_user(running):
    _, run, _ = running
    address = run / "redis_url"
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    secret = address.read_text()
    for path in ("config.yaml", "meta.json", "metrics.jsonl"):
        assert secret not in (run / path).read_text()
