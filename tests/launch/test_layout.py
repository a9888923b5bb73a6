"""A command in launch/ has that folder first on its path, so no file there may hide a module."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
from runs import ROOT, clean_environment

LAUNCH = ROOT / "launch"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = sorted(path.stem for path in LAUNCH.glob("*.py") if path.stem != "__init__")
COMMANDS = sorted(
    path.name for path in LAUNCH.glob("*.py") if 'if __name__ == "__main__":' in path.read_text()
)


def dependencies() -> set[str]:
    """Names that the project's dependencies are imported by."""
    wanted = {
        re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")
        for requirement in PROJECT["project"]["dependencies"]
    }
    return {
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if wanted & {owner.lower().replace("_", "-") for owner in owners}
    }


def test_no_file_in_launch_has_the_name_of_something_that_is_imported():
    packages = {package.partition(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]}
    inner = {path.name for path in LAUNCH.iterdir() if path.is_dir()}
    taken = packages | inner | dependencies() | set(sys.stdlib_module_names)
    assert taken.isdisjoint(FILES)


def test_every_folder_with_code_is_a_listed_package():
    """A package that is not listed is missing from an installed copy."""
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    tops = {package.partition(".")[0] for package in listed}
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in tops
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert found == listed


def test_no_test_folder_is_a_package():
    """It would hide the package of the same name."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_only_launch_knows_ray_and_redis_and_only_on_import_of_what_needs_them():
    """A run in one process starts without Ray; experts are trained on machines without it."""
    for command in COMMANDS:
        names = _imported_at_once(LAUNCH / command)
        assert "ray" not in {name.partition(".")[0] for name in names}, command


def _imported_at_once(path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_the_commands_are_the_ones_that_the_documents_name():
    assert {"multitask.py", "experts.py", "evaluate.py"} <= set(COMMANDS)


@pytest.fixture(scope="module")
def help_of(tmp_path_factory):
    """Says what each command answers to --help in a folder that is not the project's."""
    folder = tmp_path_factory.mktemp("elsewhere")
    running = {
        command: subprocess.Popen(
            [sys.executable, str(LAUNCH / command), "--help"],
            cwd=folder,
            env=clean_environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in COMMANDS
    }
    answers = {}
    for command, process in running.items():
        output, errors = process.communicate(timeout=300)
        answers[command] = (process.returncode, output, errors)
    yield answers
    assert not list(folder.iterdir()), "--help has left something behind"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_works_from_another_folder(help_of, command):
    status, output, errors = help_of[command]
    assert (status, errors) == (0, "")
    name = "actor-mimic" if command == "commands.py" else command
    assert f"usage: {name}" in output
    # Examples stand in a file's first lines, and above its options.
    assert "    python launch/" in output or "    actor-mimic " in output


@pytest.mark.parametrize("command", ["multitask.py", "experts.py", "commands.py", "scale.py"])
def test_help_is_shown_without_loading_what_is_slow(command, tmp_path):
    """Counted in modules and not in seconds, which belong to whatever else the machine does."""
    program = (
        "import sys, runpy\n"
        f"sys.argv = [{command!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(LAUNCH / command)!r}, run_name='__main__')\n"
        "finally:\n"
        "    slow = {'torch', 'ray', 'redis', 'gymnasium', 'ale_py', 'matplotlib', 'aiohttp'}\n"
        "    print(slow & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=clean_environment(tmp_path) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "set()\n")
