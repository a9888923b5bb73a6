"""The live page of a real run in a real Chromium, driven by its keyboard."""

import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
from runs import command, read_metrics, title_of, wait_until

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.slow,
    # Playwright's driver ends after the loop that it was started on.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def running(smoke_options, tmp_path_factory):
    """A run that does not end by itself: (the command, its folder, the address of its page)."""
    folder = tmp_path_factory.mktemp("shown")
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    run = folder / "run"
    options = [*smoke_options, "--run-dir", str(run), "--num-steps", "10000000"]
    options += ["--report-period-s", "0.5", "--dashboard.token-file", str(token)]
    with command("multitask.py", *options, cwd=folder) as running:
        running.wait_for(
            lambda: any(row.get("updates", 0) > 0 for row in read_metrics(run)),
            timeout_s=240.0,
            what="it learns",
        )
        (address,) = re.findall(
            r"live page: (http://127\.0\.0\.1:\d+/)", (running.scratch / "output").read_text()
        )
        yield running, run, address


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
def opened(chromium, address, *, width=1280):
    context = chromium.new_context(viewport={"width": width, "height": 900})
    tab = Tab(context.new_page())
    tab.page.goto(address)
    tab.wait_for_text("#state-word", "Training")
    yield tab
    context.close()
    assert tab.complaints == []
    assert tab.requests
    assert all(url.startswith(address) for url in tab.requests)


def seconds_of(label):
    hours, minutes, seconds = re.search(r"(\d+):(\d\d):(\d\d)", label).groups()
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds)


def test_it_loads_within_a_second(running, chromium):
    _, _, address = running
    with opened(chromium, address) as tab:
        # The best of some: other programs share the machine with the browser.
        times = []
        for _ in range(3):
            tab.page.reload()
            tab.wait_for_text("#state-word", "Training")
            times.append(
                tab.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            )
        assert min(times) < 1000


def test_the_figures_of_the_run_are_new_at_least_every_two_seconds(running, chromium):
    _, _, address = running
    with opened(chromium, address) as tab:
        tab.page.evaluate(
            """() => {
                window.changes = [];
                const about = document.getElementById("about");
                const note = () => changes.push([performance.now(), about.textContent]);
                new MutationObserver(note).observe(about, { childList: true, subtree: true });
            }"""
        )
        tab.wait_until(lambda: tab.page.evaluate("changes.length") >= 8, what="eight changes")
        changes = tab.page.evaluate("changes")
    shown = [seconds_of(label) for _, label in changes]
    assert all(after > before for before, after in pairwise(shown))
    gaps = sorted(after - before for (before, _), (after, _) in pairwise(changes))
    # Not all: on a machine with fewer cores than roles somebody has to wait at times.
    assert gaps[-3] < 2000


def test_actors_are_scaled_with_the_keyboard_alone(running, chromium):
    _, run, address = running
    with opened(chromium, address) as tab:
        keyboard = tab.page.keyboard

        def go_to(wanted):
            for _ in range(40):
                if tab.page.evaluate("(it) => document.activeElement.matches(it)", wanted):
                    return
                keyboard.press("Tab")
            raise AssertionError(f"Tab does not lead to {wanted}")

        go_to("#token")
        keyboard.type("not-the-token-of-this-page")
        keyboard.press("Enter")
        tab.wait_for_text("#access-note", "not the one")
        tab.wait_until(lambda: tab.complaints, what="the browser itself notes the refusal")
        assert "403" in tab.complaints.pop()
        keyboard.press("Control+A")
        keyboard.type(TOKEN)
        keyboard.press("Enter")
        tab.wait_for_text("#access-note", "Unlocked")
        go_to("input[aria-label='Actors wanted for Pong']")
        assert tab.page.evaluate("document.activeElement.value") == "1"
        keyboard.press("ArrowUp")
        keyboard.press("Enter")
        tab.wait_for_text(".row .live", "^2 live", timeout_s=120.0)
        tab.wait_for_text("#events", "pong: 1 -> 2 actors")
    assert read_metrics(run)[-1]["game/pong/actors"] == 2


def test_it_outlives_a_redis_that_is_killed(running, chromium):
    launcher, _, address = running
    (redis,) = [pid for pid in launcher.pids if re.search(r"(redis|valkey)-server", title_of(pid))]
    with opened(chromium, address) as tab:
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
        tab.wait_for_text(".row .live", "^2 of 2 live")


def test_the_student_plays_with_weights_from_redis(running, chromium):
    _, _, address = running
    with opened(chromium, address, width=400) as tab:
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 400
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


def test_the_page_ends_with_the_run_and_says_so(running, chromium):
    launcher, run, address = running
    with opened(chromium, address) as tab:
        launcher.interrupt()
        wait_until(lambda: launcher.process.poll() is not None, timeout_s=120.0, what="the end")
        tab.wait_for_text("#notice", "Nothing is heard from the page's server")
        # The browser notes that its streams are cut and nobody answers; the page adds nothing.
        assert [text for text in tab.complaints if "net::ERR_" not in text] == []
        tab.complaints.clear()
    assert not [pid for pid in launcher.pids if "dashboard.py" in title_of(pid)]
    events = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert "pong: 1 -> 2 actors" in events
    assert any(event.startswith("checkpoint of update") for event in events)
