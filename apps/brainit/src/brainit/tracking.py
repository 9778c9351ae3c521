"""Figures of a training on TensorBoard, or on any other tracker that accelerate knows by name.

`metrics.jsonl` stays the record; a tracker shows it while the training runs.
"""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from brainit.computing import device

DEFAULT = "tensorboard"


class Tracker:
    """One training's curves.

    Args:
        name: "tensorboard", "wandb", "mlflow", ... as accelerate calls them.
        folder: Where trackers that write files do so.
        task: What is trained.
        epoch: The first epoch that will be logged; what TensorBoard has of later ones, from before
            a crash, is dropped.

    Raises:
        ValueError: accelerate does not know the name, or its package is not installed. Without
            TensorBoard, the default, there are no curves.
    """

    def __init__(self, name: str, folder: Path, task: str, epoch: int) -> None:
        cpu = device().type == "cpu"
        self._accelerator = Accelerator(cpu=cpu, log_with=name, project_dir=folder / name)
        self._accelerator.init_trackers(task, init_kwargs={DEFAULT: {"purge_step": epoch}})
        if not self._accelerator.trackers and name != DEFAULT:
            raise ValueError(f"tracker {name!r}: its package is not installed")

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Add an epoch's figures."""
        self._accelerator.log(figures, step=epoch)
