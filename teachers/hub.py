"""Files on the Hugging Face Hub: `hf://OWNER/REPO[@REVISION][/PATH]`, as the Hub itself has it.

`hf://OWNER/REPO/PATH@REVISION`, the form of earlier versions of this project, is read as well. An
address may be a pattern for a collection that has a repository for each game: `{Name}` stands for
a game's name as Gymnasium writes it, SpaceInvaders, and `{game}` for space_invaders.

huggingface_hub (the extra `hub`) fetches them into its own cache, and knows about tokens, mirrors
and being offline. Nothing that comes from there is run: a file from the Hub is read by the same
readers as a file of the user's.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Protocol

SCHEME = "hf://"
_FORM = f"{SCHEME}OWNER/REPO[@REVISION][/PATH]"
# Other things than models that the Hub has, which are named first in an address.
_OTHER_KINDS = ("datasets/", "spaces/", "kernels/", "buckets/")
# Revisions that have slashes in them; in those of others a slash is written as %2F.
_SPECIAL_REVISION = re.compile(r"refs/(?:convert/[\w.-]+|pr/\d+)")
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
_ADDRESS = re.compile(
    rf"{SCHEME}(?:models/)?(?P<repo>{_NAME}/{_NAME})(?:"
    rf"@(?P<revision>{_SPECIAL_REVISION.pattern}|[^/@]+)(?:/(?P<path>[^@]+))?"
    # As earlier versions wrote it.
    r"|(?:/(?P<path_first>[^@]+))?(?:@(?P<revision_last>[^@]+))?)"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHECKPOINT_SUFFIXES = (
    ".safetensors", ".zip", ".pt", ".pth", ".cleanrl_model", ".gz", ".msgpack", ".flax",
)  # fmt: skip
# Lies beside the model in every repository that rl-zoo has pushed.
_NEVER_A_CHECKPOINT = ("train_eval_metrics.zip",)


@dataclass(frozen=True, slots=True)
class HubReference:
    """An address on the Hub, taken apart."""

    # "owner/name".
    repo: str
    # Path of a file in the repository; None leaves it to be found.
    path: str | None
    # Branch, tag or commit; None is the main branch.
    revision: str | None

    def __str__(self) -> str:
        path = f"/{self.path}" if self.path else ""
        revision = self.revision or ""
        if not _SPECIAL_REVISION.fullmatch(revision):
            revision = revision.replace("/", "%2F")
        return f"{SCHEME}{self.repo}{revision and '@'}{revision}{path}"


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one revision."""

    commit: str
    names: tuple[str, ...]


class HubFiles(Protocol):
    """Where repositories are read from."""

    def list(self, repo: str, revision: str | None) -> Listing:
        """What is there; ValueError if it cannot be found out."""
        ...

    def fetch(self, repo: str, name: str, commit: str) -> Path:
        """A local copy of one file, in a folder of its commit; ValueError if there is none."""
        ...


def is_hub_reference(reference: str | Path) -> bool:
    """Whether it begins with hf://."""
    return str(reference).startswith(SCHEME)


def fill_in(reference: str, game: str) -> str:
    """What a pattern means for one game; anything else stays as it is."""
    name = "".join(part.capitalize() for part in game.split("_"))
    return reference.replace("{Name}", name).replace("{game}", game)


def is_pattern(reference: str) -> bool:
    """Whether it means something else for each game."""
    return fill_in(reference, "a_game") != reference


def parse_hub_reference(text: str) -> HubReference:
    """Take an address apart; ValueError if it is not of the form."""
    if text.removeprefix(SCHEME).startswith(_OTHER_KINDS):
        raise ValueError(f"{text!r} is not a model's address on the Hub; write {_FORM}")
    found = _ADDRESS.fullmatch(text)
    path = found and (found["path"] or found["path_first"])
    revision = found and (found["revision"] or found["revision_last"])
    revision = revision and revision.replace("%2F", "/")
    good_path = not path or _stays_inside(path)
    good_revision = not revision or (
        re.fullmatch(r"[A-Za-z0-9._/-]+", revision) and _stays_inside(revision)
    )
    if not (found and good_path and good_revision):
        raise ValueError(f"{text!r} is not an address on the Hub; write {_FORM}")
    return HubReference(found["repo"], path, revision)


def _stays_inside(path: str) -> bool:
    """Whether a path, or a revision, leads nowhere else; huggingface_hub uses both as paths."""
    return path.isprintable() and all(part not in ("", ".", "..") for part in path.split("/"))


def pin(text: str, *, game: str | None = None, files: HubFiles | None = None) -> str:
    """The same address with its commit, so that it means the same file for ever and everywhere."""
    reference = parse_hub_reference(text)
    if reference.path and reference.revision and _COMMIT.fullmatch(reference.revision):
        return text
    listing = (files or HuggingFace()).list(reference.repo, reference.revision)
    path = reference.path
    if path is None and game is not None:
        path = _choose(reference, listing.names, game)
    return str(HubReference(reference.repo, path, listing.commit))


def fetch(text: str, *, game: str | None = None, files: HubFiles | None = None) -> Path:
    """A local copy of the file that an address names; its card comes along if there is one."""
    files = files or HuggingFace()
    reference = parse_hub_reference(text)
    path, commit = reference.path, reference.revision
    if path is None or commit is None or not _COMMIT.fullmatch(commit):
        listing = files.list(reference.repo, reference.revision)
        commit = listing.commit
        path = path or _choose(reference, listing.names, game)
    local = files.fetch(reference.repo, path, commit)
    if path.endswith(".safetensors"):
        _fetch_card(files, reference.repo, path, commit)
    return local


def fetch_folder(text: str, names: Sequence[str], *, files: HubFiles | None = None) -> Path:
    """A local folder with the files `names` of a repository, or of a folder in it.

    Raises:
        ValueError: the address is not of the form, or one of the files cannot be had.
    """
    files = files or HuggingFace()
    reference = parse_hub_reference(text)
    commit = files.list(reference.repo, reference.revision).commit
    return _fetch_all(reference, names, commit, files=files)


def find_folder(text: str, names: Sequence[str], *, files: HubFiles | None = None) -> Path | None:
    """The same where an address leads to a folder with the files `names`; None if it does not.

    It may also be the address of the first of them, as `pin` gives it. ValueError if the Hub does
    not answer.
    """
    files = files or HuggingFace()
    reference = parse_hub_reference(text)
    path = PurePosixPath(reference.path or "")
    if path.suffix in _CHECKPOINT_SUFFIXES:
        if path.name != names[0]:
            return None
        folder = "" if path.parent == PurePosixPath() else str(path.parent)
        reference = HubReference(reference.repo, folder or None, reference.revision)
    if reference.revision and _COMMIT.fullmatch(reference.revision):
        # What has been fetched before is there without the Hub.
        with suppress(ValueError):
            return _fetch_all(reference, names, reference.revision, files=files)
    listing = files.list(reference.repo, reference.revision)
    if not all(_inside(reference, name) in listing.names for name in names):
        return None
    return _fetch_all(reference, names, listing.commit, files=files)


def _fetch_all(
    reference: HubReference, names: Sequence[str], commit: str, *, files: HubFiles
) -> Path:
    paths = [files.fetch(reference.repo, _inside(reference, name), commit) for name in names]
    return paths[0].parent


def _inside(reference: HubReference, name: str) -> str:
    return f"{reference.path}/{name}" if reference.path else name


def _fetch_card(files: HubFiles, repo: str, path: str, commit: str) -> None:
    """Fetch the card beside the weights if there is one; its reader says if it is missing."""
    # Not looked up in the listing: one from the cache has only what was fetched before.
    with suppress(ValueError):
        files.fetch(repo, path.removesuffix(".safetensors") + ".json", commit)


def _choose(reference: HubReference, names: tuple[str, ...], game: str | None) -> str:
    """The one checkpoint of a repository, or the game's own."""
    found = [
        name
        for name in names
        if name.endswith(_CHECKPOINT_SUFFIXES)
        and PurePosixPath(name).name not in _NEVER_A_CHECKPOINT
    ]
    own = [name for name in found if game and PurePosixPath(name).name == f"{game}.safetensors"]
    # CleanRL's repositories have the same network as a TorchScript program, agent.pt, beside it.
    own = own or [name for name in found if name.endswith(".cleanrl_model")]
    if len(own) == 1:
        return own[0]
    # Repositories of Stable-Baselines3 hold the archive, and its members in a folder.
    depth = min((name.count("/") for name in found), default=0)
    found = [name for name in found if name.count("/") == depth]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            f"{reference} holds no checkpoint ({', '.join(_CHECKPOINT_SUFFIXES)}); "
            f"name a file: {_FORM}"
        )
    example = HubReference(reference.repo, found[0], reference.revision)
    raise ValueError(
        f"{reference} holds several checkpoints: {', '.join(sorted(found))}; "
        f"name one, for example {example}"
    )


class HuggingFace:
    """The Hub itself, or what its cache still has of it."""

    def list(self, repo: str, revision: str | None) -> Listing:
        """List a repository; from the cache when the Hub cannot be reached."""
        hub = import_hub()
        try:
            info = hub.HfApi().repo_info(repo, revision=revision)
            return Listing(str(info.sha), tuple(s.rfilename for s in info.siblings or ()))
        except _refusals() as error:
            raise ValueError(f"{SCHEME}{repo}: {_one_line(error)}") from None
        # Anything else is the transport's: no network, no answer, or told to stay offline.
        except Exception as error:
            if cached := _cached(hub, repo, revision):
                return cached
            raise ValueError(
                f"{SCHEME}{repo} cannot be reached and is not in the cache: {_one_line(error)}"
            ) from None

    def fetch(self, repo: str, name: str, commit: str) -> Path:
        """Fetch one file into the cache, and give its path there."""
        hub = import_hub()
        try:
            return Path(hub.hf_hub_download(repo, name, revision=commit))
        except Exception as error:
            raise ValueError(f"{SCHEME}{repo}/{name}@{commit}: {_one_line(error)}") from None


def _cached(hub: ModuleType, repo: str, revision: str | None) -> Listing | None:
    try:
        found = hub.snapshot_download(repo, revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return None
    folder = Path(found)
    names = (str(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file())
    return Listing(folder.name, tuple(sorted(names)))


def _refusals() -> tuple[type[Exception], ...]:
    """Answers of the Hub that the cache cannot make good."""
    from huggingface_hub import errors

    return (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.GatedRepoError,
        errors.HFValidationError,
    )


def import_hub() -> ModuleType:
    """The library huggingface_hub; ValueError with what to install if it is not there."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise ValueError(
            "the Hugging Face Hub needs huggingface_hub; install it with: pip install -e '.[hub]'"
        ) from None


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
