"""Train the low-level Brain Interaction Transformer: voxels to VGG features, by contrast.

Beyond the paper, a thumbnail of the image may be one more level, learnt by squared error: what
features past a ReLU keep of colours and their layout is little, and contrast is not after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from brainit import engine
from brainit.computing import autocast, device
from brainit.models import resolve
from brainit.profile import LowLevel, Profile
from brainit.run_folder import RunFolder, replacing
from brainit.stages import decoding
from brainit.stages.images_io import as_float
from brainit_bit import (
    BrainInteractionTransformer,
    LevelCalibration,
    LevelWhitening,
    draw_queries,
    multi_scale_info_nce,
)
from brainit_dip.vgg import VGGFeatures, load_vgg
from brainit_dip.vgg_tokens import VGGTokens

TARGETS, CALIBRATION = "targets.safetensors", "calibration.safetensors"
VALIDATION_SEED = 0
MOMENTS_FROM = 400
"""Images whose features tell their covariance, and the thumbnail's its spread."""
THUMBNAIL_LOSS = 3.0
"""Weight of the thumbnail's squared error, in units of its variance, beside the mean contrast."""
KEPT_BYTES = 2 * 2**30
"""Features of all images are computed once and kept if they fit; otherwise in each step."""


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the low-level transformer and the calibration of its features.

    In a run that adapts a base, the targets and their calibration are the base's.
    """
    profile = run.profile
    vgg = load_target(profile)
    samples = decoding.Samples(run)
    layout = layout_of(vgg)
    settings = profile.low_level
    model = decoding.build(run, "low_level", settings, layout.level_sizes, layout.token_dim)
    base = run.base and run.base.output("low_level", "model")
    targets = Targets.load(base / TARGETS) if base else None
    task = LowLevelTask(model, samples, vgg, settings, targets)
    checkpoints = run.path / "checkpoints" / f"low_level-{fingerprint[:12]}"
    engine.train(task, settings.training, checkpoints, profile.seed, run.log)
    folder = decoding.save(run, "low_level", model)
    task.targets.save(folder / TARGETS)
    calibrated = LevelCalibration.load(base / CALIBRATION) if base else task.calibrate()
    calibrated.save(folder / CALIBRATION)
    return {"model": folder, "calibration": folder / CALIBRATION}


def load_target(profile: Profile) -> VGGFeatures:
    """The VGG whose feature maps, and thumbnail if any, the low-level branch decodes."""
    return load_vgg(resolve(profile.models.vgg), profile.low_level.thumbnail).to(device())


def layout_of(vgg: VGGFeatures) -> VGGTokens:
    """How the feature maps of a VGG are laid out as tokens."""
    return VGGTokens(vgg.widths, vgg.image_size, vgg.thumbnail)


@dataclass(frozen=True)
class Targets:
    """How the targets of the loss are made of features: decided by a first training's images.

    Attributes:
        whitening: Of the VGG's tokens; None leaves them as they are.
        thumbnail: Mean and standard deviation of the thumbnail's values, if there is one.
    """

    whitening: LevelWhitening | None
    thumbnail: tuple[Tensor, Tensor] | None

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {}
        if self.whitening is not None:
            tensors |= {"mean": self.whitening.mean, "map": self.whitening.map}
        if self.thumbnail is not None:
            tensors["thumbnail"] = torch.stack(self.thumbnail)
        with replacing(path) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(path, str(device()))
        whitening = (
            LevelWhitening.restored(tensors["mean"], tensors["map"]) if "mean" in tensors else None
        )
        mean_and_std = tensors.get("thumbnail")
        return cls(whitening, None if mean_and_std is None else (mean_and_std[0], mean_and_std[1]))


class LowLevelTask(decoding.DecodingTask):
    """Responses to a random draw of the image's VGG tokens."""

    name = "low_level"

    def __init__(
        self,
        model: BrainInteractionTransformer,
        samples: decoding.Samples,
        vgg: VGGFeatures,
        settings: LowLevel,
        targets: Targets | None = None,
    ) -> None:
        super().__init__(model, samples, settings)
        self.queries = settings.queries
        self.vgg = vgg
        self.layout = layout_of(vgg)
        values = sum(prod(shape) for shape in vgg.map_shapes())
        small = 2 * values * len(samples.images) <= KEPT_BYTES
        self.kept = self._all_features(values) if small else None
        self.n_contrasted = sum(self.layout.level_sizes[: len(vgg.widths)])
        self.targets = targets or Targets(
            self._whitening() if settings.whiten else None,
            self._thumbnail_moments() if vgg.thumbnail else None,
        )

    def loss(self, draw: decoding.Draw) -> Tensor:
        """Symmetric InfoNCE over the tokens that the batch draws, and the thumbnail's error."""
        batch = self.samples.load(draw)
        multiplicity, generator = self.draw_voxels(batch)
        queries, levels = self._draw_queries(generator)
        predicted = self.module(batch.activations, batch.subject, multiplicity, queries).features
        return self._loss(predicted, batch, queries, levels)

    def validate(self) -> dict[str, float]:
        """Negative loss on held-out images, with one fixed draw of tokens."""
        queries, levels = self._draw_queries(torch.Generator().manual_seed(VALIDATION_SEED))
        losses = []
        for batch in self.samples.held_out("val"):
            predicted = self.module(batch.activations, batch.subject, queries=queries).features
            losses.append(float(self._loss(predicted, batch, queries, levels)))
        return {"score": -sum(losses) / len(losses)}

    @torch.inference_mode()
    def calibrate(self) -> LevelCalibration:
        """Fit on held-out images what contrast leaves open: the scale of features."""
        fit = LevelCalibration(self.layout.level_sizes, self.layout.token_dim)
        everything = torch.arange(self.layout.n_tokens, device=device())
        for batch in self.samples.held_out("val"):
            predicted = self.module(batch.activations, batch.subject).features
            parts = zip(
                predicted.chunk(2), self._targets(batch.images, everything).chunk(2), strict=True
            )
            for part in parts:
                fit.update(*part)
        return fit.solve()

    def _draw_queries(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Query tokens and their levels, on the computing device."""
        drawn = draw_queries(self.layout.level_sizes, self.queries, generator)
        return drawn[0].to(device()), drawn[1].to(device())

    def _loss(
        self, predicted: Tensor, batch: decoding.Batch, queries: Tensor, levels: Tensor
    ) -> Tensor:
        with torch.autocast(predicted.device.type, enabled=False):
            predicted, target = predicted.float(), self._targets(batch.images, queries)
            n = int((queries < self.n_contrasted).sum())  # queries are in the order of levels
            vgg, of_vgg = target[:, :n], levels[:n]
            if self.targets.whitening:
                vgg = self.targets.whitening(vgg, of_vgg)
            loss = multi_scale_info_nce(predicted[:, :n], vgg, of_vgg)
            if self.targets.thumbnail is None:
                return loss
            mean, std = self.targets.thumbnail
            error = functional.mse_loss(predicted[:, n:], (target[:, n:] - mean) / std)
            return loss + THUMBNAIL_LOSS * error

    def _targets(self, images: Tensor, queries: Tensor) -> Tensor:
        """Features of some tokens of images, [B, Q, D]."""
        values = self.kept[images] if self.kept is not None else self._features(images)
        return self.layout.take(values.to(device()), queries).float()

    def _whitening(self) -> LevelWhitening:
        tokens = torch.arange(self.n_contrasted, device=device())
        values = self._targets(self._some_images(), tokens)
        return LevelWhitening(values, self.layout.level_sizes[: len(self.vgg.widths)])

    def _thumbnail_moments(self) -> tuple[Tensor, Tensor]:
        tokens = torch.arange(self.n_contrasted, self.layout.n_tokens, device=device())
        values = self._targets(self._some_images(), tokens)
        return values.mean(), values.std()

    def _some_images(self) -> Tensor:
        """Images that are trained on, evenly spread over the table."""
        trained = self.samples.trained_images()
        return trained[torch.linspace(0, len(trained) - 1, MOMENTS_FROM).long().unique()]

    def _all_features(self, values: int) -> Tensor:
        kept = torch.empty(len(self.samples.images), values, dtype=torch.float16)
        for rows in tqdm(torch.arange(len(kept)).split(64), desc="features", leave=False):
            kept[rows] = self._features(rows).half().cpu()
        return kept

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        pictures = as_float(self.samples.images[images.numpy()]).to(device())
        with autocast(self.settings.training.precision):
            return self.layout.flatten(self.vgg(pictures))
