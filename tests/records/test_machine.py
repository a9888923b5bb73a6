"""What this process may use of its machine, and other processes as they are seen from here."""

import subprocess
import sys

import pytest

from records.machine import ControlGroups, cpu_seconds, family_of, title_of


@pytest.fixture
def groups(tmp_path):
    """Writes files of control groups and the line that says which one this process is in."""

    def write(membership, files):
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return ControlGroups(tmp_path, tmp_path / "membership")

    return write


def test_a_quota_of_the_second_version_is_in_cores(groups):
    assert groups("0::/job\n", {"job/cpu.max": "150000 100000\n"}).cpu_quota() == 1.5


def test_a_quota_of_the_first_version_is_in_cores(groups):
    files = {"cpu/job/cpu.cfs_quota_us": "400000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}
    assert groups("3:cpu,cpuacct:/job\n", files).cpu_quota() == 4.0


def test_the_narrowest_of_a_group_and_those_above_it_counts(groups):
    files = {"batch/job/cpu.max": "max 100000\n", "batch/cpu.max": "200000 100000\n"}
    assert groups("0::/batch/job\n", files).cpu_quota() == 2.0


def test_without_limits_there_is_neither_a_quota_nor_a_bound_of_memory(groups):
    found = groups(
        "4:memory:/job\n2:cpu:/job\n0::/\n",
        {
            "cpu.max": "max 100000\n",
            "memory.max": "max\n",
            "memory.current": "5\n",
            "cpu/job/cpu.cfs_quota_us": "-1\n",
            "cpu/job/cpu.cfs_period_us": "100000\n",
            "memory/job/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/job/memory.usage_in_bytes": "5\n",
        },
    )
    assert found.cpu_quota() is None
    assert found.free_memory_bytes() is None


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        (
            "0::/job\n",
            {
                "job/memory.max": "500000\n",
                "job/memory.current": "300000\n",
                "job/memory.stat": "anon 1\ninactive_file 100000\n",
            },
        ),
        (
            "4:memory:/job\n",
            {
                "memory/job/memory.limit_in_bytes": "500000\n",
                "memory/job/memory.usage_in_bytes": "300000\n",
                "memory/job/memory.stat": "inactive_file 7\ntotal_inactive_file 100000\n",
            },
        ),
    ],
    ids=["second version", "first version"],
)
def test_a_groups_free_memory_counts_its_cached_files_as_free(groups, membership, files):
    assert groups(membership, files).free_memory_bytes() == 300_000


def test_a_process_is_seen_with_its_title_its_children_and_its_processor_time():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as parent:
        # Popen returns before the kernel has put the new program's words in their place.
        while code not in title_of(parent.pid):
            pass
        while len(family := family_of(parent.pid)) < 2:
            pass
        assert family[0].pid == parent.pid
        assert cpu_seconds(family[0]) > 0
        parent.communicate(b"\n")
    assert title_of(parent.pid) == ""
    assert family_of(parent.pid) == []
    assert cpu_seconds(family[0]) == 0
