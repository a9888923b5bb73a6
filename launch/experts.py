#!/usr/bin/env python
"""Train experts: one n-step double DQN per game, on the same actors, replay and learner.

    python launch/experts.py --games pong boxing --run-dir runs/experts
    python launch/experts.py --resume runs/experts

Each game gets a folder in the run's: checkpoints, metrics, and GAME.safetensors with its card, the
best weights so far by test score, kept apart from the newest. At the end these are tested afresh,
so that the card's scores are not the lucky ones they were chosen by.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from actors.evaluator import EvaluationResult, evaluate
from engines.engine import Engine
from engines.opening import check_redis, check_roles, connect_to_ray, open_engine, open_redis
from games.env import get_protocol
from games.registry import get_game, make_vector_env
from launch.options.exit_status import run_command
from learner.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from networks.weights import apply_snapshot
from recipes.config import ExpertsConfig
from recipes.experts import ExpertRecipe
from recipes.limits import check_replay_fits, choose_device
from recipes.loading import build_config, dump_config, parse_invocation
from recipes.roles import evaluation_seed
from records.machine import available_memory_bytes, describe_hardware
from records.progress import Progress
from records.recorder import Recorder
from records.run_dir import RunDir, hide_secrets
from teachers.card import Precision, ScoreRecord
from teachers.expert import Expert, load_expert, save_expert
from views.console import Console

_FINAL_TEST = 1_000_000
"""Number of the test after training; its seed must be none that the best weights were chosen by."""


def main(argv: Sequence[str]) -> None:
    """Train every game to its end, one after the other."""
    invocation = parse_invocation(argv, default_preset="")
    config = build_config(ExpertsConfig, invocation, prog="experts.py")
    choose_device(config)
    check_redis(config)
    for game in config.games:
        recipe = ExpertRecipe(config, game)
        check_replay_fits(recipe, available_bytes=available_memory_bytes())
        check_roles(recipe, _newest_state(invocation.resumed, game))
    run = invocation.resumed or RunDir.create(
        config.run_dir, preset="experts", config_text=dump_config(config), seed=config.seed
    )
    command = shlex.join(["python", "launch/experts.py", *hide_secrets(argv)])
    with run.locked():
        run.write_config(dump_config(config))
        for game in config.games:
            with ExitStack() as stack:
                ExpertTraining(config, game, run, command=command, stack=stack).run()


def _checkpoints(run: RunDir, game: str) -> Path:
    return run.path / game / "checkpoints"


def _newest_state(run: RunDir | None, game: str) -> dict[str, Any] | None:
    """State of the game's newest checkpoint, if the run has got that far."""
    found = list_checkpoints(_checkpoints(run, game)) if run else []
    return load_checkpoint(found[-1]) if found else None


class ExpertTraining:
    """Trains one game's expert, tests it now and then, keeps the best."""

    def __init__(
        self, config: ExpertsConfig, game: str, run: RunDir, *, command: str, stack: ExitStack
    ) -> None:
        """Go on from the newest checkpoint in the game's folder, if there is one."""
        self._config = config
        self._game = game
        folder = run.path / game
        self._checkpoints = _checkpoints(run, game)
        self._best = folder / f"{game}.safetensors"
        self._recipe = ExpertRecipe(config, game)
        folder.mkdir(exist_ok=True)
        state = _newest_state(run, game)
        self._num_tests = int(state["num_tests"]) if state else 0
        # The card shows the command that began the training, not the one that went on with it.
        self._command = str(state["command"]) if state else command
        self._started = time.monotonic() - (float(state["seconds"]) if state else 0.0)
        self._saved = time.monotonic()
        self._console = stack.enter_context(Console(config, games=[game]))
        self._recorder = stack.enter_context(_build_recorder(folder, game, self._started))
        device, name = choose_device(config), f"{run.redis_name}-{game}"
        connect_to_ray(self._recipe, stack, device=device)
        self._engine: Engine = open_engine(
            self._recipe,
            device=device,
            state=state,
            redis=open_redis(config, stack, run=name, note=self._console.note),
            replay_dir=folder / "replay",
            note=self._console.note,
        )
        self._next_test_steps = (sum(state["steps"].values()) if state else 0) + self._test_period

    @property
    def _test_period(self) -> int:
        return self._config.evaluation.period_steps

    @property
    def _seconds(self) -> float:
        """Time spent on this game, over all sessions."""
        return time.monotonic() - self._started

    def run(self) -> None:
        """Train to the end; leaves a checkpoint behind also when interrupted."""
        if self._is_verified():
            self._engine.close()
            self._console.note(describe_expert(load_expert(self._best)))
            return
        try:
            self._train()
        finally:
            self._engine.close()
        self._console.note(describe_expert(self._verify_best()))

    def _train(self) -> None:
        try:
            while self._engine.advance(self._config.report_period_s):
                self._look()
            self._test(self._look())
        except Exception:
            # Without hiding the cause, and never a network that has diverged.
            with suppress(Exception):
                self._save()
            raise
        except KeyboardInterrupt:
            self._save()
            raise
        self._save()

    def _is_verified(self) -> bool:
        """Whether an earlier session has brought this game to its end."""
        if self._engine.progress().updates < self._config.num_updates or not self._best.is_file():
            return False
        score = load_expert(self._best).card.score
        return score is not None and score.precision == "half"

    def _look(self) -> Progress:
        """One report; every now and then a test and a checkpoint."""
        progress = self._engine.progress()
        self._recorder.record(progress)
        self._console.show(self._recorder.latest)
        if self._test_period and progress.steps >= self._next_test_steps:
            self._next_test_steps = progress.steps + self._test_period
            self._test(progress)
        if time.monotonic() - self._saved >= self._config.checkpoint.period_s:
            self._save()
        return progress

    def _test(self, progress: Progress) -> None:
        """Play by the test protocol; keep the weights if they are the best so far."""
        network = self._recipe.build_network()
        apply_snapshot(network, self._engine.snapshot())
        self._num_tests += 1
        seconds = self._seconds
        with self._recorder.paused():
            result = self._play(network, self._config.protocol, test=self._num_tests)
        self._recorder.record_evaluation(
            self._game, steps=progress.steps, updates=progress.updates, result=result
        )
        if result.mean > self._best_mean():
            score = self._score(result, self._config.protocol, precision="full")
            save_expert(network, self._card([score], progress.steps, seconds), self._best)

    def _best_mean(self) -> float:
        score = load_expert(self._best).card.score if self._best.is_file() else None
        return score.mean if score else -float("inf")

    def _verify_best(self) -> Expert:
        """Test the best weights as they lie on disk, by both protocols, with seeds of their own."""
        best = load_expert(self._best)
        scores = [
            self._score(self._play(best, protocol, test=_FINAL_TEST), protocol, precision="half")
            for protocol in (self._config.protocol, "modern")
        ]
        card = self._card(scores, best.card.trained_steps or 0, best.card.wall_seconds or 0.0)
        save_expert(best.network, card, self._best)
        return load_expert(self._best)

    def _play(self, network: nn.Module, protocol: str, *, test: int) -> EvaluationResult:
        settings = self._config.evaluation
        seed = evaluation_seed(self._config, test)
        env = make_vector_env(
            get_game(self._game),
            num_envs=min(settings.num_envs, settings.num_episodes),
            protocol=get_protocol(protocol),
            seed=seed,
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

    def _score(
        self, result: EvaluationResult, protocol: str, *, precision: Precision
    ) -> ScoreRecord:
        return ScoreRecord(
            mean=result.mean,
            std=result.std,
            max=result.max,
            episodes=len(result.returns),
            protocol=protocol,
            epsilon=self._config.evaluation.epsilon,
            precision=precision,
        )

    def _card(self, scores: list[ScoreRecord], steps: int, seconds: float) -> dict[str, object]:
        settings = self._config.replay
        is_uniform = settings.sampler == "uniform" or settings.priority_exponent == 0
        replay = "uniform" if is_uniform else f"{settings.sampler} prioritized"
        return {
            "game": self._game,
            "algorithm": f"double DQN, {self._config.dqn.num_steps}-step, {replay} replay",
            "protocol": self._config.protocol,
            "trained_steps": steps,
            "scores": scores,
            "origin": "trained by this project",
            "licence": "Apache-2.0",
            "command": self._command,
            "created": datetime.now(UTC).date().isoformat(),
            "wall_seconds": round(seconds),
            "hardware": describe_hardware(),
        }

    def _save(self) -> None:
        """Checkpoint; ValueError, and nothing written, if the weights are not finite."""
        self._engine.snapshot()
        state = self._engine.state()
        state["seconds"] = self._seconds
        state["num_tests"] = self._num_tests
        state["command"] = self._command
        save_checkpoint(
            self._checkpoints,
            state,
            num_updates=state["learner"]["num_updates"],
            keep=self._config.checkpoint.keep,
        )
        self._saved = time.monotonic()


def describe_expert(expert: Expert) -> str:
    """One line about an expert: its scores beside those of random play and of a human."""
    spec = expert.spec
    scores = ", ".join(
        f"{score.mean:.1f} +- {score.std:.1f} over {score.episodes} episodes ({score.protocol})"
        for score in expert.card.scores
    )
    return f"{spec.name}: {scores}; random {spec.random_score}, human {spec.human_score}"


def _build_recorder(folder: Path, game: str, started: float) -> Recorder:
    return Recorder(
        folder / "metrics.jsonl", folder / "tensorboard", [get_game(game)], started=started
    )


if __name__ == "__main__":
    run_command(main)
