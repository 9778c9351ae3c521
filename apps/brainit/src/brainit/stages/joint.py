"""Stage 2: the semantic transformer and the diffusion model learn together from the diffusion loss.

Brain-IT (arXiv 2510.25976). In a run that adapts a base, the diffusion model and the transformer
are the base's, and the new subject's voxel embeddings alone learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from brainit import engine, processes
from brainit.adaptation import WEIGHTS, load_embeddings, save_embeddings
from brainit.computing import device, sent
from brainit.models import resolve
from brainit.profile import Profile
from brainit.run_folder import RunFolder, replacing
from brainit.stages import decoding
from brainit.stages.images_io import as_float
from brainit.stages.samples import Batch, Draw, Samples
from brainit.stages.semantic import SemanticDecoder
from brainit_bit import freeze_for_adaptation
from brainit_diffusion.objective import vector_condition
from brainit_diffusion.stage2 import Stage2, Stage2Config
from brainit_diffusion.unclip import UnCLIP

VALIDATION_DRAWS = 4
"""Noise levels and noises that each validation image is denoised from."""


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write what learnt: weights of both models, or a new subject's embeddings."""
    profile = run.profile
    assert profile.stage2 is not None  # the pipeline leaves this stage out of profiles without it
    unclip = UnCLIP.load(resolve(profile.models.unclip)).to(device())
    decoder = SemanticDecoder.load(run)
    both = both_of(profile, decoder, unclip)
    if run.base is not None:
        _put(both, load_file(run.base.output("joint", "model") / WEIGHTS))
        for name in profile.data.subjects:
            freeze_for_adaptation(decoder.model, f"subj{name:02d}")
        both.unet.requires_grad_(False)
    task = JointTask(both, Samples(run), unclip, profile)
    checkpoints = run.path / "checkpoints" / f"joint-{fingerprint[:12]}"
    engine.train(task, profile.stage2.training, checkpoints, profile.seed, run.log)
    folder = run.path / "joint"
    if processes.is_first():
        _save(run, folder, both)
    return {"model": folder}


def _save(run: RunFolder, folder: Path, both: Stage2) -> None:
    learnt = {
        name: p.detach().cpu().contiguous()
        for name, p in both.named_parameters()
        if p.requires_grad
    }
    if run.base is not None:
        save_embeddings(folder, learnt, run.base.output("joint", "model"))
        return
    with replacing(folder / WEIGHTS) as temporary:
        save_file(learnt, temporary)


def load(run: RunFolder) -> tuple[SemanticDecoder, UnCLIP]:
    """What makes images of scans, as stage 2 left it if the profile has one."""
    unclip = UnCLIP.load(resolve(run.profile.models.unclip)).to(device())
    decoder = SemanticDecoder.load(run)
    if run.profile.stage2 is None:
        return decoder, unclip
    both, folder = both_of(run.profile, decoder, unclip), run.output("joint", "model")
    if run.base is None:
        _put(both, load_file(folder / WEIGHTS))
    else:
        base = run.base.output("joint", "model")
        _put(both, load_file(base / WEIGHTS))
        _put(both, load_embeddings(folder, base))
    both.requires_grad_(False).eval()
    return decoder, unclip


def both_of(profile: Profile, decoder: SemanticDecoder, unclip: UnCLIP) -> Stage2:
    """Transformer and UNet as one module that learns what [stage2] says."""
    settings, scheduler = profile.stage2, unclip.pipeline.scheduler
    assert settings is not None
    config = Stage2Config(
        unet=settings.unet,
        rank=settings.rank,
        gradient_checkpointing=settings.gradient_checkpointing,
        noise_offset=settings.noise_offset,
        dropout=settings.dropout,
        prediction_type=scheduler.config.prediction_type,
    )
    return Stage2(decoder, unclip.unet, config)


@torch.no_grad()
def _put(both: Stage2, learnt: Mapping[str, Tensor]) -> None:
    parameters = dict(both.named_parameters())
    for name, value in learnt.items():
        parameters[name].copy_(value)


class JointTask(decoding.DecodingTask):
    """Responses to the latents of the image that evoked them, noised.

    Args:
        both: Transformer and UNet, as one module whose output is the loss.
        samples: Real and external samples.
        unclip: Gives the latents, and the vector condition that the UNet knows.
        profile: Its [semantic] says how voxels are drawn, its [stage2] the rest.
    """

    name = "joint"

    def __init__(self, both: Stage2, samples: Samples, unclip: UnCLIP, profile: Profile) -> None:
        assert profile.stage2 is not None
        super().__init__(both, samples, profile.semantic)
        self.batch_size = profile.stage2.training.batch_size
        side = unclip.image_size
        self.size = tuple(unclip.pipeline.config.original_size or (side, side))
        self.latents = _latents(unclip, samples)

    def epoch(self, number: int) -> Sequence[Draw]:
        """Real and external samples, shuffled, in this stage's batches."""
        return self.samples.epoch(number, self.batch_size, self.settings.external_per_real)

    def target(self, images: Tensor) -> Tensor:
        """Latents of some images, float16 [B, C, h, w]."""
        return self.latents[images]

    def loss(self, prepared: decoding.Prepared) -> Tensor:
        """Denoising loss, from a random draw of voxels."""
        return self._loss(
            prepared.batch, prepared.target, prepared.generator, prepared.multiplicity
        )

    def validate(self) -> dict[str, float]:
        """Negative loss on held-out images, from all voxels and with noises that stay the same."""
        losses = [
            float(
                self._loss(batch, self.target(batch.images), torch.Generator().manual_seed(number))
            )
            for batch in self.samples.held_out("val")
            for number in range(VALIDATION_DRAWS)
        ]
        return {"score": -sum(losses) / len(losses)}

    def _loss(
        self,
        batch: Batch,
        latents: Tensor,
        generator: torch.Generator,
        multiplicity: Tensor | None = None,
    ) -> Tensor:
        loss: Tensor = self.module(
            sent(batch.activations),
            batch.subject,
            None if multiplicity is None else sent(multiplicity),
            latents=sent(latents).float(),
            time_ids=vector_condition(len(latents), self.size, device=device()),
            generator=generator,
        )
        return loss


def _latents(unclip: UnCLIP, samples: Samples) -> Tensor:
    """Of all images, float16 [n, C, h, w], on the host."""
    parts = torch.arange(len(samples.images)).split(32)
    encoded: list[Any] = [
        unclip.encode(as_float(samples.images[rows.numpy()])).half().cpu()
        for rows in tqdm(parts, desc="latents", leave=False)
    ]
    return torch.cat(encoded)
