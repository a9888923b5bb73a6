"""What documents point to is there."""

import re

import pytest
from runs import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/results/README.md")])
FOLDERS = "|".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir()))


def headings(path):
    """Anchors of a document's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_of_a_document_lead_somewhere(document):
    text = document.read_text()
    lost = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        path = document.parent / target if target else document
        if re.match(r"\w+:", target):
            continue
        if not path.exists() or (anchor and anchor not in headings(path)):
            lost.append(f"{target}#{anchor}")
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+\.(?:py|yaml|json|md|csv|js))`", text)
    lost += [path for path in named if not (ROOT / path).exists()]
    assert not lost
