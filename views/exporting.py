"""Exports a student or an expert into a folder: files, checked programs, and a card."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from learner.objectives.config import MimicConfig
from networks.atomic_file import write_atomically
from networks.config import NetworkConfig
from networks.network import MultitaskNetwork
from networks.programs import (
    FILE_NAMES,
    MaskedPolicy,
    ProgramFormat,
    check_can_write,
    collect_states,
    largest_difference,
    write_program,
)
from networks.snapshots import take_snapshot
from networks.student_file import STUDENT_FILES, save_student
from networks.weights import WeightsVersion
from recipes.student import StudentTarget, find_trained
from records.run_record import RunRecord, read_run
from teachers.card import TeacherCard
from teachers.expert import Expert
from views.export_card import build_card, card_as_json, card_as_text
from views.pushing import check_can_push, push, write_model_card
from views.report import FILM_STEPS
from views.report.films import make_films

_STATES_PER_GAME = 32
_SEED = 20_240


def export(
    target: str,
    out: str,
    *,
    formats: Sequence[str],
    licence: str,
    repo: str = "",
    private: bool = False,
) -> list[str]:
    """Write and check everything, and put it on the Hub as `repo` if that is named.

    Returns:
        A line about every file.

    Raises:
        ValueError: there is no such student, something cannot be written or does not give what the
            student gives; or the Hub refuses it, with everything in its folder.
    """
    torch.set_num_threads(1)
    if repo:
        check_can_push(repo)
    check_can_write(formats)
    with _source_of(target) as (found, expert), _new_folder(out) as folder:
        student = found.load()
        record = read_run(found.run.path) if found.run else None
        verified, num_states = _write_files(found, student, formats, folder)
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())
        }
        card = build_card(
            student,
            found,
            record,
            expert=expert,
            files=files,
            verified=verified,
            num_states=num_states,
            licence=licence,
        )
        write_atomically(folder / "card.json", card_as_json(card))
        write_atomically(folder / "card.md", card_as_text(card).encode())
        if repo:
            write_model_card(folder, card, repo=repo, films=_write_films(record, folder))
    lines = []
    for name in files:
        path = Path(out) / name
        note = f", within {verified[name]:.1e} of the student" if name in verified else ""
        lines.append(f"{path}: {path.stat().st_size / 1e6:.1f} MB{note}")
    lines.append(f"{Path(out) / 'card.md'}: how to use it")
    if repo:
        lines.append(f"on the Hub: {push(Path(out), repo, private=private)}")
    return lines


@contextlib.contextmanager
def _source_of(target: str) -> Iterator[tuple[StudentTarget, TeacherCard | None]]:
    """The student to export; of an expert, one in the form of a student, and its card."""
    expert = find_trained(target)
    if not isinstance(expert, Expert):
        yield expert, None
        return
    network, card = expert.network, expert.card
    if not isinstance(network, MultitaskNetwork):
        raise ValueError(
            f"{target} has a distribution over fixed returns, which the files of a student have no "
            "place for; it can teach one (--teachers), and the student be exported"
        )
    is_policy = card.architecture.head == "policy"
    game = expert.spec.name
    with tempfile.TemporaryDirectory(prefix="expert-") as folder:
        save_student(
            Path(folder),
            take_snapshot(network, WeightsVersion(0, 0), half=False),
            network=NetworkConfig(torso=network.torso_name, dueling=network.dueling),
            games=(game,),
            temperatures={game: 1.0 if is_policy else MimicConfig().temperature},
        )
        yield StudentTarget(Path(folder), None, None), card


def _write_films(record: RunRecord | None, folder: Path) -> list[str]:
    """Write GAME.webp for every game that can be filmed; their names."""
    films = make_films(record, num_steps=FILM_STEPS)[0] if record else []
    for film in films:
        write_atomically(folder / f"{film.game}.webp", film.webp)
    return [f"{film.game}.webp" for film in films]


def _write_files(
    found: StudentTarget, student: MultitaskNetwork, formats: Sequence[str], folder: Path
) -> tuple[dict[str, float], int]:
    """Write everything but the card; returns each file's largest difference, and the states."""
    if "safetensors" in formats:
        for name in STUDENT_FILES:
            write_atomically(folder / name, (found.folder / name).read_bytes())
    programs: list[ProgramFormat] = [kind for kind in FILE_NAMES if kind in formats]
    if not programs:
        return {}, 0
    policy = MaskedPolicy(student)
    states = collect_states(
        student.games, protocol=found.protocol, per_game=_STATES_PER_GAME, seed=_SEED
    )
    # Copies: the program keeps its example, and with a slice all that it is a slice of.
    example = states[0][:2].clone(), states[1][:2].clone()
    verified = {}
    for kind in programs:
        name = FILE_NAMES[kind]
        write_program(policy, kind, folder / name, example)
        verified[name] = largest_difference(policy, kind, folder / name, states)
    return verified, len(states[0])


@contextlib.contextmanager
def _new_folder(name: str) -> Iterator[Path]:
    """A folder to fill; it gets its name at the end of the block, so that it is whole or absent."""
    folder = Path(name).absolute()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{name} has something in it already; choose another folder")
        filling = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        filling.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {name}: {error.strerror}") from error
    try:
        yield filling
        filling.replace(folder)
    finally:
        shutil.rmtree(filling, ignore_errors=True)
