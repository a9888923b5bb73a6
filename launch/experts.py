#!/usr/bin/env python
"""Train experts: one n-step double DQN per game, on the same actors, replay and learner.

    python launch/experts.py --games pong boxing --run-dir runs/experts
    python launch/experts.py --resume runs/experts

Each game gets a folder in the run's: checkpoints, metrics, and GAME.safetensors with its card, the
best weights so far by test score, kept apart from the newest.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from actors.evaluator import EvaluationResult, evaluate
from launch.config import ExpertsConfig
from launch.engine import Progress
from launch.local import LocalEngine
from launch.recipe import ExpertRecipe, build_env, choose_device, evaluation_seed
from learner.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from networks.q_network import QNetwork
from networks.weights import apply_snapshot
from teachers.card import ScoreRecord
from teachers.expert import load_expert, save_expert


class ExpertTraining:
    """Trains one game's expert, tests it now and then, keeps the best."""

    def __init__(self, config: ExpertsConfig, game: str, folder: Path, *, command: str) -> None:
        """Go on from the newest checkpoint in `folder`, if there is one."""
        self._config = config
        self._game = game
        self._folder = folder
        self._command = command
        self._checkpoints = folder / "checkpoints"
        self._metrics = folder / "metrics.jsonl"
        self._best = folder / f"{game}.safetensors"
        self._recipe = ExpertRecipe(config, game)
        self._device = choose_device(config)
        folder.mkdir(parents=True, exist_ok=True)
        found = list_checkpoints(self._checkpoints)
        state = load_checkpoint(found[-1]) if found else None
        self._seconds_before = float(state["seconds"]) if state else 0.0
        self._num_tests = int(state["num_tests"]) if state else 0
        self._engine = LocalEngine(self._recipe, device=self._device, state=state)
        self._started = time.monotonic()
        self._saved = self._started
        self._next_test_steps = 0

    @property
    def seconds(self) -> float:
        """Time spent on training, over all runs of this program."""
        return self._seconds_before + time.monotonic() - self._started

    def run(self) -> None:
        """Train to the end; leaves a checkpoint behind also when interrupted."""
        try:
            while self._engine.advance(self._config.report_period_s):
                self._look(self._engine.progress())
            self._look(self._engine.progress())
            self._test(self._engine.progress())
        finally:
            self._save()
            self._engine.close()

    def _look(self, progress: Progress) -> None:
        self._report(progress)
        period = self._config.evaluation.period_steps
        if not self._next_test_steps:
            self._next_test_steps = progress.steps + period
        if period and progress.steps >= self._next_test_steps:
            self._next_test_steps = progress.steps + period
            self._test(progress)
        if time.monotonic() - self._saved >= self._config.checkpoint.period_s:
            self._save()

    def _report(self, progress: Progress) -> None:
        game = progress.games[self._game]
        greedy = [value for value, epsilon in game.returns if epsilon < 0.05]
        row: dict[str, object] = {
            "seconds": round(self.seconds, 1),
            "steps": game.steps,
            "updates": progress.updates,
            **progress.metrics,
        }
        if greedy:
            row["return_low_epsilon"] = sum(greedy) / len(greedy)
        self._write(row)

    def _write(self, row: dict[str, object]) -> None:
        with self._metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{self._game}: " + "  ".join(f"{k} {_short(v)}" for k, v in row.items()), flush=True)

    def _test(self, progress: Progress) -> None:
        """Play by the test protocol; keep the weights if they are the best so far."""
        network = self._recipe.build_network()
        apply_snapshot(network, self._engine.snapshot())
        self._num_tests += 1
        result = self._play(network, seed=self._num_tests)
        self._write(
            {"seconds": round(self.seconds, 1), "steps": progress.steps, "test_mean": result.mean,
             "test_std": result.std, "test_episodes": len(result.returns)}
        )
        best = load_expert(self._best).card.score.mean if self._best.is_file() else -float("inf")
        if result.mean > best:
            self._keep(network, result, progress.steps)

    def _play(self, network: QNetwork, *, seed: int) -> EvaluationResult:
        settings = self._config.evaluation
        env = build_env(
            self._config,
            self._game,
            num_envs=settings.num_envs,
            seed=evaluation_seed(self._config, seed),
        )
        try:
            return evaluate(
                network.eval(),
                env,
                num_episodes=settings.num_episodes,
                epsilon=settings.epsilon,
                seed=seed,
            )
        finally:
            env.close()

    def _keep(self, network: QNetwork, result: EvaluationResult, steps: int) -> None:
        save_expert(network, self._card(result, steps), self._best)

    def _card(self, result: EvaluationResult, steps: int) -> dict[str, object]:
        score = ScoreRecord(
            mean=result.mean,
            std=result.std,
            max=result.max,
            episodes=len(result.returns),
            protocol=self._config.protocol,
            epsilon=self._config.evaluation.epsilon,
            precision="full",
        )
        dqn, replay = self._config.dqn, self._config.replay
        return {
            "game": self._game,
            "algorithm": f"double DQN, {dqn.num_steps}-step, "
            + ("prioritized replay" if replay.priority_exponent else "uniform replay"),
            "protocol": self._config.protocol,
            "trained_steps": steps,
            "scores": [score],
            "origin": "trained by this project",
            "licence": "Apache-2.0",
            "command": self._command,
            "created": datetime.now(UTC).date().isoformat(),
            "wall_seconds": round(self.seconds),
            "hardware": _cpu(),
            "notes": "best test score of the training so far; selected by it, so slightly optimistic",
        }

    def _save(self) -> None:
        state = self._engine.state()
        state["seconds"] = self.seconds
        state["num_tests"] = self._num_tests
        save_checkpoint(
            self._checkpoints,
            state,
            num_updates=state["learner"]["num_updates"],
            keep=self._config.checkpoint.keep,
        )
        self._saved = time.monotonic()


def _cpu() -> str:
    return "1 core of an AMD EPYC at 2.6 GHz, no GPU"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    import sys
    from launch.config import load_config
    torch.set_num_threads(1)
    config = load_config(ExpertsConfig, sys.argv[1:])
    for name in config.games:
        ExpertTraining(config, name, Path(config.run_dir) / name, command="python launch/experts.py " + " ".join(sys.argv[1:])).run()
