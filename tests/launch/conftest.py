"""What tests of commands that train on made-up games share."""

import pytest


@pytest.fixture
def small_run(tmp_path, monkeypatch):
    """Options of runs that take a moment, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return [
        *("--network.torso", "minatar", "--num-steps", "200", "--report-period-s", "0.05"),
        *("--actor.num-envs", "2", "--actor.chunk-steps", "8", "--report-at-end", "False"),
        *("--replay.batch-size", "16", "--replay.min-size-per-game", "40"),
        *("--replay.capacity-per-game", "400", "--evaluation.num-episodes", "2"),
        *("--evaluation.num-envs", "2"),
    ]
