"""The curves of the live page, drawn by a real browser."""

import json
import os
import time
from contextlib import ExitStack

import pytest
from recorded_runs import make_run

from recipes.config import DashboardConfig
from views.live.process import open_page

pytestmark = [
    pytest.mark.browser,
    # Playwright's driver ends after the loop that it was started on.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        yield browser
        browser.close()


def rewritten(run, change):
    """The run with other figures, stopped a while ago."""
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    run.metrics_path.write_text("".join(json.dumps(change(row)) + "\n" for row in rows))
    an_hour_ago = time.time() - 3600
    os.utime(run.metrics_path, (an_hour_ago, an_hour_ago))
    return run


def ticks(browser, run, heading):
    """What stands at the vertical axis of a chart, from the bottom."""
    notes = []
    # In a process of its own: Playwright has this thread's event loop.
    with ExitStack() as stack, browser.new_page() as page:
        open_page(run, DashboardConfig(), stack=stack, note=notes.append)
        page.goto(notes[0].removeprefix("live page: "), timeout=60_000)
        chart = page.locator(".chart", has_text=heading)
        chart.locator("polyline").first.wait_for(state="attached", timeout=60_000)
        return chart.locator("svg text[text-anchor=end][x]").all_text_contents()


def test_one_test_far_below_random_play_does_not_stretch_the_axis(browser, tmp_path):
    run = make_run(tmp_path / "run", num_looks=8, finish=False, with_student=False)
    first = iter([True])

    def change(row):
        return (
            row | {"test/pong/mean": -60.0} if "test/pong/mean" in row and next(first, 0) else row
        )

    shown = ticks(browser, rewritten(run, change), "From random play to the goal")
    percents = [int(text.rstrip("%").replace("\u2212", "-")) for text in shown if "%" in text]
    assert min(percents) >= -50
    assert max(percents) <= 100


def test_the_ticks_of_a_nearly_flat_curve_differ(browser, tmp_path):
    run = make_run(tmp_path / "run", num_looks=8, finish=False, with_student=False)

    def change(row):
        return row | {"policy_loss": 1.94 + 0.0005 * (row["seconds"] % 7)}

    shown = [text for text in ticks(browser, rewritten(run, change), "Loss") if ":" not in text]
    assert len(shown) >= 2
    assert len(set(shown)) == len(shown)
