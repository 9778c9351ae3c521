"""Fit the encoder, or one more subject in an encoder that stays as it is.

Universal Brain Encoder (arXiv 2406.12179), Brain-IT (arXiv 2510.25976).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from brainit_clusters._files import fingerprint, replacing
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.task import EncoderTask

_LAST, _BEST = "last.safetensors", "best.safetensors"
_MODEL, _MOMENTS = "model.", "optimiser."


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How an encoder is fitted; the defaults are the paper's.

    Attributes:
        epochs: Times that every training image is shown.
        learning_rate: Of Adam with AMSGrad, at the start.
        batch_size: Images a batch.
        voxels_per_image: Random voxels that a batch reads out.
        max_shift: Images are shifted by up to so many pixels.
        patience: The learning rate falls to a tenth when the validation score, the 75th
            percentile of the voxels' correlations, has stalled for more than so many epochs.
        bfloat16: Whether products are computed in bfloat16 (autocast).
        seed: Of new voxel embeddings, batches and dropout.
    """

    epochs: int = 30
    learning_rate: float = 1e-3
    batch_size: int = 32
    voxels_per_image: int = 5000
    max_shift: int = 3
    patience: int = 4
    bfloat16: bool = False
    seed: int = 0


def fit_encoder(
    encoder: BrainEncoder,
    dataset: BrainDataset,
    folder: str | Path,
    config: FitConfig | None = None,
    progress: bool = False,
) -> list[dict[str, float]]:
    """Fit everything but the backbone to all subjects of a dataset; the best epoch is kept.

    Subjects that the encoder does not know yet are added.

    Args:
        encoder: Changed in place, on the device where it is; in evaluation mode afterwards.
        dataset: Images and betas; "train" is fitted, "val" chooses epoch and learning rate.
        folder: Where the state after each epoch is kept. A fit that was interrupted goes on from
            there, to the same numbers on the same machine; one that ended is read back.
        config: How; None for the paper's way.
        progress: Show progress bars.

    Returns:
        Of each epoch: "epoch" from 1, "loss", "learning_rate", "score", "median_correlation".

    Raises:
        ValueError: if the folder holds another fit, or a subject does not fit the encoder.
        RuntimeError: if the loss stops being a number.
    """
    config = config or FitConfig()
    generator = torch.Generator().manual_seed(config.seed)
    for name in dataset.subjects:
        if name not in encoder.subjects:
            encoder.add_subject(name, dataset.subject(name, in_memory=False).n_voxels, generator)
    return _fit(encoder, dataset, dataset.subjects, Path(folder), config, progress)


def fit_subject(
    encoder: BrainEncoder,
    dataset: BrainDataset,
    subject: str,
    folder: str | Path,
    config: FitConfig | None = None,
    progress: bool = False,
) -> list[dict[str, float]]:
    """Add one subject by its voxel embeddings alone; all else stays as it is.

    Args:
        encoder: Fitted to other subjects. What was trainable is so again afterwards.
        dataset: Holds the subject.
        subject: Its name.
        folder: As of `fit_encoder`; so are what is returned and raised.
        config: How; None for the paper's way.
        progress: Show progress bars.
    """
    config = config or FitConfig()
    if subject not in encoder.subjects:
        generator = torch.Generator().manual_seed(config.seed)
        encoder.add_subject(subject, dataset.subject(subject, in_memory=False).n_voxels, generator)
    before = {name: value.requires_grad for name, value in encoder.named_parameters()}
    encoder.freeze_for_adaptation(subject)
    try:
        return _fit(encoder, dataset, [subject], Path(folder), config, progress)
    finally:
        for name, value in encoder.named_parameters():
            value.requires_grad_(before[name])


def _fit(
    encoder: BrainEncoder,
    dataset: BrainDataset,
    subjects: list[str],
    folder: Path,
    config: FitConfig,
    progress: bool,
) -> list[dict[str, float]]:
    task = EncoderTask(
        encoder,
        dataset,
        subjects,
        batch_size=config.batch_size,
        voxels_per_image=config.voxels_per_image,
        max_shift=config.max_shift,
        seed=config.seed,
    )
    trained = {name: value for name, value in encoder.named_parameters() if value.requires_grad}
    optimiser = Adam(trained.values(), lr=config.learning_rate, amsgrad=True)
    schedule = ReduceLROnPlateau(optimiser, "max", patience=config.patience, threshold=0)
    mark = _mark(encoder, dataset, subjects, config)
    history = _resume(folder / _LAST, mark, trained, optimiser)
    for past in history:
        schedule.step(past["score"])
    for epoch in range(len(history), config.epochs):
        figures = {"epoch": epoch + 1, "learning_rate": optimiser.param_groups[0]["lr"]}
        figures |= _epoch(task, optimiser, config, epoch, progress)
        history.append(figures)
        schedule.step(figures["score"])
        if not any(past["score"] >= figures["score"] for past in history[:-1]):
            with replacing(folder / _BEST) as temporary:
                save_file(_tensors(trained), temporary)
        _save(folder / _LAST, mark, history, trained, optimiser)
    _copy(load_file(folder / _BEST), trained)
    encoder.eval()
    return history


def _epoch(
    task: EncoderTask, optimiser: Adam, config: FitConfig, epoch: int, progress: bool
) -> dict[str, float]:
    """Mean loss of one epoch, then what the validation images say."""
    encoder = task.module
    device = encoder.readout_weight.device
    precision = torch.autocast(device.type, torch.bfloat16, config.bfloat16)
    label = f"{task.name} {epoch + 1}/{config.epochs}"
    devices = [device] if device.type == "cuda" else []
    batches, total = task.epoch(epoch), 0.0
    encoder.train()
    with torch.random.fork_rng(devices):
        torch.manual_seed(config.seed * 100_003 + epoch)
        for batch in tqdm(batches, desc=label, unit="batch", leave=False, disable=not progress):
            optimiser.zero_grad()
            with precision:
                loss = task.loss(task.load(batch))
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
    if not math.isfinite(total):
        raise RuntimeError(f"{task.name}: the loss is {total} in epoch {epoch + 1}")
    encoder.eval()
    with precision:
        return {"loss": total / len(batches), **task.validate()}


def _mark(
    encoder: BrainEncoder, dataset: BrainDataset, subjects: list[str], config: FitConfig
) -> str:
    """What decides every number of a fit but how long it is."""
    how = {name: value for name, value in asdict(config).items() if name != "epochs"}
    what = (asdict(encoder.config), encoder.backbone.name, subjects, fingerprint(dataset.path))
    return json.dumps([how, *what])


def _resume(
    path: Path, mark: str, trained: Mapping[str, nn.Parameter], optimiser: Adam
) -> list[dict[str, float]]:
    """Restore weights and moments in place; figures of the epochs that are done."""
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("mark") != mark:
        raise ValueError(
            f"{path}: left by a fit of other data or settings; delete it to begin anew"
        )
    _copy({name.removeprefix(_MODEL): value for name, value in tensors.items()}, trained)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(_MOMENTS):
            parameter, _, kind = name.removeprefix(_MOMENTS).partition("/")
            moments.setdefault(list(trained).index(parameter), {})[kind] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
    history: list[dict[str, float]] = json.loads(metadata["history"])
    return history


def _save(
    path: Path,
    mark: str,
    history: list[dict[str, float]],
    trained: Mapping[str, nn.Parameter],
    optimiser: Adam,
) -> None:
    tensors = {f"{_MODEL}{name}": value for name, value in _tensors(trained).items()}
    for name, value in trained.items():
        moments = optimiser.state.get(value, {})
        tensors |= {f"{_MOMENTS}{name}/{kind}": t.contiguous() for kind, t in moments.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"mark": mark, "history": json.dumps(history)})


def _tensors(trained: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in trained.items()}


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], trained: Mapping[str, nn.Parameter]) -> None:
    for name, value in trained.items():
        value.copy_(tensors[name])
