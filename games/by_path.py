"""Games of other packages: by the path of their module, by an entry point, by a Gymnasium id.

    my_package.my_module:spec    a GameSpec that its module registers when it is imported
    NAME                         of an entry point in the group actor_mimic.games, whose value is
                                 such a path; installed packages make their games known by these
    gym:ID, gym:MODULE:ID        an environment of Gymnasium (games/gym_ids.py)

Paths in the environment variable ACTOR_MIMIC_GAMES make games known by their names, too: to
commands that are given a student or an expert by itself, which does not say where its games come
from.

Whoever gets a run's configuration imports its games by these paths, so that a game is known in
every process on every node that has the module.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from games.gym_ids import PREFIX, register_gym_id
from games.registry import get_game, register_finder
from games.spec import GameSpec

GROUP = "actor_mimic.games"
VARIABLE = "ACTOR_MIMIC_GAMES"


def is_path(text: str) -> bool:
    """Whether a game is named by where it comes from, which its own name does not say."""
    return ":" in text


def installed_games() -> tuple[str, ...]:
    """Names of the games that installed packages make known."""
    return tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


def source_folders(paths: Iterable[str]) -> tuple[str, ...]:
    """Folders in which the modules of imported games were found, for other processes to look in."""
    folders: dict[str, None] = {}
    for path in paths:
        module = sys.modules.get(_split(path)[0])
        file = getattr(module, "__file__", None)
        if module is not None and file is not None:
            is_package = Path(file).name == "__init__.py"
            depth = module.__name__.count(".") + is_package
            folders[str(Path(file).absolute().parents[depth])] = None
    return tuple(folders)


def search_in(folders: Iterable[str]) -> None:
    """Import modules from these folders, too, where no others of the same name are found."""
    sys.path += [folder for folder in folders if folder not in sys.path]


def find_by_path(text: str) -> GameSpec | None:
    """Import and register what `text` names by a path, or is found by; None for neither.

    Raises:
        ValueError: it cannot be imported, or is no game that its module registers.
    """
    if text.startswith(PREFIX):
        module, separator, id_and_options = text.removeprefix(PREFIX).rpartition(":")
        if separator:
            _import(module, text)
        return register_gym_id(text, id_and_options)
    if is_path(text):
        return _find_in_module(text)
    for entry in entry_points(group=GROUP, name=text):
        spec = _find_in_module(entry.value)
        if spec.name != text:
            raise ValueError(
                f"the entry point {text!r} of {GROUP} leads to the game {spec.name!r}; both need "
                "the same name"
            )
        return spec
    named = map(get_game, os.environ.get(VARIABLE, "").split())
    return next((spec for spec in named if spec.name == text), None)


def _find_in_module(path: str) -> GameSpec:
    module_name, attribute = _split(path)
    spec = getattr(_import(module_name, path), attribute, None)
    if not isinstance(spec, GameSpec):
        raise ValueError(
            f"the game {path!r} is no GameSpec but {type(spec).__name__}; name it like "
            "my_package.my_module:spec"
        )
    try:
        registered = get_game(spec.name)
    except ValueError:
        registered = None
    if registered != spec:
        raise ValueError(
            f"the game {path!r} is not registered when its module is imported; call "
            f"register_gym_game({attribute}, ...) there"
        )
    return spec


def _split(path: str) -> tuple[str, str]:
    """Module and what is in it; the module of a Gymnasium id, if it has one."""
    module, _, attribute = path.removeprefix(PREFIX).rpartition(":")
    return module, attribute


def _import(module: str, path: str) -> object:
    # Last, so that nothing in the folder is taken for a module that is meant to be elsewhere.
    search_in([os.getcwd()])
    try:
        return importlib.import_module(module)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"the game {path!r} cannot be imported: {reason} ({type(error).__name__}); its module "
            "must lie in the folder that the command is started from, or on PYTHONPATH, or be "
            "installed"
        ) from None


register_finder(find_by_path)
