"""Limits of a shell or a batch system: what is too low is one line, before anything starts."""

import re
import resource
import subprocess
import sys
from functools import partial

import pytest
from runs import ROOT

MULTITASK = [sys.executable, str(ROOT / "launch" / "multitask.py"), "--preset", "smoke"]
# Reads its limits, then asks for as many processes as it is told, as a user who is limited.
FOR_RAY = """
import os, sys
from engines.shell_limits import check_limits_for_ray
if os.getuid() == 0:
    os.setuid(65534)
check_limits_for_ray(int(sys.argv[1]))
"""


def limited(number, soft, hard):
    return partial(resource.setrlimit, number, (soft, hard))


def run(words, tmp_path, limit):
    return subprocess.run(
        words, cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("engine", "number", "most", "said"),
    [
        ("local", resource.RLIMIT_AS, 1 << 29, r"to 0\.5 GiB \(ulimit -v\), but PyTorch needs"),
        ("local", resource.RLIMIT_STACK, 1 << 18, r"to 256 KiB \(ulimit -s\)"),
        ("ray", resource.RLIMIT_AS, 4 << 30, r"to 4 GiB \(ulimit -v\), but Ray needs .*local"),
        ("ray", resource.RLIMIT_NOFILE, 100, r"open files to 100 \(ulimit -n\), but Ray needs"),
    ],
)  # fmt: skip
def test_a_limit_that_is_too_low_is_told_with_what_is_needed(engine, number, most, said, tmp_path):
    ended = run([*MULTITASK, "--engine", engine], tmp_path, limited(number, most, most))
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert re.search(said, ended.stderr), ended.stderr


def for_ray(limit, num_processes):
    return run([sys.executable, "-c", FOR_RAY, str(num_processes)], ROOT, limit)


def test_a_users_limit_of_processes_is_held_against_the_threads_of_all():
    limit = limited(resource.RLIMIT_NPROC, 500, 500)
    assert for_ray(limit, 10).returncode == 0
    refused = for_ray(limit, 20)
    assert "processes and threads to 500 (ulimit -u), but Ray needs 750" in refused.stderr


def test_a_limit_that_may_be_raised_is_raised():
    limit = limited(resource.RLIMIT_NOFILE, 64, 4096)
    assert for_ray(limit, 4).returncode == 0
    assert "needs 8,128" in for_ray(limit, 1000).stderr
