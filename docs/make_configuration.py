"""Writes the tables of docs/configuration.md from the dataclasses and the presets.

    python docs/make_configuration.py

Everything between two marks of the page is written by this program, and the rest by people;
tests/recipes/test_configuration_page.py fails when the page is not current.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from networks.config import TORSO_DESCRIPTIONS
from recipes.config import RunConfig
from recipes.loading import describe_preset, load_preset, preset_names
from recipes.settings import Setting, list_settings

PAGE = Path(__file__).with_name("configuration.md")


def current(text: str) -> str:
    """The page with its tables as the source has them; ValueError if a mark is missing."""
    for name, table in {"presets": _presets(), "options": _options(), "torsos": _torsos()}.items():
        begin, end = f"<!-- {name}: written by docs/make_configuration.py -->", f"<!-- /{name} -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        if not re.search(pattern, text, re.DOTALL):
            raise ValueError(f"{PAGE.name} has no place for {name}")
        text = re.sub(pattern, lambda _: f"{begin}\n\n{table}\n\n{end}", text, flags=re.DOTALL)  # noqa: B023
    return text


def _options() -> str:
    sections = []
    for group in list_settings(RunConfig):
        title = f"### `{group.name}.`" if group.name else "### The run"
        rows = ["| option | default | takes | meaning |", "|---|---|---|---|"]
        rows += [_row(setting, group.name) for setting in group.settings]
        sections.append("\n".join([title, "", group.meaning, "", *rows]))
    return "\n\n".join(sections)


def _row(setting: Setting, group: str) -> str:
    name = setting.name.removeprefix(f"{group}.")
    takes = setting.kind + (f", must {setting.limits}" if setting.limits else "")
    default = "required" if name in ("games", "num_steps") and not group else setting.shown_value
    cells = [f"`{name}`", default, takes, setting.meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _presets() -> str:
    """What each preset sets; a setting that it leaves alone has its default."""
    documents = {name: _flat(yaml.safe_load(load_preset(name))) for name in preset_names()}
    names = sorted({key for document in documents.values() for key in document})
    lines = [f"- `{name}`: {describe_preset(name)}." for name in documents]
    lines += ["", f"| | {' | '.join(f'`{name}`' for name in documents)} |"]
    lines += ["|---" * (len(documents) + 1) + "|"]
    for key in names:
        cells = [document.get(key, "") for document in documents.values()]
        lines.append(f"| `{key}` | {' | '.join(map(_shown, cells))} |")
    return "\n".join(lines)


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _torsos() -> str:
    rows = [f"| `{name}` | {what} |" for name, what in TORSO_DESCRIPTIONS.items()]
    return "\n".join(["| torso | what it is |", "|---|---|", *rows])


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
