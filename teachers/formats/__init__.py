"""Readers of checkpoints from other libraries; see docs/teachers.md for what each one reads.

    imported = read_checkpoint(Path("dqn-PongNoFrameskip-v4.zip"), game="pong")
    save_expert(imported.network, imported.card_fields, "pong.safetensors", half=False)

Reading a checkpoint runs nothing in it.
"""

from teachers.formats.imported import ImportedTeacher
from teachers.formats.reading import FORMATS, detect_format, read_checkpoint

__all__ = ["FORMATS", "ImportedTeacher", "detect_format", "read_checkpoint"]
