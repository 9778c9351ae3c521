"""Import of checkpoints of the reference implementation, which are pickles, without unpickling."""

from __future__ import annotations

from brainit_bit.importing.inert import UnsafeCheckpoint
from brainit_bit.importing.reference import import_reference_checkpoint

__all__ = ["UnsafeCheckpoint", "import_reference_checkpoint"]
