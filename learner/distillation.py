"""How much distillation counts beside what is learned from rewards, as a run goes on.

A schedule is a function of the steps that all environments have played, never of updates, so that
it does not change with the batch size. The learner counts updates; `steps_of` says how many steps
stand behind them.

Shape suffixes:
    G  games
    K  teachers of the game that has most
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.objectives.config import DistillationConfig


@dataclass(frozen=True, slots=True)
class DistillationSchedule:
    """The weight lambda of one teacher's term."""

    config: DistillationConfig

    def at(self, steps: float, *, gap: float = 1.0) -> float:
        """Give lambda after so many environment steps, all games together.

            constant     weight
            linear       from weight to floor over `steps`, then floor
            exponential  weight * 2^(-steps / half-life), at least floor
            gap          weight * gap, at least floor

        Args:
            steps: not negative.
            gap: how far the student is behind this teacher, from `gap_to_teacher`; 1 as long as
                nothing is known. Only `gap` reads it.
        """
        config = self.config
        match config.schedule:
            case "constant":
                return config.weight
            case "linear":
                left = max(0.0, 1.0 - steps / config.steps)
                return config.floor + (config.weight - config.floor) * left
            case "exponential":
                return max(config.floor, config.weight * math.pow(0.5, steps / config.steps))
            case "gap":
                return max(config.floor, config.weight * gap)


def gap_to_teacher(student: float, teacher: float, *, random: float | None) -> float:
    """Share of the teacher's score that the student still lacks, from 0 to 1.

        1 - (student - random) / (teacher - random)

    (Agarwal et al. 2022, https://arxiv.org/abs/2206.01626, section 4.2, with scores measured from
    random play, without which a negative score would make no sense.) It is 0 for a student that is
    as good or better, and for a teacher that is no better than random play.

    Args:
        student: mean return of its latest episodes.
        teacher: mean return on the teacher's card, by the same rules.
        random: mean return of random play; 0 is taken where it is not known.
    """
    base = random or 0.0
    if teacher <= base:
        return 0.0
    return min(1.0, max(0.0, 1.0 - (student - base) / (teacher - base)))


def steps_of(num_updates: int, *, batch_size: int, samples_per_insert: float) -> float:
    """Environment steps behind so many updates, at the pace that replay keeps the run to."""
    return num_updates * batch_size / samples_per_insert


class TeacherWeights:
    """Lambda of every teacher of every game, as the run goes on."""

    def __init__(
        self,
        schedules: Mapping[str, Sequence[DistillationConfig]],
        *,
        steps_per_update: float,
        device: torch.device,
    ) -> None:
        """Begin the schedules.

        Args:
            schedules: of each teacher of each game, in the order of the games; none for a game
                without.
            steps_per_update: environment steps behind one update, from `steps_of`.
            device: where the weights are needed.
        """
        self._schedules = {
            game: [DistillationSchedule(config) for config in configs]
            for game, configs in schedules.items()
        }
        self._counts = {game: len(configs) for game, configs in schedules.items()}
        self._width = max((1, *self._counts.values()))
        self._gaps = {game: [1.0] * count for game, count in self._counts.items()}
        self._steps_per_update = steps_per_update
        self._device = device
        self.num_updates = 0

    @property
    def steps(self) -> float:
        """Environment steps behind the updates made so far."""
        return self.num_updates * self._steps_per_update

    @property
    def max_teachers(self) -> int:
        """K, at least 1."""
        return self._width

    def follow_gaps(self, game: str, gaps: Sequence[float]) -> None:
        """Take a game's latest gaps, one for each teacher; read by a schedule that follows them."""
        if len(gaps) != self._counts[game]:
            raise ValueError(
                f"{len(gaps)} gaps were given for the {self._counts[game]} teachers of {game}"
            )
        self._gaps[game] = list(gaps)

    def values(self) -> dict[str, list[float]]:
        """Lambda of each game's teachers now."""
        return {
            game: [
                schedule.at(self.steps, gap=gap)
                for schedule, gap in zip(schedules, self._gaps[game], strict=True)
            ]
            for game, schedules in self._schedules.items()
        }

    def tensor(self) -> Tensor:
        """float32 [G, K] on the device; 0 where a game has no such teacher."""
        rows = [row + [0.0] * (self._width - len(row)) for row in self.values().values()]
        return torch.tensor(rows, device=self._device)

    def is_there(self) -> Tensor:
        """Bool [G, K] on the device, False where a game has no such teacher."""
        numbers = torch.arange(self._width, device=self._device)
        counts = torch.tensor(list(self._counts.values()), device=self._device)
        return numbers < counts.unsqueeze(1)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, updates and gaps; on the device, where replicas exchange it."""
        gaps = [gap for row in self._gaps.values() for gap in row]
        return {
            "num_updates": torch.tensor(self.num_updates, device=self._device),
            "gaps": torch.tensor(gaps, dtype=torch.float64, device=self._device),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave; KeyError or ValueError for that of another run."""
        self.num_updates = int(state["num_updates"])
        gaps = state["gaps"].tolist()
        if len(gaps) != sum(self._counts.values()):
            raise ValueError(
                f"{len(gaps)} teachers were saved, {sum(self._counts.values())} are in the run"
            )
        for game, count in self._counts.items():
            self._gaps[game], gaps = gaps[:count], gaps[count:]
