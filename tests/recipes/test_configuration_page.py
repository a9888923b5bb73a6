"""docs/configuration.md is what the dataclasses and presets say."""

import runpy

from runs import ROOT

PROGRAM = runpy.run_path(str(ROOT / "docs" / "make_configuration.py"))


def test_the_page_is_current():
    page = PROGRAM["PAGE"].read_text()
    assert page == PROGRAM["current"](page), "run python docs/make_configuration.py"


def test_every_option_has_a_meaning_on_the_page():
    rows = [row for row in PROGRAM["_options"]().splitlines() if row.startswith("| `")]
    assert len(rows) > 60
    assert not [row for row in rows if row.endswith("|  |")]
