"""Runs one command as a job of a Ray cluster, and stays until the job has ended.

    python -m engines.on_ray.jobs ADDRESS NAME WORD ...

ADDRESS is the cluster's dashboard, such as http://127.0.0.1:8265. The job's output is printed here,
and this program's exit status says whether it succeeded. Ctrl-C and SIGTERM stop the job as they
would stop the command: it gets three minutes to write its checkpoint. A job of the same NAME that
is still running, since an earlier waiter was killed, is joined instead of being started again.
"""

from __future__ import annotations

import secrets
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from ray.job_submission import JobStatus, JobSubmissionClient

_POLL_S = 2.0
# How Ray ends a job that is stopped: the commands write their checkpoints at SIGTERM.
_STOP = {"RAY_JOB_STOP_SIGNAL": "SIGTERM", "RAY_JOB_STOP_WAIT_TIME_S": "180"}


def connect(address: str) -> JobSubmissionClient:
    """Connect to a cluster's job server; ValueError if there is none at the address."""
    try:
        return JobSubmissionClient(address)
    # Ray raises what its transport happens to raise.
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"no Ray cluster takes jobs at {address}: {said}") from None


def run_job(
    client: JobSubmissionClient,
    name: str,
    words: Sequence[str],
    *,
    write: Callable[[str], object],
    pause: Callable[[], object] = lambda: time.sleep(_POLL_S),
) -> bool:
    """Run a command as a job to its end and pass its output on; returns whether it succeeded.

    Its program and files must be there on the cluster's head. A job of the same `name` that runs
    already is joined. A KeyboardInterrupt stops the job, waits for its end and is raised again.
    """
    job_id = _find_running(client, name) or client.submit_job(
        entrypoint=shlex.join(words),
        submission_id=f"{name}-{secrets.token_hex(4)}",
        metadata={"name": name},
        runtime_env={"env_vars": _STOP},
    )
    try:
        return _wait(client, job_id, write, pause)
    except KeyboardInterrupt:
        client.stop_job(job_id)
        _wait(client, job_id, write, pause)
        raise


def _wait(
    client: JobSubmissionClient,
    job_id: str,
    write: Callable[[str], object],
    pause: Callable[[], object],
) -> bool:
    passed_on = 0
    while True:
        # The status first: what a job printed before its end is then in the log that follows.
        status = client.get_job_status(job_id)
        log = client.get_job_logs(job_id)
        write(log[passed_on:])
        passed_on = len(log)
        if status.is_terminal():
            return status == JobStatus.SUCCEEDED
        pause()


def _find_running(client: JobSubmissionClient, name: str) -> str | None:
    for job in client.list_jobs():
        if (job.metadata or {}).get("name") == name and not job.status.is_terminal():
            return str(job.submission_id)
    return None


def main(argv: Sequence[str]) -> int:
    """Run the job that the words name; returns the exit status."""
    address, name, *words = argv
    signal.signal(signal.SIGTERM, _interrupt)

    def write(text: str) -> None:
        print(text, end="", flush=True)

    try:
        return 0 if run_job(connect(address), name, words, write=write) else 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
