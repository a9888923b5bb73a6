"""Tells the formats apart by their content, and reads a checkpoint of any of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from games.registry import get_game
from teachers.formats.atari_agents import is_atari_agents, read_atari_agents
from teachers.formats.bounded_files import ZipMembers, gunzip, read_file
from teachers.formats.cleanrl import is_cleanrl, read_cleanrl
from teachers.formats.cleanrl_jax import is_cleanrl_jax, read_cleanrl_jax
from teachers.formats.dopamine import is_dopamine, read_dopamine
from teachers.formats.flax_msgpack import decode, looks_like_msgpack
from teachers.formats.imported import Found, ImportedTeacher, complete
from teachers.formats.own import has_card, is_safetensors, load_tensors, read_own
from teachers.formats.pfrl import find_model, is_pfrl, read_pfrl
from teachers.formats.pickle_scan import scan_pickle
from teachers.formats.sb3 import is_sb3, read_sb3
from teachers.formats.state_dict import read_state_dict
from teachers.formats.torch_files import is_legacy_torch, is_torch_zip, load_torch

# What reads the content that `_open` gives; each takes (content, spec, *, source) and raises
# ValueError for a broken file, another network or algorithm, or one that does not fit the game.
_READERS: Mapping[str, Callable[..., Found]] = {
    "sb3": read_sb3,
    "cleanrl": read_cleanrl,
    "cleanrl_jax": read_cleanrl_jax,
    "atari_agents": read_atari_agents,
    "pfrl": read_pfrl,
    "dopamine": read_dopamine,
    "state_dict": read_state_dict,
}
# Names of the formats that are read.
FORMATS: tuple[str, ...] = ("own", *_READERS)

_LOOKED_FOR = (
    "a Stable-Baselines3 zip (data, policy.pth), a zip with a model.pt (PFRL), a torch file "
    "(CleanRL, PFRL, a plain state_dict), a gzip file (atari-agents), safetensors, flax msgpack "
    "(CleanRL in JAX), a pickle with online_params (Dopamine)"
)


# A checkpoint whose outer layers are off: its format, and what the format's reader takes.
_Opened = tuple[str, object]


def detect_format(path: Path) -> str:
    """The name in FORMATS of what a file holds, by its content; ValueError for none of them."""
    return _open(path, is_own=has_card(path))[0]


def read_checkpoint(
    path: Path, *, game: str, format: str | None = None, unsafe_pickle: bool = False
) -> ImportedTeacher:
    """Read a teacher for `game` from a checkpoint; nothing in the file is run.

    Args:
        path: the file.
        game: a registered game; its action set decides how the head is spread.
        format: a name in FORMATS, if the file must be of that format.
        unsafe_pickle: allow formats that are pickles (Dopamine). Even then only numbers are read.

    Raises:
        ValueError: an unknown game or format, a file that is broken, made to do harm, of another
            format, of a network that is not read, or for another game.
    """
    spec = get_game(game)
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    source = str(path)
    # A state_dict may lie beside a JSON file that is no card.
    opened, content = _open(path, is_own=has_card(path) and format != "state_dict")
    # Any library's file that is a torch file can also be taken for the state_dict it holds.
    if format == "state_dict" and isinstance(content, dict):
        opened = format
    if format not in (None, opened):
        raise ValueError(f"{path} is of format {opened!r}, not {format!r}")
    if opened == "own":
        return read_own(path, spec)
    if opened == "dopamine" and not unsafe_pickle:
        raise ValueError(
            f"{source} is a pickle, as Dopamine's checkpoints are; allow it with --unsafe-pickle "
            "if you trust where it comes from (even then only numbers are read from it)"
        )
    found = _READERS[opened](content, spec, source=source)
    return complete(found, spec, format=opened, source=source)


def _open(path: Path, *, is_own: bool) -> _Opened:
    source = str(path)
    if is_own:
        return ("own", path)
    data = read_file(path)
    if data.startswith(b"\x1f\x8b"):
        data = gunzip(data, source=source)
        content = load_torch(data, source=source)
        if not is_atari_agents(content):
            raise ValueError(f"{path} is gzip, but has no 'estimator_state' as atari-agents has")
        return ("atari_agents", content)
    if data.startswith(b"PK"):
        return _open_zip(data, source)
    if is_legacy_torch(data):
        return _of_torch(load_torch(data, source=source))
    if is_safetensors(data):
        return ("state_dict", load_tensors(data, source=source))
    if data.startswith(b"\x80") and is_dopamine(scan_pickle(data, source=source)):
        return ("dopamine", data)
    if looks_like_msgpack(data) and is_cleanrl_jax(content := decode(data, source=source)):
        return ("cleanrl_jax", content)
    raise ValueError(f"{path} is of no format that is read; looked for {_LOOKED_FOR}")


def _open_zip(data: bytes, source: str) -> _Opened:
    members = ZipMembers(data, source=source)
    if is_sb3(members):
        return ("sb3", members)
    if is_torch_zip(members):
        return _of_torch(load_torch(data, source=source))
    if (name := find_model(members)) is not None:
        content = load_torch(members.read(name), source=f"{source}: {name!r}")
        return ("pfrl", content)
    some = ", ".join(map(repr, members.names[:4]))[:200] or "nothing"
    raise ValueError(
        f"{source} is a zip file of no format that is read (in it: {some}); looked for "
        f"{_LOOKED_FOR}"
    )


def _of_torch(content: object) -> _Opened:
    if is_cleanrl(content):
        return ("cleanrl", content)
    if is_atari_agents(content):
        return ("atari_agents", content)
    return ("pfrl" if is_pfrl(content) else "state_dict", content)
