"""The notebook in examples/ runs from its first cell to its last, and is kept without outputs."""

import json

import pytest
from runs import ROOT, ray_environment

NOTEBOOK = ROOT / "examples" / "expert.ipynb"


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]


@pytest.mark.notebook
@pytest.mark.filterwarnings("default")
def test_the_notebook_plays_an_expert_and_shows_its_film(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name, value in {**ray_environment(tmp_path), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    # What the kernel is told by is a file for its owner alone, and its ports are on the loopback.
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    load, play, film, policy = (c for c in notebook.cells if c.cell_type == "code")
    assert load.outputs[0].text.startswith("pong: ")
    # It is far better than to lose three points in 20 seconds.
    assert int(play.outputs[0].text.split()[0]) > -3
    assert len(film.outputs[0].data["image/gif"]) > 10_000
    assert "0: 0." in policy.outputs[0].data["text/plain"]
