"""Train the low-level Brain Interaction Transformer: voxels to VGG features, by contrast.

Beyond the paper, a thumbnail of the image may be one more level, learnt by squared error: what
features past a ReLU keep of colours and their layout is little, and contrast is not after it.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from brainit import engine, processes
from brainit.computing import autocast, device, sent
from brainit.models import resolve
from brainit.profile import LowLevel, Profile
from brainit.run_folder import RunFolder
from brainit.stages import decoding
from brainit.stages.images_io import as_float
from brainit.stages.samples import Samples
from brainit_bit import (
    BrainInteractionTransformer,
    LevelCalibration,
    LevelWhitening,
    draw_queries,
    multi_scale_info_nce,
)
from brainit_dip.vgg import VGGFeatures, load_vgg
from brainit_dip.vgg_tokens import VGGTokens

VALIDATION_SEED = 0
MOMENTS_FROM = 400
"""Images whose features tell their covariance, and the thumbnail's its spread."""
THUMBNAIL_LOSS = 3.0
"""Weight of the thumbnail's squared error, in units of its variance, beside the mean contrast."""
KEPT_BYTES = 2 * 2**30
"""Features of all images are computed once and kept if they fit; otherwise in each step."""


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the low-level transformer and the calibration of its features."""
    profile = run.profile
    vgg = load_target(profile)
    samples = Samples(run)
    layout = layout_of(vgg)
    model = decoding.build(run, profile.low_level, layout.level_sizes, layout.token_dim)
    task = LowLevelTask(model, samples, vgg, profile.low_level)
    checkpoints = run.path / "checkpoints" / f"low_level-{fingerprint[:12]}"
    engine.train(task, profile.low_level.training, checkpoints, profile.seed, run.log)
    folder, calibration = run.path / "low_level", run.path / "low_level" / "calibration.safetensors"
    if processes.is_first():
        model.save_pretrained(folder)
        task.calibrate().save(calibration)
    return {"model": folder, "calibration": calibration}


def load_target(profile: Profile) -> VGGFeatures:
    """The VGG whose feature maps, and thumbnail if any, the low-level branch decodes."""
    return load_vgg(resolve(profile.models.vgg), profile.low_level.thumbnail).to(device())


def layout_of(vgg: VGGFeatures) -> VGGTokens:
    """How the feature maps of a VGG are laid out as tokens."""
    return VGGTokens(vgg.widths, vgg.image_size, vgg.thumbnail)


class LowLevelTask(decoding.DecodingTask):
    """Responses to a random draw of the image's VGG tokens."""

    name = "low_level"

    def __init__(
        self,
        model: BrainInteractionTransformer,
        samples: Samples,
        vgg: VGGFeatures,
        settings: LowLevel,
    ) -> None:
        super().__init__(model, samples, settings)
        self.queries = settings.queries
        self.vgg = vgg
        self.layout = layout_of(vgg)
        values = sum(prod(shape) for shape in vgg.map_shapes())
        small = 2 * values * len(samples.images) <= KEPT_BYTES
        self.kept = self._all_features(values) if small else None
        self.n_contrasted = sum(self.layout.level_sizes[: len(vgg.widths)])
        self.whitening = self._whitening() if settings.whiten else None
        self.thumbnail = self._thumbnail_moments() if vgg.thumbnail else None

    def target(self, images: Tensor) -> Tensor:
        """What the features of some images are made of: kept features, or pictures."""
        if self.kept is not None:
            return self.kept[images]
        return torch.from_numpy(self.samples.images[images.numpy()])

    def loss(self, prepared: decoding.Prepared) -> Tensor:
        """Symmetric InfoNCE over the tokens that the batch draws, and the thumbnail's error."""
        queries, levels = self._draw_queries(prepared.generator)
        predicted = self.predict(prepared.batch, prepared.multiplicity, queries)
        return self._loss(predicted, prepared.target, queries, levels)

    def validate(self) -> dict[str, float]:
        """Negative loss on held-out images, with one fixed draw of tokens."""
        queries, levels = self._draw_queries(torch.Generator().manual_seed(VALIDATION_SEED))
        losses = []
        for batch in self.samples.held_out("val"):
            predicted = self.predict(batch, queries=queries)
            losses.append(float(self._loss(predicted, self.target(batch.images), queries, levels)))
        return {"score": -sum(losses) / len(losses)}

    @torch.inference_mode()
    def calibrate(self) -> LevelCalibration:
        """Fit on held-out images what contrast leaves open: the scale of features."""
        fit = LevelCalibration(self.layout.level_sizes, self.layout.token_dim)
        everything = torch.arange(self.layout.n_tokens, device=device())
        for batch in self.samples.held_out("val"):
            true = self._tokens(self.target(batch.images), everything)
            for part in zip(self.predict(batch).chunk(2), true.chunk(2), strict=True):
                fit.update(*part)
        return fit.solve()

    def _draw_queries(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Query tokens and their levels, on the computing device."""
        drawn = draw_queries(self.layout.level_sizes, self.queries, generator)
        return drawn[0].to(device()), drawn[1].to(device())

    def _loss(self, predicted: Tensor, target: Tensor, queries: Tensor, levels: Tensor) -> Tensor:
        with torch.autocast(predicted.device.type, enabled=False):
            predicted, target = predicted.float(), self._tokens(target, queries)
            n = int((queries < self.n_contrasted).sum())  # queries are in the order of levels
            vgg, of_vgg = target[:, :n], levels[:n]
            if self.whitening:
                vgg = self.whitening(vgg, of_vgg)
            loss = multi_scale_info_nce(predicted[:, :n], vgg, of_vgg)
            if self.thumbnail is None:
                return loss
            mean, std = self.thumbnail
            error = functional.mse_loss(predicted[:, n:], (target[:, n:] - mean) / std)
            return loss + THUMBNAIL_LOSS * error

    def _tokens(self, target: Tensor, queries: Tensor) -> Tensor:
        """Features of some tokens of the images of a target, [B, Q, D]."""
        values = sent(target) if self.kept is not None else self._features(target)
        return self.layout.take(values, queries).float()

    def _whitening(self) -> LevelWhitening:
        tokens = torch.arange(self.n_contrasted, device=device())
        values = self._tokens(self._some_images(), tokens)
        return LevelWhitening(values, self.layout.level_sizes[: len(self.vgg.widths)])

    def _thumbnail_moments(self) -> tuple[Tensor, Tensor]:
        tokens = torch.arange(self.n_contrasted, self.layout.n_tokens, device=device())
        values = self._tokens(self._some_images(), tokens)
        return values.mean(), values.std()

    def _some_images(self) -> Tensor:
        """Target of images that are trained on, evenly spread over the table."""
        trained = self.samples.trained_images()
        return self.target(
            trained[torch.linspace(0, len(trained) - 1, MOMENTS_FROM).long().unique()]
        )

    def _all_features(self, values: int) -> Tensor:
        images = self.samples.images
        kept = torch.empty(len(images), values, dtype=torch.float16)
        for rows in tqdm(torch.arange(len(kept)).split(64), desc="features", leave=False):
            pictures = torch.from_numpy(images[rows.numpy()])
            kept[rows] = self._features(pictures).half().cpu()
        return kept

    @torch.no_grad()
    def _features(self, pictures: Tensor) -> Tensor:
        with autocast(self.settings.training.precision):
            return self.layout.flatten(self.vgg(as_float(sent(pictures))))
