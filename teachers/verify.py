"""Does a teacher play as well as its card says? The rule, as arithmetic on two measurements.

A teacher that was read wrongly (channels in another order, pixels scaled twice, actions shifted)
loads without an error and plays at random; one that is played by rules it never saw may be far
weaker than its card. Both spoil a student silently. How many episodes are played, and by which
protocol, is left to the caller.

The rule, with m and c the measured and the card's mean, n and k their numbers of episodes, s the
larger of both standard deviations and r the score of random play:

    standard errors below   z = (c - m) / (s * sqrt(1/n + 1/k))
    normalized              (m - r) / (c - r), 0 at random play and 1 at the card

"far below" is z >= 3 and normalized < 0.75: surely lower, and so much lower that it matters.
"near random" is normalized + 2 standard errors of m < 0.1; without a card's score above random
play, the human score stands for c. The larger of the two deviations is taken because that of a few
episodes is often too small by luck, and an alarm must mean something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from games.spec import GameSpec, normalized_score
from teachers.card import ScoreRecord

FAR_BELOW_ERRORS = 3.0
FAR_BELOW_NORMALIZED = 0.75
NEAR_RANDOM_NORMALIZED = 0.1

# What a comparison comes to; "plays" where the card has no score to compare with.
Finding: TypeAlias = Literal["as its card says", "plays", "far below its card", "near random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Scores of the episodes that were played just now."""

    mean: float
    # Standard deviation over episodes, not the error of their mean.
    std: float
    episodes: int


def measure(returns: Sequence[float]) -> Measured:
    """Mean and (population) standard deviation of the episodes' raw scores; at least one."""
    mean = math.fsum(returns) / len(returns)
    variance = math.fsum((value - mean) ** 2 for value in returns) / len(returns)
    return Measured(mean=mean, std=math.sqrt(variance), episodes=len(returns))


# Raw scores of whole episodes.
Figures: TypeAlias = ScoreRecord | Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measurement beside the card's."""

    finding: Finding
    # z; negative above the card, infinite where nothing varies. None without a card's score.
    errors_below: float | None
    # 0 at random play, 1 at the card; None where either is unknown.
    normalized: float | None
    human_normalized: float | None

    @property
    def is_alarming(self) -> bool:
        """Whether nobody should learn from this teacher as it was played."""
        return self.finding in ("far below its card", "near random")


def compare(measured: Figures, card: Figures | None, spec: GameSpec) -> Comparison:
    """Apply the rule of this module."""
    errors = _errors_below(measured, card) if card else None
    normalized = normalized_score(measured.mean, spec.random_score, card.mean) if card else None
    finding: Finding = "as its card says" if card else "plays"
    if _is_far_below(errors, normalized):
        finding = "far below its card"
    if _is_near_random(measured, card, spec):
        finding = "near random"
    return Comparison(
        finding=finding,
        errors_below=errors,
        normalized=normalized,
        human_normalized=normalized_score(measured.mean, spec.random_score, spec.human_score),
    )


def describe_alarm(game: str, measured: Figures, card: Figures | None, finding: Finding) -> str:
    """An alarming comparison in one line, for people."""
    text = (
        f"the teacher of {game} is {finding}: measured {measured.mean:.1f} +- {measured.std:.1f} "
        f"over {measured.episodes} episodes"
    )
    if card:
        text += f", its card says {card.mean:.1f} +- {card.std:.1f} over {card.episodes}"
    return text


def _errors_below(measured: Figures, card: Figures) -> float:
    spread = max(measured.std, card.std)
    error = spread * math.sqrt(1 / measured.episodes + 1 / card.episodes)
    deficit = card.mean - measured.mean
    if error == 0.0:
        return math.copysign(math.inf, deficit) if deficit else 0.0
    return deficit / error


def _is_far_below(errors: float | None, normalized: float | None) -> bool:
    if errors is None or errors < FAR_BELOW_ERRORS:
        return False
    # Without a random score nothing says how much it matters; a card at or below random play is
    # turned upside down by the normalization.
    return normalized is None or normalized < FAR_BELOW_NORMALIZED


def _is_near_random(measured: Figures, card: Figures | None, spec: GameSpec) -> bool:
    if spec.random_score is None:
        return False
    reference = spec.human_score
    if card and card.mean > spec.random_score:
        reference = card.mean
    spread = max(measured.std, card.std) if card else measured.std
    optimistic = measured.mean + 2 * spread / math.sqrt(measured.episodes)
    normalized = normalized_score(optimistic, spec.random_score, reference)
    return normalized is not None and normalized < NEAR_RANDOM_NORMALIZED
