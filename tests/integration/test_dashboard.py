"""The live page of a real run in a real Chromium, driven by its keyboard.

With ACTOR_MIMIC_SCREENSHOTS=FOLDER the pictures of the page, wide and narrow, are kept there to be
looked at.
"""

import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from recorded_runs import make_run
from runs import PAGE_TOKEN, ROOT, command, read_metrics, read_summary, title_of, wait_until

from records.summary import Summary

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    # Playwright's driver ends after the loop that it was started on.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PAIRS_OF_TEXTS_THAT_OVERLAP = (ROOT / "tests" / "support" / "overlaps.js").read_text()


def address_in(server):
    """That dashboard.py prints."""
    output = server.scratch / "output"
    server.wait_for(lambda: "http" in output.read_text(), timeout_s=60.0, what="it is served")
    return re.search(r"http://\S+", output.read_text())[0]


@pytest.fixture(scope="module")
def chromium():
    """Debian's; a missing one is an error, so that nothing passes for lack of a browser."""
    program = shutil.which("chromium")
    assert program, "install Debian's chromium"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """One page, and what it has complained of and asked for."""

    def __init__(self, page):
        self.page = page
        self.complaints = []
        self.requests = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def wait_until(self, condition, *, what, timeout_s=60.0):
        """As `wait_until`, while the browser's events come in; the policy forbids its own way."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
            self.page.wait_for_timeout(50)

    def wait_for_text(self, selector, pattern, *, timeout_s=60.0):
        sync_api.expect(self.page.locator(selector).first).to_have_text(
            re.compile(pattern), timeout=1000 * timeout_s
        )


@contextmanager
def opened(chromium, address, *, width=1280, state="Training"):
    """A new context, with nothing kept of others; at the end nothing must have been amiss."""
    context = chromium.new_context(viewport={"width": width, "height": 900})
    tab = Tab(context.new_page())
    tab.page.goto(address)
    tab.wait_for_text("#state-word", state)
    yield tab
    context.close()
    assert tab.complaints == []
    assert tab.requests
    assert all(url.startswith(address) for url in tab.requests)


def go_to(tab, wanted):
    """As somebody without a mouse does."""
    for _ in range(40):
        if tab.page.evaluate("(it) => document.activeElement.matches(it)", wanted):
            return
        tab.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {wanted}")


def seconds_of(label):
    hours, minutes, seconds = re.search(r"(\d+):(\d\d):(\d\d)", label).groups()
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds)


def wait_for_curves(tab):
    drawn = tab.page.locator(".chart polyline[points*=' ']")
    tab.wait_until(lambda: drawn.count() >= 5, what="curves")


def picture(tab, name):
    if folder := os.environ.get("ACTOR_MIMIC_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tab.page.screenshot(path=Path(folder) / name, full_page=True)


def test_the_figures_of_the_run_are_new_at_least_every_two_seconds(running, chromium):
    _, _, address = running
    with opened(chromium, address) as tab:
        # The first who watches has the page open Redis, with which it is busy for a moment.
        tab.wait_for_text("#about", " on ")
        # Of the time since the start, which is in whole seconds, two looks may show the same.
        tab.page.evaluate(
            """() => {
                window.changes = [];
                const rates = document.querySelectorAll(".chart")[1];
                let before = null;
                const note = () => {
                    const points = rates.querySelector(".curve")?.getAttribute("points");
                    if (points === before) return;
                    before = points;
                    changes.push([performance.now(), document.getElementById("about").textContent]);
                };
                new MutationObserver(note).observe(rates, { childList: true, subtree: true });
            }"""
        )
        # All of a row of gaps, and again where another program has taken the cores for a second.
        tab.wait_until(lambda: all_fresh(tab.page.evaluate("changes")[-15:]), what="15 in time")


def all_fresh(changes):
    if len(changes) < 15:
        return False
    times, labels = zip(*changes, strict=True)
    assert seconds_of(labels[-1]) - seconds_of(labels[0]) >= 5
    return max(after - before for before, after in pairwise(times)) < 2000


def test_what_limits_the_run_is_said_in_words(running, chromium):
    _, run, address = running
    with opened(chromium, address) as tab:
        tab.wait_for_text("#limit", "^(Actors|Replay|Network|Learner)$")
        limit = tab.text("#limit")
        assert re.search(r"\d+% of the time", tab.text("#reason"))
        assert tab.text("#advice").startswith("To change that: ")
        assert re.search(r"^learner\s+\d+%", tab.text("#numbers"), re.MULTILINE)
    assert any(row.get(f"limit/{limit.lower()}") for row in read_metrics(run))


def test_curves_are_read_with_the_keyboard_alone(running, chromium):
    _, _, address = running
    with opened(chromium, address) as tab:
        keyboard = tab.page.keyboard
        wait_for_curves(tab)
        go_to(tab, "svg[aria-label^='Steps per second over time']")
        chart = tab.page.locator(".chart", has_text="Steps per second")
        spoken, note = chart.locator("[role=status]"), chart.locator(".head p")
        cursor = chart.locator("svg .cursor")
        assert spoken.text_content() == ""
        places = []
        for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End"):
            keyboard.press(key)
            said = re.fullmatch(r"(at [\d:]+): Pong [^,]+, Boxing [^,]+", spoken.text_content())
            assert said
            assert said[1] == note.inner_text()
            assert cursor.get_attribute("visibility") == "visible"
            places.append(float(cursor.get_attribute("x1")))
        assert places[0] < places[1] < places[2] < places[4]
        assert places[3] < places[2]
        keyboard.press("Escape")
        assert note.inner_text() == "by game"
        assert spoken.text_content() == ""
        assert cursor.get_attribute("visibility") == "hidden"


def test_actors_are_scaled_with_the_keyboard_alone(running, chromium):
    _, run, address = running
    with opened(chromium, address) as tab:
        keyboard = tab.page.keyboard
        go_to(tab, "#token")
        keyboard.type("not-the-token-of-this-page")
        keyboard.press("Enter")
        tab.wait_for_text("#access-note", "not the one")
        tab.wait_until(lambda: tab.complaints, what="the browser itself notes the refusal")
        assert "403" in tab.complaints.pop()
        keyboard.press("Control+A")
        keyboard.type(PAGE_TOKEN)
        keyboard.press("Enter")
        tab.wait_for_text("#access-note", "Unlocked")
        go_to(tab, "input[aria-label='Actors wanted for Pong']")
        before = int(tab.page.evaluate("document.activeElement.value"))
        assert before == read_metrics(run)[-1]["game/pong/actors"]
        keyboard.press("ArrowUp")
        keyboard.press("Enter")
        tab.wait_for_text(".row .live", f"^{before + 1} live", timeout_s=120.0)
        tab.wait_for_text("#events", f"pong: {before} -> {before + 1} actors")
    assert read_metrics(run)[-1]["game/pong/actors"] == before + 1
    assert f"pong: {before} -> {before + 1} actors" in (run / "events.jsonl").read_text()


def test_it_outlives_a_redis_that_is_killed(running, chromium):
    launcher, _, address = running
    (redis,) = [pid for pid in launcher.pids if re.search(r"(redis|valkey)-server", title_of(pid))]
    with opened(chromium, address) as tab:
        tab.wait_for_text(".row .live", r"^(\d+) of \1 live", timeout_s=120.0)
        num_actors = tab.text(".row .live >> nth=0")
        os.kill(redis, signal.SIGKILL)
        wait_until(
            lambda: any(
                re.search(r"(redis|valkey)-server", title_of(pid))
                for pid in launcher.pids
                if pid != redis
            ),
            timeout_s=60.0,
            what="the launcher has started another Redis",
        )
        tab.wait_for_text("#state-word", "Training")
        before = seconds_of(tab.text("#about"))
        tab.wait_until(lambda: seconds_of(tab.text("#about")) > before + 2, what="figures go on")
        tab.wait_for_text(".row .live", f"^{num_actors}")


@pytest.mark.parametrize(
    ("width", "name"), [(1280, "dashboard.png"), (400, "dashboard-narrow.png")]
)
def test_nothing_overlaps_or_is_cut_off(running, chromium, width, name):
    _, _, address = running
    with opened(chromium, address, width=width) as tab:
        tab.wait_for_text("#limit", "^(Actors|Replay|Network|Learner)$")
        tab.page.locator("#screen").scroll_into_view_if_needed()
        tab.wait_for_text("#facts", r"update [\d,]+", timeout_s=120.0)
        wait_for_curves(tab)
        picture(tab, name)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        assert tab.page.evaluate(PAIRS_OF_TEXTS_THAT_OVERLAP) == []


def test_the_student_plays_with_weights_from_redis(running, chromium):
    _, _, address = running
    with opened(chromium, address, width=400) as tab:
        assert "play?game=" not in " ".join(tab.requests)  # Below the fold nobody sees it.
        tab.page.locator("#screen").scroll_into_view_if_needed()
        tab.wait_for_text("#facts", r"update [\d,]+", timeout_s=120.0)
        tab.wait_for_text(".action.played", r"\d+%")
        bright = tab.page.evaluate(
            """() => { const c = document.getElementById("screen");
                const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
                return new Set(new Uint32Array(d.buffer)).size; }"""
        )
        assert bright > 3


def test_a_run_that_has_ended_is_shown_from_its_folder(chromium, tmp_path):
    run = make_run(tmp_path / "done")
    with (
        command("dashboard.py", run.path, cwd=tmp_path) as server,
        opened(chromium, address_in(server), state="Ended") as tab,
    ):
        assert tab.page.title() == "done \u00b7 Ended"
        assert tab.page.locator("#notice").is_hidden()
        tab.wait_for_text("#tiles .unit", "^per second, mean$")
        tab.wait_for_text(".row .live", "^1 at the end$")
        tab.wait_for_text(".row .toward .small", "^last test, agrees in 70% of states$")
        assert tab.text("#limit") == "No verdict"
        assert tab.page.locator("#access-note").inner_text() == "Read-only"
        assert "ago" not in tab.text("#age")
        tab.wait_until(lambda: tab.page.locator(".chart circle").count() >= 8, what="tests")


def test_the_page_ends_with_the_run_and_says_so(running, chromium):
    launcher, run, address = running
    with opened(chromium, address) as tab:
        launcher.interrupt()
        finished = launcher.wait(120.0)
        tab.wait_for_text("#notice", "Nothing is heard from the page's server")
        # The browser notes that its streams are cut and nobody answers; the page adds nothing.
        assert [text for text in tab.complaints if "net::ERR_" not in text] == []
        tab.complaints.clear()
    wait_until(lambda: not launcher.pids, timeout_s=60.0, what="no process is left")
    # Its errors may tell of the Redis that was killed, but of no defect.
    assert finished.status == 130
    assert "Traceback" not in finished.errors
    Summary.model_validate(read_summary(run))
    assert not (run / "redis_url").exists(), "the address goes with the run"
    lines = (run / "events.jsonl").read_text().splitlines()
    assert any(json.loads(line)["event"].startswith("checkpoint of update") for line in lines)
