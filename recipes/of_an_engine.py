"""Options that ask for more processes than an engine has."""

from __future__ import annotations

from actors.config import ActorConfig
from learner.config import LearnerConfig


def check_engine_options(engine: str, *, learner: LearnerConfig, actor: ActorConfig) -> None:
    """Raises ValueError for what the local engine, which is one process, cannot do."""
    if engine != "local":
        return
    if learner.num_replicas > 1:
        raise ValueError(
            f"learner.num_replicas is {learner.num_replicas}, but the local engine has one "
            "process; use --engine ray, or --learner.num-replicas 1"
        )
    if actor.inference == "server":
        raise ValueError(
            "actor.inference is server, but the local engine has one process; use --engine ray, "
            "or --actor.inference actor"
        )
