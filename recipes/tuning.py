"""Which settings a population may change while a run learns: one table, read off the fields.

A field is tunable by its type, `Annotated[float, Gt(0), Tunable(5e-6, 5e-3)]`. The objectives read
them anew at every update, so nothing else has to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

from learner.tunable import Tunable
from recipes.config import RunConfig

# Values by names such as `learner.learning_rate`.
Settings: TypeAlias = Mapping[str, float]


@cache
def tunable_settings() -> dict[str, Tunable]:
    """All settings that can be tuned, with the bounds that they have unless others are given."""
    found = {}
    for group, kind in get_type_hints(RunConfig).items():
        if not (isinstance(kind, type) and is_dataclass(kind)):
            continue
        hints = get_type_hints(kind, include_extras=True)
        for item in fields(kind):
            if mark := _mark(hints[item.name]):
                found[f"{group}.{item.name}"] = mark
    return found


def _mark(hint: Any) -> Tunable | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((mark for mark in get_args(hint) if isinstance(mark, Tunable)), None)


def check_tunable(name: str, config: RunConfig) -> None:
    """Raises ValueError for a setting that cannot be tuned, or that this run does not use."""
    possible = [other for other in tunable_settings() if not _why_unused(other, config)]
    hint = f"this run can tune {', '.join(map(spell, possible))}"
    if name not in tunable_settings():
        raise ValueError(f"{spell(name)} cannot be tuned while a run learns; {hint}")
    if reason := _why_unused(name, config):
        raise ValueError(f"{spell(name)} cannot be tuned: {reason}; {hint}")


def _why_unused(name: str, config: RunConfig) -> str:
    """Why changes of a tunable setting would change nothing; empty if they do."""
    group = name.partition(".")[0]
    if group == "actor_critic" and config.objective != group:
        return f"objective {config.objective} does not read it"
    if group == "distillation":
        if config.objective not in ("joint", "actor_critic"):
            return f"objective {config.objective} does not read it"
        if not config.distillation.asks_teachers:
            return "no teacher is asked"
        if config.distillation.weights:
            return "distillation.weights gives games weights of their own, which it does not reach"
    if name == "mimic.feature_weight" and (
        config.objective != "mimic" or not config.mimic.feature_weight
    ):
        return "features are not regressed"
    if name == "learner.adam_epsilon" and config.learner.optimizer != "adam":
        return f"optimizer {config.learner.optimizer} does not read it"
    if name == "learner.max_gradient_norm" and not config.learner.max_gradient_norm:
        return "it is 0, which leaves gradients alone"
    return ""


def get_settings(config: RunConfig, names: tuple[str, ...]) -> dict[str, float]:
    """Values of some tunable settings."""
    return {name: float(attrgetter(name)(config)) for name in names}


def with_settings(config: RunConfig, settings: Settings) -> RunConfig:
    """The same run with other values; ValueError where they contradict the others."""
    for name, value in settings.items():
        group, _, field = name.partition(".")
        own = replace(getattr(config, group), **{field: value})
        changes: dict[str, Any] = {group: own}
        config = replace(config, **changes)
    return config


def spell(name: str) -> str:
    """A setting as it is typed, without dashes before it."""
    return name.replace("_", "-")
