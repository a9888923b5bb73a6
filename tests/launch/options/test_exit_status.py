"""How commands end: exit statuses, and the signals that ask for an end."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from runs import ROOT

from engines.signals import ENDING_SIGNALS
from launch.options.exit_status import expand, run_command


@pytest.fixture
def own_signals(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command.py", "--seed", "3"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def complain(number, frame):
        raise AssertionError(f"nobody has taken signal {number} over")

    # Also where a shell has started the tests in the background, with SIGINT ignored.
    before = {number: signal.signal(number, complain) for number in ENDING_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def status_of(main) -> object:
    with pytest.raises(SystemExit) as left:
        run_command(main)
    return left.value.code


@pytest.mark.usefixtures("own_signals")
def test_a_users_mistake_is_one_line_and_status_2(capsys):
    def main(argv):
        raise ValueError("there is no such game")

    assert status_of(main) == 2
    assert capsys.readouterr().err == "error: there is no such game\n"


@pytest.mark.usefixtures("own_signals")
def test_ctrl_c_ends_with_130_and_says_nothing(capsys):
    def main(argv):
        raise KeyboardInterrupt

    assert status_of(main) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_every_signal_that_asks_for_an_end_is_like_ctrl_c(number):
    cleaned = []

    def main(argv):
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    assert status_of(main) == 130
    assert cleaned == [True]


@pytest.mark.usefixtures("own_signals")
def test_a_signal_that_is_ignored_on_purpose_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does.
    assert status_of(lambda argv: signal.raise_signal(signal.SIGHUP)) == 0


@pytest.mark.usefixtures("own_signals")
def test_a_second_signal_says_what_it_leaves(capsys):
    def main(argv):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)

    assert status_of(main) == 130
    assert "interrupted again" in capsys.readouterr().err


@pytest.mark.usefixtures("own_signals")
def test_a_defect_keeps_its_traceback():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(main)


@pytest.mark.usefixtures("own_signals")
def test_what_the_file_system_refuses_is_one_line_with_the_path(capsys):
    path = "a" * 300
    assert status_of(lambda argv: open(path).close()) == 2
    assert capsys.readouterr().err == f"error: {path}: File name too long\n"


@pytest.mark.usefixtures("own_signals")
def test_a_right_that_is_missing_elsewhere_than_at_a_file_is_a_defect():
    def main(argv):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with pytest.raises(PermissionError):
        run_command(main)


def test_the_home_folder_is_found_after_an_equals_sign_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand("--run-dir=~/runs/a") == "--run-dir=/home/me/runs/a"
    assert expand("pong=~/pong.safetensors") == "pong=/home/me/pong.safetensors"
    assert expand("--note=a~b") == "--note=a~b"


PRINTING = (
    "import sys\n"
    "from launch.options.exit_status import run_command\n"
    "def main(argv):\n"
    "    for _ in range(3):\n"
    "        print('x' * 100_000, file=sys.{stream}, flush=True)\n"
    "run_command(main)\n"
)


def test_output_that_does_not_fit_on_its_disk_is_said_at_the_end():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINTING.format(stream="stdout")],
            cwd=ROOT, stdout=full, stderr=-1, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    said = "error: not all of the output was written: No space left on device\n"
    assert done.stderr == said


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_ends_well_although_nobody_reads_it_any_more(stream):
    program = PRINTING.format(stream=stream)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **{stream: -1})
    getattr(process, stream).close()
    assert process.wait(60) == 0


def test_a_command_whose_standard_streams_were_closed_ends_with_its_own_status(tmp_path):
    code = """
import sys
from launch.options.exit_status import run_command
def main(argv):
    print("nobody reads this")
    with open("file", "w") as file:
        assert file.fileno() > 2
        print("nor this", file=sys.stderr)
        file.write("kept")
run_command(main)
"""
    words = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(words, cwd=tmp_path, env=environment, timeout=60).returncode == 0
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.usefixtures("own_signals")
def test_memory_that_is_refused_is_one_line(capsys):
    assert status_of(lambda argv: bytearray(1 << 62)) == 2
    assert capsys.readouterr().err.startswith("error: out of memory")


@pytest.mark.usefixtures("own_signals")
def test_a_library_that_does_not_fit_in_the_address_space_is_one_line(capsys):
    def main(argv):
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    assert status_of(main) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "ulimit -v" in said, "libtorch_cpu.so" in said) == (1, True, True)
