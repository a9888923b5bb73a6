"""Plays a teacher and sets what was measured beside its card; teachers/verify.py has the rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from actors.evaluator import evaluate
from games.env import RUN_PROTOCOLS, EnvProtocol, get_protocol
from games.registry import make_vector_env
from teachers.card import ScoreRecord, TeacherCard, dump_card
from teachers.expert import Expert
from teachers.hub import is_hub_reference
from teachers.references import load_teacher
from teachers.shipped import shipped_experts
from teachers.verify import Comparison, compare, measure
from views.words import for_reader, number, spread

_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a verification under one protocol."""

    measured: ScoreRecord
    # Score on the card that it is compared with.
    card: ScoreRecord | None
    # Whether actions were drawn from the policy, as its library does.
    drawn: bool
    comparison: Comparison


def verify(
    reference: str,
    *,
    protocols: Sequence[str],
    episodes: int,
    epsilon: float | None,
    num_envs: int,
    seed: int,
    threads: int,
    write: bool,
    as_json: bool,
) -> int:
    """Play, print, and maybe write; returns the exit status, 1 for an alarming outcome.

    Args:
        reference: of the teacher.
        protocols: names; empty for the teacher's own and the one that runs use by default.
        episodes: by each protocol.
        epsilon: None takes the card's, else the protocol's.
        num_envs: episodes at the same time.
        seed: of environments and actions.
        threads: of the emulators.
        write: add the measurements to the card.
        as_json: one JSON object instead of a table.
    """
    teacher = load_teacher(reference)
    card_file = _card_to_write(reference) if write else None
    outcomes = []
    for name in protocols or _default_protocols(teacher.card):
        outcome = _play(
            teacher,
            get_protocol(name),
            episodes=episodes,
            epsilon=epsilon,
            num_envs=num_envs,
            seed=seed,
            threads=threads,
        )
        outcomes.append(outcome)
    if card_file is not None:
        _write_card(with_scores(teacher.card, [o.measured for o in outcomes]), card_file)
    alarms = [outcome for outcome in outcomes if outcome.comparison.is_alarming]
    if as_json:
        print(json.dumps(_as_json(reference, teacher, outcomes)))
    else:
        _print(reference, teacher, outcomes)
        if card_file is not None:
            print(f"written to {card_file}")
    return 1 if alarms else 0


def _write_card(card: TeacherCard, path: Path) -> None:
    try:
        dump_card(card, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None


def with_scores(card: TeacherCard, measured: Sequence[ScoreRecord]) -> TeacherCard:
    """The card with these scores; one under the same conditions is replaced in its place."""
    scores = list(card.scores)
    for record in measured:
        same = [i for i, old in enumerate(scores) if _conditions(old) == _conditions(record)]
        if same:
            scores[same[0]] = record
        else:
            scores.append(record)
    return replace(card, scores=tuple(scores))


def _conditions(record: ScoreRecord) -> tuple[str, float, str]:
    return record.protocol, record.epsilon, record.precision


def _default_protocols(card: TeacherCard) -> tuple[str, ...]:
    return tuple(dict.fromkeys((card.protocol, RUN_PROTOCOLS[0])))


def _card_to_write(reference: str) -> Path:
    """Refused before anything is played."""
    if reference in shipped_experts() or is_hub_reference(reference):
        raise ValueError(
            "shipped cards and those on the Hub are not changed; --write needs the path of a "
            f"GAME.safetensors file, not {reference!r}"
        )
    return Path(reference).with_suffix(".json")


def _play(
    teacher: Expert,
    protocol: EnvProtocol,
    *,
    episodes: int,
    epsilon: float | None,
    num_envs: int,
    seed: int,
    threads: int,
) -> Outcome:
    card = teacher.card
    claim = card.find_score(protocol=protocol.name)
    drawn = epsilon is None and draws_actions(card, protocol)
    network: nn.Module = DrawnPolicy(teacher, seed=seed) if drawn else teacher
    if epsilon is None:
        epsilon = claim.epsilon if claim else (0.0 if drawn else protocol.evaluation_epsilon)
    env = make_vector_env(
        teacher.spec,
        num_envs=min(num_envs, episodes),
        protocol=protocol,
        seed=seed,
        num_threads=threads,
    )
    try:
        result = evaluate(network, env, num_episodes=episodes, epsilon=epsilon, seed=seed)
    finally:
        env.close()
    found = measure(result.returns)
    record = ScoreRecord(
        mean=round(found.mean, 3),
        std=round(found.std, 3),
        max=float(np.max(result.returns)),
        episodes=found.episodes,
        protocol=protocol.name,
        epsilon=epsilon,
        precision=card.weights_precision,
    )
    compared_with = claim or card.score
    return Outcome(
        measured=record,
        card=compared_with,
        drawn=drawn,
        comparison=compare(record, compared_with, teacher.spec),
    )


def draws_actions(card: TeacherCard, protocol: EnvProtocol) -> bool:
    """Whether a policy's actions are drawn, as its own library does when it measures."""
    return card.architecture.head == "policy" and protocol.name == card.protocol


class DrawnPolicy(nn.Module):
    """Scores whose maximum is a draw from the policy: the logits plus Gumbel noise.

    Maddison et al. 2014, https://arxiv.org/abs/1411.0030, section 2.
    """

    def __init__(self, policy: nn.Module, *, seed: int) -> None:
        """Draw from softmax(policy(observations))."""
        super().__init__()
        self._policy = policy
        self._random = torch.Generator().manual_seed(seed)

    def forward(self, observations_BCHW: Tensor) -> Tensor:
        """Perturbed logits_BA."""
        logits_BA: Tensor = self._policy(observations_BCHW)
        noise_BA = torch.empty_like(logits_BA).exponential_(generator=self._random)
        return logits_BA - noise_BA.log()


def _print(reference: str, teacher: Expert, outcomes: Sequence[Outcome]) -> None:
    spec = teacher.spec
    print(
        f"{reference}: {teacher.card.algorithm} for {spec.name}; random "
        f"{number(spec.random_score, 1)}, human {number(spec.human_score, 1)}"
    )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("protocol", no_wrap=True)
    for heading in (
        "actions",
        "measured",
        "card",
        "errors\nbelow",
        "normal-\nized",
        "human-\nnorm.",
    ):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        measured, card, found = outcome.measured, outcome.card, outcome.comparison
        table.add_row(
            measured.protocol,
            "drawn" if outcome.drawn else f"eps {measured.epsilon:g}",
            _scores(measured),
            _scores(card, beside=measured.protocol) if card else "-",
            number(found.errors_below, 1),
            number(found.normalized, 2),
            number(found.human_normalized, 2),
        )
    Console(width=_WIDTH, highlight=False).print(table)
    print(verdict(outcomes))


def _scores(record: ScoreRecord, *, beside: str = "") -> str:
    text = f"{spread(record.mean, record.std)} ({record.episodes})"
    text = for_reader(text, sys.stdout)
    return f"{text}\nby {record.protocol}" if beside not in ("", record.protocol) else text


def verdict(outcomes: Sequence[Outcome]) -> str:
    """One line about all protocols together."""
    parts = [f"{o.comparison.finding} under {o.measured.protocol}" for o in outcomes]
    bad = any(outcome.comparison.is_alarming for outcome in outcomes)
    return f"{'FAILED' if bad else 'passed'}: {', '.join(parts)}"


def _as_json(reference: str, teacher: Expert, outcomes: Sequence[Outcome]) -> dict[str, object]:
    return {
        "teacher": reference,
        "game": teacher.spec.name,
        "passed": not any(outcome.comparison.is_alarming for outcome in outcomes),
        "protocols": {
            outcome.measured.protocol: {
                "measured": asdict(outcome.measured),
                "card": asdict(outcome.card) if outcome.card else None,
                "drawn": outcome.drawn,
                **{
                    name: value if not isinstance(value, float) or np.isfinite(value) else None
                    for name, value in asdict(outcome.comparison).items()
                },
            }
            for outcome in outcomes
        },
    }
