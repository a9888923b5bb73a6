"""Puts an exported student on the Hugging Face Hub: its files, films, and a model card with scores.

Only what `launch/export.py --push` names is sent, and nothing without it. The key is that of
`hf auth login` or HF_TOKEN, which huggingface_hub reads by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from networks.atomic_file import write_atomically
from teachers.hub import SCHEME, import_hub, parse_hub_reference
from views.export_card import Document, card_as_text

_CARD = "README.md"
_LIBRARY = "actor-mimic"


def check_can_push(repo: str) -> None:
    """ValueError if the address is none, or huggingface_hub or a key is missing."""
    if repo.count("/") != 1 or "@" in repo:
        raise ValueError(f"{repo!r} is not of the form OWNER/NAME")
    parse_hub_reference(f"{SCHEME}{repo}")
    if import_hub().get_token() is None:
        raise ValueError("no key for the Hub: run 'hf auth login', or set HF_TOKEN")


def write_model_card(folder: Path, card: Document, *, repo: str, films: list[str]) -> None:
    """Write README.md, the model card, into an exported folder.

    Args:
        folder: the exported student.
        card: views.export_card.build_card's.
        repo: OWNER/NAME, of which the model has its name.
        films: paths in the folder, shown below the text.
    """
    hub = import_hub()
    licence = None if card["licence"] == "not stated" else card["licence"].lower()
    data = hub.ModelCardData(
        library_name=_LIBRARY,
        license=licence,
        model_name=repo.partition("/")[2],
        pipeline_tag="reinforcement-learning",
        tags=["reinforcement-learning", "actor-mimic", "policy-distillation", *card["games"]],
        eval_results=list(_eval_results(hub, card)) or None,
    )
    pictures = "".join(f"\n![{Path(film).stem}]({film})\n" for film in films)
    text = f"---\n{data.to_yaml()}\n---\n\n{card_as_text(card)}{pictures}"
    write_atomically(folder / _CARD, text.encode())


def _eval_results(hub: ModuleType, card: Document) -> Iterator[Any]:
    """The student's mean score in each game, as the Hub's tables have it."""
    for game, row in (card["scores"] or {}).items():
        if (mean := row["student"]["mean"]) is None:
            continue
        yield hub.EvalResult(
            task_type="reinforcement-learning",
            task_name="reinforcement-learning",
            dataset_type=game,
            dataset_name=game,
            metric_type="mean_reward",
            metric_name="mean_reward",
            metric_value=f"{mean:.1f} +/- {row['student']['std'] or 0:.1f}",
            verified=False,
        )


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Send everything in `folder` as one commit; makes the repository if it is not there.

    Returns:
        The commit's address.

    Raises:
        ValueError: the Hub refuses it or cannot be reached; one line.
    """
    hub = import_hub()
    try:
        api = hub.HfApi()
        name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Add an Actor-Mimic student"
        )
    # Refusals, and whatever the network between comes up with.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{folder} was not put on the Hub as {repo}: {reason} (the folder is whole: "
            f"hf upload {repo} {folder} sends it)"
        ) from None
    return str(commit.commit_url)
