"""Plays a teacher and sets what was measured beside its card; teachers/verify.py has the rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
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
from views.columns import table_lines
from views.teachers.options import VerifyOptions
from views.words import for_reader, number, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a verification under one protocol."""

    measured: ScoreRecord
    # Score on the card that it is compared with.
    card: ScoreRecord | None
    # Whether actions were drawn from the policy, as its library does.
    drawn: bool
    comparison: Comparison


def verify(options: VerifyOptions) -> int:
    """Play, print, and maybe write; returns the exit status, 1 for an alarming outcome."""
    torch.set_num_threads(options.threads)
    protocols = [get_protocol(options.protocol)] if options.protocol else []
    teacher = load_teacher(options.teacher)
    card = teacher.card
    card_file = _card_to_write(options.teacher) if options.write else None
    # The teacher's own protocol, and the one that runs use by default.
    names = dict.fromkeys((card.protocol, RUN_PROTOCOLS[0]))
    outcomes = [
        _play(teacher, protocol, options) for protocol in protocols or map(get_protocol, names)
    ]
    if card_file is not None:
        try:
            dump_card(with_scores(card, [outcome.measured for outcome in outcomes]), card_file)
        except OSError as error:
            raise ValueError(f"cannot write {card_file}: {error.strerror}") from None
    if options.json:
        print(json.dumps(_as_json(options.teacher, teacher, outcomes)))
    else:
        _print(options.teacher, teacher, outcomes)
        if card_file is not None:
            print(f"written to {card_file}")
    return int(_is_alarming(outcomes))


def _is_alarming(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.comparison.is_alarming for outcome in outcomes)


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


def _card_to_write(reference: str) -> Path:
    """Refused before anything is played."""
    if reference in shipped_experts() or is_hub_reference(reference):
        raise ValueError(
            "shipped cards and those on the Hub are not changed; --write needs the path of a "
            f"GAME.safetensors file, not {reference!r}"
        )
    return Path(reference).with_suffix(".json")


def _play(teacher: Expert, protocol: EnvProtocol, options: VerifyOptions) -> Outcome:
    card = teacher.card
    claim = card.find_score(protocol=protocol.name)
    epsilon, seed = options.epsilon, options.seed
    drawn = epsilon is None and draws_actions(card, protocol)
    network: nn.Module = DrawnPolicy(teacher, seed=seed) if drawn else teacher
    if epsilon is None:
        epsilon = claim.epsilon if claim else (0.0 if drawn else protocol.evaluation_epsilon)
    env = make_vector_env(
        teacher.spec,
        num_envs=min(options.num_envs, options.episodes),
        protocol=protocol,
        seed=seed,
        num_threads=options.threads,
    )
    with closing(env):
        result = evaluate(network, env, num_episodes=options.episodes, epsilon=epsilon, seed=seed)
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
    headings = ("protocol", "actions", "measured", "card", "errors below", "normalized",
                "human-norm.")  # fmt: skip
    rows = []
    for outcome in outcomes:
        measured, card, found = outcome.measured, outcome.card, outcome.comparison
        claim = "-" if card is None else _scores(card)
        if card is not None and card.protocol != measured.protocol:
            claim += f" by {card.protocol}"
        rows.append(
            [
                measured.protocol,
                "drawn" if outcome.drawn else f"eps {measured.epsilon:g}",
                _scores(measured),
                claim,
                number(found.errors_below, 1),
                number(found.normalized, 2),
                number(found.human_normalized, 2),
            ]
        )
    parts = [f"{o.comparison.finding} under {o.measured.protocol}" for o in outcomes]
    lines = [
        f"{reference}: {teacher.card.algorithm} for {spec.name}; random "
        f"{number(spec.random_score, 1)}, human {number(spec.human_score, 1)}",
        *table_lines(headings, rows),
        f"{'FAILED' if _is_alarming(outcomes) else 'passed'}: {', '.join(parts)}",
    ]
    print(for_reader("\n".join(lines), sys.stdout))


def _scores(record: ScoreRecord) -> str:
    return f"{spread(record.mean, record.std)} ({record.episodes})"


def _as_json(reference: str, teacher: Expert, outcomes: Sequence[Outcome]) -> dict[str, object]:
    return {
        "teacher": reference,
        "game": teacher.spec.name,
        "passed": not _is_alarming(outcomes),
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
