"""Which games there are, by name, and how to build their environments."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Protocol

import numpy as np

from games.env import EnvProtocol, VectorEnv, get_protocol
from games.spec import GameSpec


class MakeVectorEnv(Protocol):
    """Builds the environments of a registered game."""

    def __call__(
        self,
        spec: GameSpec,
        *,
        num_envs: int,
        protocol: EnvProtocol,
        seed: int,
        num_threads: int,
    ) -> VectorEnv:
        """Build the environments of `spec`; make_vector_env() has checked the numbers."""
        ...


_REGISTRY: dict[str, tuple[GameSpec, MakeVectorEnv]] = {}
_FINDERS: list[Callable[[str], GameSpec | None]] = []


def register_game(spec: GameSpec, make_env: MakeVectorEnv) -> None:
    """Make `spec` known by its name, with the function that builds its environments.

    A registration lives in this process only. Other processes of a run make it themselves where
    the game is named by the path of its module (games/by_path.py).

    Args:
        spec: its name must be new; registering an equal spec again replaces `make_env`.
        make_env: called as `make_env(spec, num_envs=, protocol=, seed=, num_threads=)`.

    Raises:
        ValueError: if another game has this name, or the family has another joint action set.
    """
    known = _REGISTRY.get(spec.name)
    if known is not None and known[0] != spec:
        raise ValueError(
            f"a different game {spec.name!r} is already registered (family {known[0].family!r}); "
            "choose another name"
        )
    for other, _ in _REGISTRY.values():
        if other.family == spec.family and other.num_actions != spec.num_actions:
            raise ValueError(
                f"game {spec.name!r} has {spec.num_actions} joint actions, but family "
                f"{spec.family!r} has {other.num_actions} (from {other.name!r}); give every game "
                "of a family the same joint action set"
            )
    _REGISTRY[spec.name] = (spec, make_env)


def register_finder(find: Callable[[str], GameSpec | None]) -> None:
    """Make games known that are too many to list.

    `find` registers the game of a name and returns its spec, or returns None; the game's own name
    may be another one than it was asked for by.
    """
    _FINDERS.append(find)


def get_game(name: str) -> GameSpec:
    """The spec registered under `name`; ValueError with the nearest known names without one."""
    # Games may come from JSON, or from a program that no type checker has seen.
    if not isinstance(name, str):
        raise ValueError(f"the name of a game is a string, not {name!r}")
    if name in _REGISTRY:
        return _REGISTRY[name][0]
    for find in _FINDERS:
        if (spec := find(name)) is not None:
            return spec
    close = difflib.get_close_matches(snake_case(name), _REGISTRY, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else _families_hint()
    raise ValueError(f"unknown game {name!r}; {hint}")


def snake_case(name: str) -> str:
    """The name without what other libraries add: `ALE/SpaceInvaders-v5` is space_invaders."""
    bare = re.sub(r"^ALE/|-v\d+$", "", name)
    bare = re.sub(r"(-ram|NoFrameskip|Deterministic)+$", "", bare)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", bare).lower()


def known_games(family: str | None = None) -> tuple[str, ...]:
    """Names of all registered games, or of one family, in alphabetical order."""
    names = sorted(n for n, (s, _) in _REGISTRY.items() if family is None or s.family == family)
    if family is not None and not names:
        raise ValueError(f"unknown game family {family!r}; {_families_hint()}")
    return tuple(names)


def make_vector_env(
    spec: GameSpec,
    *,
    num_envs: int,
    protocol: EnvProtocol | str,
    seed: int,
    num_threads: int = 1,
) -> VectorEnv:
    """Build N environments of one game.

    Args:
        spec: a registered game.
        num_envs: N.
        protocol: an EnvProtocol or the name of one in PROTOCOLS.
        seed: any non-negative integer. The same seed plays the same; different seeds, and the
            environments of one vector, have unrelated random streams.
        num_threads: threads that step the emulators; families in Python use one, whatever is said.

    Raises:
        ValueError: for a game that is not registered in this process, an unknown protocol, or a
            number out of range.
    """
    if isinstance(protocol, str):
        protocol = get_protocol(protocol)
    if num_envs < 1 or num_threads < 1:
        raise ValueError(
            f"num_envs and num_threads must be at least 1, not {num_envs} and {num_threads}"
        )
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    get_game(spec.name)
    _, make_env = _REGISTRY[spec.name]
    # int(): the emulator refuses NumPy integers.
    return make_env(
        spec,
        num_envs=int(num_envs),
        protocol=protocol,
        seed=int(seed),
        num_threads=int(num_threads),
    )


def try_game(spec: GameSpec, protocol: EnvProtocol | str) -> None:
    """Build one environment, and play the first legal action in it.

    Raises:
        ValueError: its engine is missing, or spec and environment disagree.
    """
    env = make_vector_env(spec, num_envs=1, protocol=protocol, seed=0)
    try:
        env.reset()
        env.step(np.array([spec.legal_actions[0]]))
    finally:
        env.close()


def _families_hint() -> str:
    families = sorted({spec.family for spec, _ in _REGISTRY.values()})
    return (
        f"known families are {', '.join(families)} (actor-mimic games lists the games); a game of "
        "your own is named by its path, my_package.my_module:spec, in --games or ACTOR_MIMIC_GAMES"
    )
