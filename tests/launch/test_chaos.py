"""chaos.py: its options, what it asks before it kills, and what it prints."""

import io

import pytest

from engines.chaos.trial import Kill, Victim
from engines.on_redis.server import PrivateRedis, write_private
from launch.chaos import ChaosOptions, _confirm, _print_table, main
from records.run_dir import RunDir

LEARNER = Victim(role="redis", roles=("redis",), pid=7)


@pytest.fixture
def folder(tmp_path):
    return RunDir.create(
        tmp_path / "run", preset="smoke", config_text="{}", seed=1, argv=[], root=tmp_path
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--roles", "teacher"], "unknown role 'teacher'; choose of actor, shard"),
        (["--roles", "coordinator", "actor"], "name that role last"),
        (["--quickly"], "Unrecognized options: --quickly"),
        (["--timeout-s", "nan"], "timeout_s must be a finite number, got nan"),
        (["--timeout-s", "0"], "timeout_s must be positive, got 0.0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(folder, words, message):
    with pytest.raises(ValueError, match=r".") as refused:
        main([str(folder.path), *words])
    said = str(refused.value)
    assert message in said
    assert "\n" not in said


def confirm(yes=False):
    told = io.StringIO()
    _confirm([LEARNER], ChaosOptions(run="run", yes=yes), told)
    return told.getvalue()


def test_whoever_says_yes_is_not_asked(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert confirm(yes=True) == "kill -9, one at a time: redis (pid 7)\n"
    with pytest.raises(ValueError, match="this kills processes of the run; add --yes"):
        confirm()


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "perhaps\n"])
def test_whoever_does_not_say_yes_kills_nothing(monkeypatch, answer):
    typed = io.StringIO(answer)
    typed.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", typed)
    with pytest.raises(ValueError, match="nothing was killed"):
        confirm()


def test_the_table_says_what_a_learner_that_fell_back_has_lost(capsys):
    lost = {"chunks_lost": 1, "transitions_lost": 0, "updates_lost": 119}
    _print_table(
        [
            Kill(role="learner", killed="learner 0 (pid 5)", recovery_s=5.34, lost=lost),
            Kill(role="redis", killed="redis (pid 7)"),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [
        *("learner", "0", "(pid", "5)", "5.3", "s", "1", "chunk,", "119", "updates"),
    ]
    assert lines[3].split() == ["redis", "(pid", "7)", "not", "in", "time", "-"]


@pytest.mark.redis
def test_a_run_that_is_not_going_on_is_refused(folder, monkeypatch):
    monkeypatch.delenv("ACTOR_MIMIC_REDIS_URL", raising=False)
    with pytest.raises(ValueError, match="is not going on"):
        main([str(folder.path), "--yes"])
    with PrivateRedis() as server:
        write_private(folder.redis_url_path, server.url)
        with pytest.raises(ValueError, match="nothing has been heard of its launcher"):
            main([str(folder.path), "--yes"])
