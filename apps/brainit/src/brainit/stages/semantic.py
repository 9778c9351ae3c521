"""Train the semantic transformer: voxels to CLIP patch tokens, by mean squared error.

A large part of a token is the same in all images, because it tells its place. The transformer
predicts what differs from that mean, in units of its standard deviation; a short training would
spend itself on the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from brainit import engine
from brainit.computing import device
from brainit.models import resolve
from brainit.profile import Decoder
from brainit.run_folder import RunFolder, replacing
from brainit.stages import decoding
from brainit.stages.images_io import as_float
from brainit_bit import BrainInteractionTransformer
from brainit_diffusion.clip_tokens import ClipTokens

MOMENTS = "tokens.safetensors"


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the semantic transformer; of an adapted one, what is the new subject's own."""
    profile = run.profile
    clip = load_clip(run)
    samples = decoding.Samples(run)
    tokens = clip.encode(as_float(samples.images)).half()
    model = decoding.build(run, "semantic", profile.semantic, [clip.n_tokens], clip.width)
    moments = load_moments(run.base) if run.base is not None else None
    task = SemanticTask(model, samples, tokens, profile.semantic, moments)
    checkpoints = run.path / "checkpoints" / f"semantic-{fingerprint[:12]}"
    engine.train(task, profile.semantic.training, checkpoints, profile.seed, run.log)
    folder = decoding.save(run, "semantic", model)
    with replacing(folder / MOMENTS) as temporary:
        save_file({"mean": task.mean, "std": task.std}, temporary)
    return {"model": folder}


def load_moments(run: RunFolder) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the tokens that a run's transformer was trained on."""
    moments = load_file(run.output("semantic", "model") / MOMENTS, str(device()))
    return moments["mean"], moments["std"]


class SemanticDecoder(nn.Module):
    """A transformer with the mean and spread of the tokens that it predicts.

    Args:
        model: The transformer.
        mean: [T, W].
        std: Scalar.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: BrainInteractionTransformer, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def load(cls, run: RunFolder) -> Self:
        """What the stage wrote, ready to predict."""
        return cls(decoding.load(run, "semantic"), *load_moments(run)).eval()

    def forward(
        self, activations: Tensor, subject: str, multiplicity: Tensor | None = None
    ) -> Tensor:
        """CLIP tokens [B, T, W] from z-scored betas [B, N_s] of a subject."""
        features: Tensor = self.model(activations, subject, multiplicity).features
        return self.mean + self.std * features.float()

    @torch.inference_mode()
    def predict(self, activations: Tensor, subject: str) -> Tensor:
        """As `forward`, from and to the host."""
        tokens: Tensor = self(activations.to(device()), subject)
        return tokens.cpu()


def load_clip(run: RunFolder) -> ClipTokens:
    """The image model whose patch tokens are decoded."""
    models = run.profile.models
    return ClipTokens.load(resolve(models.clip), models.clip_pretrained or None).to(device())


class SemanticTask(decoding.DecodingTask):
    """Responses to all patch tokens of the image that evoked them.

    Args:
        model: What is trained.
        samples: Real and external samples.
        tokens: Of all their images, [n, T, W].
        settings: The branch's part of the profile.
        moments: Mean and standard deviation that tokens are standardised by; None: their own.
    """

    name = "semantic"

    def __init__(
        self,
        model: BrainInteractionTransformer,
        samples: decoding.Samples,
        tokens: Tensor,
        settings: Decoder,
        moments: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(model, samples, settings)
        self.tokens = tokens
        moments = moments or token_moments(tokens, samples.trained_images())
        self.mean, self.std = (moment.to(device()) for moment in moments)

    def loss(self, draw: decoding.Draw) -> Tensor:
        """Mean squared error over tokens, from a random draw of voxels."""
        batch = self.samples.load(draw)
        multiplicity, _ = self.draw_voxels(batch)
        predicted = self.module(batch.activations, batch.subject, multiplicity).features
        return functional.mse_loss(predicted.float(), self._standardised(batch))

    def validate(self) -> dict[str, float]:
        """Share of the tokens' variance explained on held-out images, from all voxels."""
        error, variance = 0.0, 0.0
        for batch in self.samples.held_out("val"):
            target = self._standardised(batch)
            predicted = self.module(batch.activations, batch.subject).features
            error += float((predicted - target).square().sum())
            variance += float((target - target.mean(0)).square().sum())
        return {"score": 1 - error / variance}

    def _standardised(self, batch: decoding.Batch) -> Tensor:
        return (self.tokens[batch.images].to(device()).float() - self.mean) / self.std


def token_moments(tokens: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of some rows [T, W] and the standard deviation about it over all values, by parts."""
    parts = rows.split(512)
    mean = torch.stack([tokens[part].float().sum(0) for part in parts]).sum(0) / len(rows)
    squares = sum(float((tokens[part].float() - mean).square().sum()) for part in parts)
    return mean, torch.tensor(squares / (len(rows) * mean.numel())).sqrt()
