"""Work that many processes share without talking to each other: who takes what."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

# What tells a process its number, of how many, and its number on its machine: torchrun and
# accelerate launch, then Slurm's srun (not sbatch, whose script is one process of no step).
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


@dataclass(frozen=True)
class Share:
    """One of `count` equal shares, `index` from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """From "0/8" to "7/8".

        Raises:
            ValueError: It is nothing like that.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not int(found[1]) < int(found[2]):
            raise ValueError(f"--shard {text}: expected INDEX/COUNT, from 0/8 to 7/8 for eight")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def launched(cls) -> Share:
        """What the launcher of this process says; everything without a launcher.

        Processes on one machine are dealt its GPUs.
        """
        for index, count, local in _LAUNCHERS:
            if index in os.environ and count in os.environ:
                import torch

                if torch.cuda.is_available():
                    torch.cuda.set_device(int(os.environ[local]) % torch.cuda.device_count())
                return cls(int(os.environ[index]), int(os.environ[count]))
        return cls()

    def takes(self, number: int) -> bool:
        """Whether a piece of work, by its number from 0, is in this share."""
        return number % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
