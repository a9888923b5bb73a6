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


def test_the_terms_of_an_actor_critic_and_its_teachers_weights_are_shown(browser, tmp_path):
    run = make_run(tmp_path / "run", num_looks=8, finish=False, with_student=False)
    terms = {"value_loss": 0.5, "entropy": 1.5, "v_trace_clipped": 0.1, "distillation_loss": 0.7}
    weights = {"distillation_weight": 0.5, "distillation_weight_2": 0.25}
    of_games = {f"game/pong/{name}": value for name, value in weights.items()}
    of_games |= {"game/boxing/distillation_weight": 0.5, "game/boxing/distillation_weight_2": 0.0}

    def change(row):
        row.pop("policy_loss", None)
        return row | terms | of_games

    notes = []
    with ExitStack() as stack, browser.new_page() as page:
        open_page(rewritten(run, change), DashboardConfig(), stack=stack, note=notes.append)
        page.goto(notes[0].removeprefix("live page: "), timeout=60_000)
        chart = page.locator(".chart", has_text="Loss")
        chart.locator(".legend", has_text="entropy").wait_for(timeout=60_000)
        legend = chart.locator(".legend").inner_text()
        rows = page.locator("#games .row:not(.labels)").all_inner_texts()
    for name in ("critic's loss", "distillation", "entropy", "V-trace cuts off"):
        assert name in legend
    assert "policy loss" not in legend
    assert "teacher's weight 0.5 and 0.25" in rows[0]
    assert "teacher's weight 0.5" in rows[1]
    assert "and 0" not in rows[1]
