"""How many files a reader opens to follow a chunk from the emulator to the gradient."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST = 27


def test_the_files_that_a_chunk_passes_through_are_few_and_all_there():
    text = (ROOT / "docs" / "architecture.md").read_text()
    listed = text.partition("open these 27 files")[2].partition("A stored transition")[0]
    files = re.findall(r"`([a-z_/0-9]+\.py)`", listed)
    assert len(set(files)) == len(files) == MOST
    assert [file for file in files if not (ROOT / file).is_file()] == []
