"""Train the semantic transformer: voxels to CLIP patch tokens, by mean squared error.

A large part of a token is the same in all images, because it tells its place. The transformer
predicts what differs from that mean, in units of its standard deviation; a short training would
spend itself on the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from brainit import engine, processes
from brainit.computing import device, host_memory, sent
from brainit.models import resolve
from brainit.profile import Decoder
from brainit.run_folder import RunFolder, replacing
from brainit.stages import decoding
from brainit.stages.images_io import as_float
from brainit.stages.samples import Samples
from brainit_bit import BrainInteractionTransformer
from brainit_diffusion.clip_tokens import ClipTokens
from brainit_diffusion.token_store import TokenStore, write_tokens

ReadTokens = Callable[[Tensor], Tensor]
"""Tokens float16 [n, T, W] of images by their indices int64 [n], on the host; from any thread."""


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the semantic transformer."""
    profile = run.profile
    clip = load_clip(run)
    samples = Samples(run)
    tokens = store_tokens(run, samples, clip)
    model = decoding.build(run, profile.semantic, [clip.n_tokens], clip.width)
    task = SemanticTask(model, samples, tokens, profile.semantic)
    checkpoints = run.path / "checkpoints" / f"semantic-{fingerprint[:12]}"
    engine.train(task, profile.semantic.training, checkpoints, profile.seed, run.log)
    folder = run.path / "semantic"
    if processes.is_first():
        model.save_pretrained(folder)
        with replacing(folder / "tokens.safetensors") as temporary:
            save_file({"mean": task.mean, "std": task.std}, temporary)
    return {"model": folder}


class SemanticDecoder:
    """A trained transformer with the mean and spread of the tokens that it predicts.

    Args:
        folder: What the stage wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.model = decoding.load(folder)
        self.tokens = load_file(folder / "tokens.safetensors", str(device()))

    @torch.inference_mode()
    def __call__(self, activations: Tensor, subject: str) -> Tensor:
        """Predict CLIP tokens [B, T, W] from z-scored betas [B, N_s] of a subject."""
        features: Tensor = self.model(activations.to(device()), subject).features
        return (self.tokens["mean"] + self.tokens["std"] * features).cpu()


def load_clip(run: RunFolder) -> ClipTokens:
    """The image model whose patch tokens are decoded."""
    models = run.profile.models
    return ClipTokens.load(resolve(models.clip), models.clip_pretrained or None).to(device())


def store_tokens(run: RunFolder, samples: Samples, clip: ClipTokens) -> ReadTokens:
    """Write the tokens of all images, if they are not written yet; how they are read by rows.

    They are kept beside the checkpoints, under what decides them.
    """
    names = [run.profile.models.clip, run.profile.models.clip_pretrained]
    key = run.fingerprint(names, ("prepare", "external"))
    ids = [str(row) for row in range(len(samples.images))]

    def encode(rows: range) -> Tensor:
        return clip.encode(as_float(samples.images[np.array(rows)]))

    folder = run.path / "checkpoints" / f"tokens-{key[:12]}"
    if processes.is_first():
        write_tokens(folder, ids, encode, {"clip": names}, progress=True)
    processes.wait()
    store = TokenStore(folder)

    def read(rows: Tensor) -> Tensor:
        out = host_memory(len(rows), *store.shape[1:], dtype=store.dtype)
        return store.read([ids[row] for row in rows.tolist()], out)

    return read


class SemanticTask(decoding.DecodingTask):
    """Responses to all patch tokens of the image that evoked them."""

    name = "semantic"

    def __init__(
        self,
        model: BrainInteractionTransformer,
        samples: Samples,
        tokens: ReadTokens,
        settings: Decoder,
    ) -> None:
        super().__init__(model, samples, settings)
        self.tokens = tokens
        moments = token_moments(tokens, samples.trained_images())
        self.mean, self.std = (moment.to(device()) for moment in moments)

    def target(self, images: Tensor) -> Tensor:
        """Tokens of some images as they are stored, [B, T, W]."""
        return self.tokens(images)

    def loss(self, prepared: decoding.Prepared) -> Tensor:
        """Mean squared error over tokens, from a random draw of voxels."""
        predicted = self.predict(prepared.batch, prepared.multiplicity)
        return functional.mse_loss(predicted.float(), self._standardised(prepared.target))

    def validate(self) -> dict[str, float]:
        """Share of the tokens' variance explained on held-out images, from all voxels."""
        error, variance = 0.0, 0.0
        for batch in self.samples.held_out("val"):
            target = self._standardised(self.target(batch.images))
            predicted = self.predict(batch)
            error += float((predicted - target).square().sum())
            variance += float((target - target.mean(0)).square().sum())
        return {"score": 1 - error / variance}

    def _standardised(self, tokens: Tensor) -> Tensor:
        return (sent(tokens).float() - self.mean) / self.std


def token_moments(tokens: ReadTokens, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of some rows [T, W] and the standard deviation about it over all values, by parts."""
    parts = rows.split(512)
    mean = torch.stack([tokens(part).float().sum(0) for part in parts]).sum(0) / len(rows)
    squares = sum(float((tokens(part).float() - mean).square().sum()) for part in parts)
    return mean, torch.tensor(squares / (len(rows) * mean.numel())).sqrt()
