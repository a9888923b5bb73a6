"""Members of a population in processes of their own: killed, gone on with, refused for room."""

import json
import os
import signal
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient
from ray_clusters import cluster_with_jobs
from runs import command, kill, read_summary, wait_until

from records.population import PopulationFiles
from records.summary import Summary

WORDS = [
    *("--preset", "smoke", "--objective", "joint", "--members", "2", "--games", "pong"),
    *("--num-steps", "3000", "--evaluation.check-teachers", "0", "--report-at-end", "False"),
    *("--checkpoint.period-s", "3"),
]
LOCAL = [*WORDS, "--engine", "local", "--num-steps", "1500", "--slice-steps", "500"]


def incarnations(run):
    return {n: record.incarnations for n, record in PopulationFiles(run).read_records().items()}


def comparisons(run):
    return sum(len(record.boundaries) for record in PopulationFiles(run).read_records().values())


def goes_on_from(before, after):
    return all(after[n][: len(had)] == had for n, had in before.items())


def has_compared(run, number):
    """Whether a member has been through a comparison, and so has a checkpoint."""
    record = PopulationFiles(run).read_record(number)
    return record is not None and len(record.boundaries) > 0


def member_pids(run):
    """Processes by the member that they carry."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if "--only-member" in words and str(run) in words:
            found[int(words[words.index("--only-member") + 1])] = int(name)
    return found


@pytest.mark.slow
def test_the_launcher_of_members_in_turns_is_killed_and_the_lineage_goes_on(tmp_path):
    run = tmp_path / "run"
    with command("population.py", *LOCAL, "--run-dir", run, cwd=tmp_path) as running:
        running.wait_for(lambda: comparisons(run) >= 3, timeout_s=400, what="three comparisons")
        kill(running.process.pid)
        running.process.wait(30)
    before = incarnations(run)
    with command("population.py", "--resume", run, cwd=tmp_path) as running:
        ended = running.wait(400)
    assert ended.status == 0, ended.errors
    assert goes_on_from(before, incarnations(run))
    Summary.model_validate(read_summary(run))
    for number in range(2):
        updates = [b.updates for b in PopulationFiles(run).read_record(number).boundaries]
        assert updates == sorted(set(updates))


@pytest.mark.slow
def test_a_killed_member_goes_on_and_a_new_launcher_waits_for_those_that_are_left(tmp_path):
    run = tmp_path / "run"
    words = [*LOCAL, "--side-by-side", "True"]
    with command("population.py", *words, "--run-dir", run, cwd=tmp_path) as running:
        running.wait_for(lambda: has_compared(run, 0), timeout_s=400, what="a comparison")
        killed = member_pids(run)[0]
        kill(killed)
        running.wait_for(
            lambda: member_pids(run).get(0) not in (None, killed),
            timeout_s=60,
            what="a new process for the killed member",
        )
        before = incarnations(run)
        left = member_pids(run)
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait(30)
        assert member_pids(run) == left
        with command("population.py", "--resume", run, cwd=tmp_path) as again:
            ended = again.wait(500)
    assert ended.status == 0, ended.errors
    assert "died" not in ended.output
    assert goes_on_from(before, incarnations(run))
    outcome = PopulationFiles(run).read_summary()
    assert not any(ending.lost for ending in outcome.members.values())
    assert Summary.model_validate(read_summary(run)).steps["pong"] >= 1500


@pytest.mark.slow
def test_an_interrupted_launcher_interrupts_its_members_which_keep_checkpoints(tmp_path):
    run = tmp_path / "run"
    words = [*LOCAL, "--side-by-side", "True"]
    with command("population.py", *words, "--run-dir", run, cwd=tmp_path) as running:
        running.wait_for(
            lambda: has_compared(run, 0) and has_compared(run, 1),
            timeout_s=400,
            what="a comparison of each",
        )
        running.interrupt()
        ended = running.wait(120)
        assert ended.status == 130
        wait_until(lambda: not member_pids(run), timeout_s=30, what="the end of all members")
    assert not (run / "summary.json").exists()
    for number in range(2):
        summary = json.loads((run / "members" / str(number) / "summary.json").read_text())
        assert summary["updates"] > 0


@pytest.mark.ray
@pytest.mark.slow
def test_members_on_ray_learn_from_each_other_while_they_run(tmp_path):
    run = tmp_path / "run"
    words = [*WORDS, "--engine", "ray", "--slice-steps", "500", "--num-steps", "10000"]
    words += ["--explore.probability", "1", "--exploit.margin", "0"]
    with command("population.py", *words, "--run-dir", run, cwd=tmp_path) as running:
        ended = running.wait(580)
        logs = "\n".join((run / "members" / f"{n}.log").read_text() for n in range(2))
        assert ended.status == 0, ended.errors + logs
    Summary.model_validate(read_summary(run))
    records = PopulationFiles(run).read_records()
    changes = 0
    for record in records.values():
        # Training does not wait for a test, so the last one may come when the run has ended.
        undecided = len(record.boundaries) - (len(record.incarnations) - 1)
        assert undecided in (0, 1), logs
        changes += len(record.incarnations) - 1
        rate = record.incarnations[-1].settings["learner.learning_rate"]
        config = (run / "members" / str(record.member) / "config.yaml").read_text()
        assert f"learning_rate: {rate}" in config
    assert changes > 0, logs


@pytest.mark.ray
@pytest.mark.slow
def test_members_that_are_jobs_of_a_cluster_outlive_the_launcher_and_the_next_one_joins_them(
    tmp_path,
):
    run = tmp_path / "run"
    with cluster_with_jobs(num_cpus=4) as address:
        words = [*LOCAL, "--address", address, "--run-dir", run]
        with command("population.py", *words, cwd=tmp_path) as running:
            running.wait_for(lambda: has_compared(run, 0), timeout_s=400, what="a comparison")
            kill(running.process.pid)
            running.process.wait(30)
        with command("population.py", "--resume", run, cwd=tmp_path) as again:
            ended = again.wait(500)
        assert ended.status == 0, ended.errors
        jobs = JobSubmissionClient(address).list_jobs()
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 2
    assert {job.entrypoint[-1] for job in jobs} == {"0", "1"}
    assert set(PopulationFiles(run).read_summary().members) == {"0", "1"}
    assert Summary.model_validate(read_summary(run)).steps["pong"] >= 1500
