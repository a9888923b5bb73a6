"""Tries on every node of a cluster whether the games of a run can be imported there."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engines.on_ray.calls import cause_of, in_one_line, is_loss
from engines.on_ray.cluster import remote_games
from recipes.recipe import Recipe

_ray: Any = ray  # Some of its functions have no types.

# Until a worker has started on every node; one that is busy shows itself later.
_PATIENCE_S = 120.0


def check_games(recipe: Recipe) -> None:
    """Raise ValueError for a game that a node cannot import; the package's own are everywhere."""
    if not recipe.config.game_sources:
        return
    answers = {}
    for node in (node for node in _ray.nodes() if node["Alive"]):
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answer = remote_games.options(scheduling_strategy=where).remote(recipe)
        answers[answer] = node["NodeManagerHostname"]
    ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=_PATIENCE_S)
    for answer in ready:
        try:
            ray.get(answer, timeout=0)
        except RayError as error:
            if is_loss(error):
                continue
            # Ray adds where it happened, as text.
            said = in_one_line(cause_of(error)).removeprefix("System error: ")
            reason = said.partition(" traceback: ")[0]
            raise ValueError(f"on the node {answers[answer]}: {reason}") from None
