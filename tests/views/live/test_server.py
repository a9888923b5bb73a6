"""What the live page's server answers, for a run that has ended and lies in a folder."""

import re
import threading
from types import SimpleNamespace

import pytest
from pages import served
from recorded_runs import TEACHER_MEANS, make_run
from runs import ROOT, wait_until

from views.live import server as page_server
from views.live.guard import TOKEN_HEADER, Guard
from views.live.source import RunSource

TOKEN = "a-token-that-is-long-enough"
WEB = ROOT / "views" / "live" / "web"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "done")


@pytest.fixture(scope="module")
def page(run):
    with pytest.MonkeyPatch.context() as patch, served(RunSource(run), Guard(token=TOKEN)) as page:
        patch.setattr(page_server, "_WRONG_TOKEN_PAUSE_S", 0.0)
        yield page


def test_every_file_of_the_page_is_served_with_a_policy_that_allows_nothing_from_elsewhere(page):
    for path in [*(f"/assets/{file.name}" for file in WEB.iterdir()), "/"]:
        answer = page.ask(path)
        assert answer.status == 200, path
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert page.ask("/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.ask("/assets/main.js").headers["Content-Type"] == "text/javascript; charset=utf-8"


def test_the_page_names_no_other_host_and_has_no_script_or_style_of_its_own():
    for path in WEB.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[\w.]+\.\w{2,}/", text), path
    text = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text)


@pytest.mark.parametrize(
    "path",
    ["/assets/../page_server.py", "/assets/..%2f..%2fcli.py", "/assets/", "/assets/none.js", "/x"],
)
def test_nothing_else_is_served(page, path):
    assert page.ask(path).status == 404


def test_the_state_of_a_run_that_has_ended(page):
    state = page.ask("/api/state").document
    assert state["name"] == "done"
    assert state["state"] == "ended"
    assert [game["name"] for game in state["games"]] == ["pong", "boxing"]
    pong = state["games"][0]
    assert pong["teacher"] == TEACHER_MEANS["pong"]
    assert pong["test"]["episodes"] == 4
    assert pong["test"]["normalized"] == pytest.approx(0.9, abs=0.15)
    assert state["figures"]["samples_per_insert"] > 0
    assert state["means"] is True
    assert state["frames_per_step"] == 4
    assert "frames_per_second" not in state["figures"], "of the last look, among means"


def test_the_curves_have_every_look_and_every_test(page):
    curves = page.ask("/api/curves").document
    assert len(curves["looks"]["seconds"]) == 40
    assert len(curves["looks"]["game/pong/return"]) == 40
    assert curves["looks"]["frames_per_second"][-1] == pytest.approx(4 * 2 * 1000 / 60, rel=1e-3)
    assert [test["seconds"] for test in curves["tests"]["pong"]] == [600, 1200, 1800, 2400]


def test_events_come_as_long_as_somebody_listens(page):
    with page.events("/api/events") as events:
        kinds = [next(events) for _ in range(3)]
    assert [kind for kind, _ in kinds] == ["state"] * 3
    assert kinds[0][1]["writable"] is True


def test_nobody_looks_at_the_run_while_nobody_watches(run):
    class Counting(RunSource):
        looks = 0

        def look(self):
            self.looks += 1
            return super().look()

    source = Counting(run)
    with served(source) as page:
        assert source.looks == 0
        with page.events("/api/events") as events:
            for _ in range(3):
                next(events)
        wait_until(
            lambda: page.page._feed._task.done(), timeout_s=20.0, what="the feed has stopped"
        )
        looks = source.looks
        assert not threading.Event().wait(1.5)
        assert source.looks == looks


def test_a_change_needs_the_token_the_type_and_the_origin(page):
    right = {TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
    assert page.ask("/api/token", {}, **right).status == 204
    for changed, status in (
        ({TOKEN_HEADER: ""}, 403),
        ({TOKEN_HEADER: TOKEN + "x"}, 403),
        ({TOKEN_HEADER: TOKEN[:-1]}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ):
        for path in ("/api/token", "/api/wanted"):
            assert page.ask(path, {"pong": 2}, **{**right, **changed}).status == status, changed


def test_a_page_without_a_token_changes_nothing_whatever_is_sent(run):
    with served(RunSource(run)) as page:
        for token in ("", TOKEN):
            headers = {TOKEN_HEADER: token, "Content-Type": "application/json"}
            answer = page.ask("/api/wanted", {"pong": 2}, **headers)
            assert answer.status == 403
            assert "read-only" in answer.document["error"]


@pytest.mark.parametrize("body", [[], {}, "pong", 1])
def test_a_wish_that_is_none_is_refused(page, body):
    right = {TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
    assert page.ask("/api/wanted", body, **right).status == 400


def test_a_body_without_end_is_refused(page):
    right = {TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
    assert page.ask("/api/wanted", {"pong": "x" * 100_000}, **right).status == 413


def test_the_student_in_the_folder_plays_for_who_watches(page, run):
    with page.events("/api/play?game=boxing") as events:
        pictures = [next(events) for _ in range(3)]
    kind, picture = pictures[-1]
    assert kind == "picture", picture
    assert picture["png"].startswith("iVBORw0KGgo")
    steps = [picture["step"] for _, picture in pictures]
    assert steps == sorted(set(steps))
    assert len(picture["policies"]["student"]) == len(picture["actions"]) == 18
    assert sum(picture["policies"]["student"]) == pytest.approx(1.0, abs=0.02)
    assert sum(picture["policies"]["teacher"]) == pytest.approx(1.0, abs=0.02)
    wait_until(
        lambda: not any(t.name == "page-player" for t in threading.enumerate()),
        timeout_s=20.0,
        what="the player has stopped",
    )


def test_whoever_has_gone_makes_room_for_others_at_once(page, monkeypatch):
    class Silent:
        """A player that never has anything to show."""

        def __init__(self, *_, **__):
            self.stopped = False

        def stop(self):
            self.stopped = True

    silent = SimpleNamespace(import_module=lambda name: SimpleNamespace(Player=Silent))
    monkeypatch.setattr(page_server, "importlib", silent)
    for _ in range(2 * page_server.MAX_PLAYERS):
        with page.events("/api/play?game=pong"):
            pass
    wait_until(lambda: page.page._num_players == 0, timeout_s=10.0, what="the players have gone")
