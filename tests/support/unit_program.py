"""Stands for a training command in tests of studies: counts its steps, slowly if asked, and ends.

    python unit_program.py (--run-dir DIR | --resume DIR) [--fail] [--hold GATE] --num-steps N ...

Each step is a line in DIR/steps, and a run that is resumed goes on after the last of them; with a
GATE it waits in the middle of the run until that file is there.
"""

import json
import sys
import time
from pathlib import Path

WORDS = sys.argv[1:]


def option(name: str) -> str:
    """Word after an option; empty without it."""
    return WORDS[WORDS.index(name) + 1] if name in WORDS else ""


def main() -> int:
    resumed = option("--resume")
    run = Path(resumed or option("--run-dir"))
    settings = run / "config.yaml"
    if not resumed:
        run.mkdir(parents=True)
        settings.write_text(json.dumps(WORDS))
        meta = {"format": 1, "preset": "none", "id": "0"}
        (run / "meta.json").write_text(json.dumps(meta))
    words = json.loads(settings.read_text())
    steps = int(words[words.index("--num-steps") + 1])
    gate = Path(words[words.index("--hold") + 1]) if "--hold" in words else None
    path = run / "steps"
    done = path.read_bytes().count(b"\n") if path.exists() else 0
    with path.open("a") as log, (run / "metrics.jsonl").open("a") as metrics:
        for step in range(done, steps):
            log.write(f"{step}\n")
            log.flush()
            row = {
                "seconds": step + 1.0,
                "steps": step + 1,
                "updates": step,
                "test/pong/mean": step,
            }
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
            # Waiting is bounded, so that no test leaves a process behind.
            for _ in range(6000):
                if gate is None or step != steps // 2 or gate.exists():
                    break
                time.sleep(0.01)
    print("ended", flush=True)
    return 3 if "--fail" in words else 0


if __name__ == "__main__":
    sys.exit(main())
