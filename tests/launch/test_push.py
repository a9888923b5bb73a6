"""Students on the Hub: `export.py --push` and what loads them back, against a Hub of this machine.

In processes of their own: huggingface_hub reads its address when it is imported.
"""

import json
import subprocess
import sys

import pytest
import yaml
from hub_server import HubServer
from recorded_runs import make_run
from runs import ROOT, clean_environment

from networks.student_file import load_student

pytest.importorskip("huggingface_hub")

TOKEN = "hf_a_token_of_the_tests"


@pytest.fixture
def hub():
    server = HubServer(token=TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def call(hub, tmp_path):
    def call(*words: object, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        environment = {
            **clean_environment(tmp_path),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
        }
        return subprocess.run(
            [sys.executable, *map(str, words)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return make_run(folder, games=["pong", "breakout"], num_tests=1, num_looks=1, seed=6)


def test_a_student_is_pushed_with_its_scores_and_loads_back(run, hub, call, tmp_path):
    export = ROOT / "launch" / "export.py"
    words = ["--out", tmp_path / "out", "--licence", "MIT", "--push", "me/two", "--private"]
    done = call(export, run.path, *words)
    assert done.returncode == 0, done.stderr
    commit = hub.commit_of("me/two")
    assert done.stdout.splitlines()[-1] == f"on the Hub: {hub.url}/me/two/commit/{commit}"
    assert TOKEN not in done.stdout + done.stderr
    assert hub.private == {"me/two": True}
    files = hub.repos["me/two"]
    expected = {"weights.safetensors", "config.json", "card.json", "card.md", "README.md"}
    assert set(files) == expected | {"pong.webp", "breakout.webp"}
    for name in expected:
        assert files[name] == (tmp_path / "out" / name).read_bytes()

    _, head, text = files["README.md"].decode().split("---\n", 2)
    about = yaml.safe_load(head)
    assert (about["license"], about["pipeline_tag"]) == ("mit", "reinforcement-learning")
    assert about["model-index"][0]["name"] == "two"
    results = about["model-index"][0]["results"]
    assert [row["dataset"]["name"] for row in results] == ["pong", "breakout"]
    assert all(" +/- " in row["metrics"][0]["value"] for row in results)
    assert "![pong](pong.webp)" in text

    program = (
        "import numpy as np\nfrom actor_mimic import Student\n"
        "states = np.random.default_rng(0).integers(0, 256, (8, 4, 84, 84), np.uint8)\n"
        f"here, there = Student.load({str(run.path)!r}), Student.load('hf://me/two')\n"
        "assert (here.playing('pong').act(states) == there.act(states, 'pong')).all()\n"
        "print(there.games)"
    )
    loaded = call("-c", program)
    assert loaded.stdout == "('pong', 'breakout')\n", loaded.stderr


def test_a_student_of_the_hub_is_played_teaches_and_is_gone_on_from(run, hub, call, tmp_path):
    folder = run.path / "student"
    hub.repos["me/two"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.private["me/two"] = False
    launch, address = ROOT / "launch", "hf://me/two"
    tested = call(
        launch / "evaluate.py", address, "--games", "pong", "--test-steps", "20", "--json"
    )
    assert tested.returncode == 0, tested.stderr
    assert list(json.loads(tested.stdout)["games"]) == ["pong"]
    filmed = call(launch / "play.py", address, "--game", "pong", "--steps", "2")
    assert filmed.returncode == 0, filmed.stderr
    carried = call(
        launch / "multitask.py", "--preset", "smoke", "--engine", "local", "--games", "pong",
        "--teachers", f"pong={address}", "--start-from", address, "--num-steps", "60",
        "--replay.min-size-per-game", "40", "--evaluation.num-episodes", "1",
        "--evaluation.check-teachers", "0", "--report-at-end", "False", "--run-dir", "run",
        *("--network.torso", load_student(folder).torso_name),
    )  # fmt: skip
    assert carried.returncode == 0, carried.stderr
    commit = hub.commit_of("me/two")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["teachers"] == [f"pong=hf://me/two@{commit}/weights.safetensors"]
    assert config["start_from"] == [f"hf://me/two@{commit}"]


@pytest.mark.parametrize(
    ("words", "token", "message"),
    [
        (["--push", "me"], TOKEN, "'me' is not of the form OWNER/NAME"),
        (["--push", "me/two", "--format", "onnx"], TOKEN, "push needs the format safetensors"),
        (["--private"], TOKEN, "private is for push"),
        (["--push", "me/two"], "", "no key for the Hub: run 'hf auth login', or set HF_TOKEN"),
        (["--push", "me/two"], "hf_wrong", "was not put on the Hub as me/two: "),
    ],
)
def test_what_cannot_be_pushed_is_one_line(run, hub, call, tmp_path, words, token, message):
    done = call(
        ROOT / "launch" / "export.py", run.path, "--out", tmp_path / "out", *words, token=token
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert ("hf upload me/two" in line) == (token == "hf_wrong")
    assert hub.repos == {}
    # A refusal of the Hub's comes after the export, which is not lost.
    assert (tmp_path / "out" / "card.json").exists() == (token == "hf_wrong")
