"""Train an inverter on the pictures of any folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from brainit_dip.corruption import corrupt
from brainit_dip.files import digest, replacing
from brainit_dip.image_folder import RandomCrops, list_images
from brainit_dip.inverter import Inverter, InverterConfig
from brainit_dip.stopping import stops_held
from brainit_dip.vgg import VGGFeatures

CHECKPOINT_EVERY = 1_000
GRADIENT_NORM = 1.0
MAX_SEED = 2**23
"""Seed and number of a crop or step share the 63 bits of one generator's seed."""


@dataclass(frozen=True)
class TrainingConfig:
    """How an inverter learns.

    Attributes:
        steps: Optimiser steps.
        batch_size: Images a step.
        lr: Peak learning rate of AdamW; risen to over the first 5 % of the steps, then a cosine.
        correlations: Each level of each image is corrupted to a correlation drawn evenly between
            these two (see `corrupt`); give the range that the decoder reaches.
        width: Of `InverterConfig`.
        blocks: Of `InverterConfig`.
        precision: "bfloat16" runs inverter and VGG under autocast.
        seed: Of weights, crops and corruption.
    """

    steps: int = 20_000
    batch_size: int = 32
    lr: float = 1e-3
    correlations: tuple[float, float] = (0.3, 1.0)
    width: int = 32
    blocks: int = 2
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range."""
        if not all(value > 0 for value in (self.steps, self.batch_size - 1, self.lr)):
            raise ValueError("steps, lr: expected values above zero, and batch_size of 2 or more")
        low, high = self.correlations
        if not 0 <= low <= high <= 1:
            raise ValueError(f"correlations: expected 0 <= low <= high <= 1, got {low}, {high}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision: expected float32 or bfloat16, got {self.precision!r}")
        if not 0 <= self.seed < MAX_SEED:
            raise ValueError(f"seed: expected 0 to {MAX_SEED - 1}, got {self.seed}")

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        rise = min(1.0, (step + 1) / (0.05 * self.steps))
        return self.lr * rise * (1 + cos(pi * step / self.steps)) / 2


def train_inverter(
    images: Path,
    output: Path,
    vgg: VGGFeatures,
    config: TrainingConfig | None = None,
    workers: int = 0,
    progress: bool = False,
) -> Inverter:
    """Train on random crops by `divergence`, and write the inverter to a folder.

    Resumes from `output/checkpoint.safetensors` if there is one; the file is written every 1,000
    steps and on Ctrl-C or SIGTERM, and removed at the end. A resumed run gives what an unbroken one
    gives.

    Args:
        images: Folder of pictures, searched recursively.
        output: Folder for `config.json`, `model.safetensors` and `training.json`.
        vgg: Frozen; its device is that of the computation.
        config: Settings; None is the default.
        workers: Processes that read pictures.
        progress: Show a progress bar.

    Returns:
        The inverter, frozen, on the VGG's device.

    Raises:
        FileNotFoundError: If there are no images.
        OSError: If a picture cannot be read.
        ValueError: If the checkpoint is of other settings, another VGG or number of pictures.
        KeyboardInterrupt: After a stop, with the checkpoint written.
    """
    config = config or TrainingConfig()
    files = list_images(images)
    output.mkdir(parents=True, exist_ok=True)
    made_by = {"settings": asdict(config), "vgg": digest(vgg), "images": len(files)}
    learner = _Learner(vgg, config)
    checkpoint = output / "checkpoint.safetensors"
    if checkpoint.exists():
        learner.load(checkpoint, json.dumps(made_by))
    first = len(learner.losses)
    batches = _batches(files, vgg.image_size, config, first, workers)
    steps = tqdm(range(first, config.steps), disable=not progress)
    with stops_held() as stops:
        for step, batch in zip(steps, batches, strict=True):
            learner.step(step, batch)
            if stops or (step + 1) % CHECKPOINT_EVERY == 0:
                learner.save(checkpoint, json.dumps(made_by))
            if stops:
                raise KeyboardInterrupt
    model = learner.model.eval().requires_grad_(False)
    curve = torch.stack(learner.losses).tolist()
    record = {**made_by, "loss": _thinned(curve)}
    with replacing(output / "training.json") as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")
    model.save(output)
    checkpoint.unlink(missing_ok=True)
    return model


def divergence(logits: Tensor, images: Tensor) -> Tensor:
    """Mean over values in [0, 1] of the Kullback-Leibler divergence, in nats, from their logits.

    Zero where the sigmoids of the logits are the images. As of the squared error, the best answer
    to uncertain features is their images' mean; but the gradient, a difference of values, stays
    where the sigmoid has none: once all its outputs were 0 or 1, squared error learnt no more.
    """
    entropy = -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images)).mean()
    return F.binary_cross_entropy_with_logits(logits, images) - entropy


class _Learner:
    """Model, optimiser and the losses so far."""

    def __init__(self, vgg: VGGFeatures, config: TrainingConfig) -> None:
        self.vgg, self.config = vgg, config
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            shape = InverterConfig.of(vgg, config.width, config.blocks)
            self.model = Inverter(shape).to(vgg.mean.device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=0.01, fused=True
        )
        self.losses: list[Tensor] = []

    def step(self, step: int, images: Tensor) -> None:
        config, device = self.config, self.vgg.mean.device
        images = images.to(device)
        generator = torch.Generator().manual_seed((config.seed << 40) + step)
        low, high = config.correlations
        shape = (len(self.vgg.map_shapes()), len(images))
        correlations = low + (high - low) * torch.rand(shape, generator=generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            with torch.no_grad():
                maps = [x.float() for x in self.vgg(images)]
                maps = corrupt(maps, correlations, (config.seed << 40) + step)
                if not step:
                    self.model.calibrate(maps)
            found = self.model.logits(maps)
        loss = divergence(found, images)
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate(step)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimiser.step()
        self.losses.append(loss.detach())

    def save(self, path: Path, made_by: str) -> None:
        tensors = {f"model.{k}": v.contiguous() for k, v in self.model.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v.contiguous() for k, v in moments.items()}
        tensors["losses"] = torch.stack(self.losses)
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"made_by": made_by})

    def load(self, path: Path, made_by: str) -> None:
        device = self.vgg.mean.device
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                found = (file.metadata() or {}).get("made_by")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path}: not a checkpoint: {error}") from error
        if found != made_by:
            raise ValueError(f"{path}: of another training, {found}; choose another folder")
        self.losses = list(tensors.pop("losses"))
        state: dict[int, dict[str, Tensor]] = {}
        for name in [name for name in tensors if name.startswith("optimiser.")]:
            _, index, moment = name.split(".")
            state.setdefault(int(index), {})[moment] = tensors.pop(name)
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()})
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})


def _batches(
    files: list[Path], size: int, config: TrainingConfig, first: int, workers: int
) -> Iterator[Tensor]:
    """Batches of the steps from `first` on; crop numbers go on from step to step."""
    crops = RandomCrops(files, size, config.seed)
    numbers = range(first * config.batch_size, config.steps * config.batch_size)
    loader: DataLoader[Tensor] = DataLoader(
        crops, config.batch_size, sampler=numbers, num_workers=workers
    )
    try:
        yield from loader
    except OSError as error:  # a worker's holds its traceback; the last line says what happened
        raise OSError(str(error).splitlines()[-1].removeprefix("OSError: ")) from error


def _thinned(curve: list[float], points: int = 100) -> list[float]:
    """Means of about `points` stretches of a curve."""
    width = -(-len(curve) // points)
    stretches = [curve[i : i + width] for i in range(0, len(curve), width)]
    return [sum(stretch) / len(stretch) for stretch in stretches]
