"""A command as a job of a cluster: its output, its status, and how it is stopped and joined."""

from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from engines.on_ray.jobs import connect, run_job


class FakeClient:
    """A cluster whose jobs print a line a look and end after some looks."""

    def __init__(self, *, looks=3, end=JobStatus.SUCCEEDED):
        self.submitted = []
        self.stopped = []
        self.jobs = []
        self._looks = looks
        self._end = end
        self._log = ""

    def submit_job(self, **options):
        self.submitted.append(options)
        self.jobs.append(
            SimpleNamespace(
                submission_id=options["submission_id"],
                metadata=options["metadata"],
                status=JobStatus.RUNNING,
            )
        )
        return options["submission_id"]

    def list_jobs(self):
        return self.jobs

    def get_job_status(self, job_id):
        self._looks -= 1
        self._log += f"line {self._looks}\n"
        if job_id in self.stopped:
            return JobStatus.STOPPED
        return self._end if self._looks <= 0 else JobStatus.RUNNING

    def get_job_logs(self, job_id):
        return self._log

    def stop_job(self, job_id):
        self.stopped.append(job_id)
        return True


@pytest.mark.parametrize(
    ("end", "succeeded"), [(JobStatus.SUCCEEDED, True), (JobStatus.FAILED, False)]
)
def test_output_is_passed_on_once_and_the_end_is_the_result(end, succeeded):
    client, pieces = FakeClient(end=end), []
    words = ["python", "launch/x.py", "--run-dir", "a b"]
    assert run_job(client, "a", words, write=pieces.append, pause=lambda: None) is succeeded
    assert "".join(pieces) == "line 2\nline 1\nline 0\n"
    (options,) = client.submitted
    assert options["entrypoint"] == "python launch/x.py --run-dir 'a b'"
    assert options["runtime_env"]["env_vars"]["RAY_JOB_STOP_SIGNAL"] == "SIGTERM"


def test_a_running_job_of_the_same_name_is_joined():
    client = FakeClient()
    client.submit_job(submission_id="a-1", metadata={"name": "a"})
    client.submitted.clear()
    assert run_job(client, "a", ["x"], write=lambda text: None, pause=lambda: None)
    assert client.submitted == []
    client.jobs[0].status = JobStatus.SUCCEEDED
    run_job(client, "a", ["x"], write=lambda text: None, pause=lambda: None)
    assert len(client.submitted) == 1


def test_an_interrupt_stops_the_job_and_waits_for_its_end():
    client = FakeClient(looks=10**6)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(client, "a", ["x"], write=lambda text: None, pause=interrupt)
    assert client.stopped == [client.submitted[0]["submission_id"]]


def test_an_address_where_nobody_takes_jobs_is_one_line():
    with pytest.raises(ValueError, match=r"no Ray cluster takes jobs at http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9")
