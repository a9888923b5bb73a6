"""Sweep settings with Optuna; each trial is an ordinary run, and the sweep goes on where it was.

    pip install -c constraints.txt -e '.[examples]'
    python examples/sweep.py OUT TRIALS [PRESET] [SETTING=VALUE ...]
    python examples/sweep.py runs/sweep 20 quickstart num_steps=100000 engine=local

TRIALS is how many there are to be in the end: the same command again goes on, first with the run
that was under way when the last call was stopped. OUT/sweep.db is Optuna's own storage, for its
other tools; OUT/trial_NUMBER are runs, for `launch/compare.py OUT/trial_*`. One call at a time.
"""

import sys
from pathlib import Path

from actor_mimic import configure, resume, train

try:
    import optuna
except ModuleNotFoundError:
    sys.exit("Optuna is missing: pip install -c constraints.txt -e '.[examples]'")
from optuna.trial import TrialState

if len(sys.argv) < 3 or not sys.argv[2].isdecimal() or int(sys.argv[2]) < 1:
    sys.exit(f"{sys.argv[0]} OUT TRIALS [PRESET] [SETTING=VALUE ...], with one trial at least")
out, num_trials = Path(sys.argv[1]), int(sys.argv[2])
preset = sys.argv[3] if len(sys.argv) > 3 else "quickstart"
settings = dict(word.split("=", 1) for word in sys.argv[4:])


def run_trial(trial: optuna.Trial) -> float:
    """Train with what Optuna suggests; the student's way from random play to its experts.

    Where there are none, its mean score.
    """
    suggested = {
        "learner.learning_rate": trial.suggest_float("learner.learning_rate", 1e-4, 3e-3, log=True),
        "mimic.temperature": trial.suggest_float("mimic.temperature", 0.01, 1.0, log=True),
    }
    folder = out / trial.user_attrs.get("folder", f"trial_{trial.number}")
    trial.set_user_attr("folder", folder.name)
    if (folder / "meta.json").is_file():
        run = resume(folder, quiet=True)
    else:
        run = train(
            configure(preset, {**settings, **suggested, "run_dir": str(folder)}), quiet=True
        )
    score: float | None = run.summary["aggregate"]["teacher_normalized"]["capped_mean"]
    if score is None:  # No teacher says how far that is.
        means = [row["student"]["mean"] for row in run.summary["games"].values()]
        score = sum(means) / len(means)
    return score


out.mkdir(parents=True, exist_ok=True)
study = optuna.create_study(
    study_name="sweep",
    storage=f"sqlite:///{out / 'sweep.db'}",
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=1),
    load_if_exists=True,
)
for stopped in study.get_trials(states=[TrialState.RUNNING]):
    study.tell(stopped.number, state=TrialState.FAIL)
    study.enqueue_trial(stopped.params, user_attrs=stopped.user_attrs)
num_done = len(study.get_trials(states=[TrialState.COMPLETE]))
study.optimize(run_trial, n_trials=max(0, num_trials - num_done))
for trial in study.get_trials(states=[TrialState.COMPLETE]):
    words = ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items())
    print(f"{trial.user_attrs['folder']}: {trial.value:.3f} with {words}")
print(f"best: {study.best_trial.user_attrs['folder']}")
