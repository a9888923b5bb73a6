"""The page beside a run: it ends with its launcher, however that ends, and never holds it up."""

import os
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack

import pytest
from recorded_runs import make_run
from runs import clean_environment, wait_until

from launch.dashboard import main
from recipes.config import DashboardConfig
from views.live.process import LOOPBACK, address_of, listen, open_page

LAUNCHER = """
import sys, time
from contextlib import ExitStack
from recipes.config import DashboardConfig
from launch.dashboard import main
from views.live.process import open_page
from records.run_dir import RunDir
with ExitStack() as stack:
    open_page(RunDir.open_existing(sys.argv[1]), DashboardConfig(), stack=stack,
              note=lambda text: print(text, flush=True))
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "shown", num_looks=4, with_student=False)


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=30.0) as response:
            return b"Actor-Mimic" in response.read()
    except OSError:
        return False


def test_the_page_is_there_until_the_stack_is_closed(run):
    notes = []
    with ExitStack() as stack:
        open_page(run, DashboardConfig(), stack=stack, note=notes.append)
        (note,) = notes
        address = note.removeprefix("live page: ")
        assert address.startswith(f"http://{LOOPBACK}:")
        assert answers(address)
    assert not answers(address)


def test_a_port_that_is_taken_is_told_and_the_run_goes_on(run):
    notes = []
    with listen(LOOPBACK, 0) as taken, ExitStack() as stack:
        port = taken.getsockname()[1]
        open_page(run, DashboardConfig(port=port), stack=stack, note=notes.append)
    (note,) = notes
    assert note.startswith(f"there is no live page: cannot serve the page at {LOOPBACK}")
    assert str(port) in note


def test_a_token_that_cannot_be_used_is_told_and_there_is_no_page(run, tmp_path):
    notes = []
    with ExitStack() as stack:
        config = DashboardConfig(token_file=str(tmp_path / "none"))
        open_page(run, config, stack=stack, note=notes.append)
    (note,) = notes
    assert note.startswith("there is no live page: cannot read the token")


@pytest.mark.slow
def test_a_launcher_that_is_killed_takes_the_page_along(run, tmp_path):
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(run.path)],
        env=clean_environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        address = launcher.stdout.readline().strip().removeprefix("live page: ")
        assert answers(address)
        launcher.kill()
    wait_until(lambda: not answers(address), timeout_s=30.0, what="the page has ended")


def test_an_address_is_what_a_browser_takes():
    with listen(LOOPBACK, 0) as server:
        assert address_of(server) == f"http://127.0.0.1:{server.getsockname()[1]}/"
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
        with listen("::1", 0) as server:
            assert address_of(server) == f"http://[::1]:{server.getsockname()[1]}/"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no run in nowhere"),
        (["RUN", "--port", "99999"], "cannot serve the page"),
        (["RUN", "--host", "192.0.2.1"], "cannot serve the page at 192.0.2.1"),
        (["RUN", "--token-file", "nowhere"], "cannot read the token"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_served(run, words, message):
    words = [str(run.path) if word == "RUN" else word for word in words]
    with pytest.raises(ValueError, match=message):
        main(words)
