"""Builds the site of the project's Markdown: navigation, search, reference of the Python API.

    pip install -c constraints.txt -e '.[docs]'
    python docs/make_site.py            build/site/site/index.html, and everything that it needs
    python docs/make_site.py --serve    shows it on this machine's loopback

The pages are the files of the repository as they are: they are copied beside each other into
build/site, where links between them lead to the same places. Warnings are errors.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docs" / "site.toml"
BUILD = ROOT / "build" / "site"

# Pages, and the files that they link to.
_SHOWN = (
    "*.md", "LICENSE", "cluster*.yaml", "docs/*", "benchmarks/*.md", "benchmarks/results/*",
    "docker/*", "examples/*", "studies/*.yaml", "teachers/weights/README.md",
)  # fmt: skip
_REFERENCE = """# Reference of the Python API

What `import actor_mimic` gives, for programs that train, test and play ([examples](docs/api.md)).

::: actor_mimic
"""


def stage() -> Path:
    """Copy what is shown, under its paths in the repository; returns the site's configuration.

    Raises:
        ValueError: a page of docs/ that the navigation does not lead to.
    """
    shutil.rmtree(BUILD, ignore_errors=True)
    pages = BUILD / "pages"
    found = subprocess.run(
        ["git", "ls-files", "-z", *_SHOWN], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, found.stdout.split("\0")):
        target = pages / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    (pages / "reference.md").write_text(_REFERENCE)
    shutil.copyfile(CONFIG, BUILD / "zensical.toml")
    shown = set(_pages_of(tomllib.loads(CONFIG.read_text())["project"]["nav"]))
    if lost := sorted({f"docs/{path.name}" for path in pages.glob("docs/*.md")} - shown):
        raise ValueError(f"{CONFIG.name} leads nobody to {', '.join(lost)}")
    return BUILD / "zensical.toml"


def _pages_of(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from _pages_of(target)


def main() -> int:
    """Build, or show; returns the exit status."""
    config = str(stage())
    command = ["serve"] if "--serve" in sys.argv[1:] else ["build", "--strict", "--clean"]
    return subprocess.run(
        [sys.executable, "-m", "zensical", *command, "--config-file", config], cwd=BUILD
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
