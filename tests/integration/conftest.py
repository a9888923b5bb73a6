"""Teachers and runs that the tests of whole commands share."""

import re
import shutil
from contextlib import ExitStack, contextmanager

import pytest
import torch
from runs import PAGE_TOKEN, command, read_metrics, save_random_expert, teacher_options

from engines.local.engine import LocalEngine
from engines.on_redis.server import PrivateRedis
from learner.checkpoint import save_checkpoint
from recipes.config import RunConfig
from recipes.loading import dump_config, load_config, load_preset
from recipes.recipe import Recipe
from records.run_dir import RunDir

GAMES = ("pong", "boxing")


@pytest.fixture(scope="session")
def teachers(tmp_path_factory):
    """Folder with teachers of two Atari games that have learned nothing."""
    folder = tmp_path_factory.mktemp("teachers")
    for seed, game in enumerate(GAMES):
        save_random_expert(folder, game, seed=seed)
    return folder


@pytest.fixture(scope="session")
def smoke_options(teachers):
    """The smoke preset with these teachers."""
    return ["--preset", "smoke", *teacher_options(teachers, GAMES)]


@pytest.fixture(scope="session")
def quick_options(smoke_options):
    """The same without what a run does before its training and after it."""
    return [*smoke_options, "--evaluation.check-teachers", "0", "--report-at-end", "False"]


@pytest.fixture(scope="session")
def run_at_its_start(teachers, tmp_path_factory):
    """A run with one checkpoint, at update 0."""
    config = load_config(teacher_options(teachers, GAMES), preset_text=load_preset("smoke"))
    run = RunDir.create(
        tmp_path_factory.mktemp("runs") / "begun",
        preset="smoke",
        config_text=dump_config(config),
        seed=config.seed,
        argv=[],
    )
    engine = LocalEngine(Recipe(config), device=torch.device("cpu"))
    state = {**engine.state(), "seconds": 1.0}
    engine.close()
    save_checkpoint(run.checkpoints, state, num_updates=0, keep=1)
    return run


@pytest.fixture
def begun(run_at_its_start, tmp_path):
    """A copy of it that a test may spoil."""
    path = tmp_path / "begun"
    shutil.copytree(run_at_its_start.path, path)
    return RunDir.open_existing(path)


@pytest.fixture(scope="session")
def shared_ray():
    """One Ray of eight CPUs for all engines.

    It stays until the end, so that files which use it (test_ray_*) come after those which do not.
    """
    from ray_runs import private_ray

    from engines.on_ray.ray_internals import shut_down_without_grace

    with private_ray(num_cpus=8):
        # At its end all are gone within 30 s, for which its agents alone would take a minute.
        shut_down_without_grace()
        yield


@pytest.fixture(scope="session")
def redis_url():
    """A Redis that all tests share."""
    with PrivateRedis() as server:
        yield server.url


@pytest.fixture(scope="session")
def run_that_goes_on(quick_options, tmp_path_factory):
    """A run that does not end by itself, and another one after a test that has ended it.

    (the command, its folder, the address of its page)
    """
    runs = []
    with ExitStack() as stack:

        def get():
            if not runs or runs[-1][0].process.poll() is not None:
                stack.close()
                folder = tmp_path_factory.mktemp("going")
                runs.append(stack.enter_context(_started(quick_options, folder)))
            return runs[-1]

        yield get


@contextmanager
def _started(quick_options, folder):
    token = folder / "token"
    token.write_text(PAGE_TOKEN)
    token.chmod(0o600)
    run = folder / "run"
    period_s = RunConfig(games=GAMES, num_steps=1).report_period_s
    options = [*quick_options, "--run-dir", str(run), "--num-steps", "10000000"]
    options += ["--report-period-s", str(period_s), "--dashboard.token-file", str(token)]
    with command("multitask.py", *options, cwd=folder) as running:
        running.wait_for(
            lambda: any(row.get("updates", 0) > 0 for row in read_metrics(run)),
            timeout_s=240.0,
            what="it learns",
        )
        (address,) = re.findall(
            r"live page: (http://127\.0\.0\.1:\d+/)", (running.scratch / "output").read_text()
        )
        yield running, run, address


@pytest.fixture
def running(run_that_goes_on):
    """Whatever the order in which the tests come."""
    return run_that_goes_on()
