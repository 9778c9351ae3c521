"""The tiny CLIP: an open_clip model whose patch tokens say what is where.

A vision transformer over 8 x 8 patches and a word-level text tower are trained with the contrastive
loss on scenes and their captions. On so few scenes that loss alone leaves the patches vague, so
three linear heads, thrown away afterwards, ask each patch token which sprite covers it, which
colours it holds and where it lies. Without the last, a UNet that attends to the tokens could not
tell which of them lie where it draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast

from brainit.simulation.scenes import IMAGE_SIZE, PALETTE, TEXTURES, sprites
from brainit.zoo.data import SceneTable, training_scenes
from brainit.zoo.files import write_model
from brainit.zoo.trainer import Plan, Trainer

STEPS = 3_200
BATCH = 64
PLACE = 1.0
PATCH = 12
GRID = IMAGE_SIZE // PATCH
WIDTH = 128
CONTEXT = 32
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
PLACES = ("top", "middle", "bottom", "left", "centre", "right")


def words() -> list[str]:
    """The vocabulary: special words first, then every word that a caption can hold."""
    plain = {"a", "an", "and", "before", *PLACES, *PALETTE, *TEXTURES}
    plain |= {word for sprite in sprites() for word in sprite.name.split()}
    return [*SPECIAL, *sorted(plain)]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level tokenizer that wraps a sentence in start and end."""
    vocabulary = {word: index for index, word in enumerate(words())}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=CONTEXT,
    )


def model_config() -> dict[str, Any]:
    """The model's part of `open_clip_config.json`."""
    return {
        "embed_dim": 96,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
            "width": WIDTH,
            "layers": 4,
            "head_width": 32,
            "mlp_ratio": 4.0,
            "pool_type": "avg",
            "output_tokens": False,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(words()),
            "width": 96,
            "heads": 3,
            "layers": 2,
            "pool_type": "eos",
            "eos_id": SPECIAL.index("<end>"),
            "hf_tokenizer_name": "words",
        },
    }


def build() -> open_clip.CLIP:
    """A new model of `model_config`."""
    return open_clip.CLIP(**model_config())


def patch_tokens(visual: nn.Module, images: Tensor) -> Tensor:
    """Output of the last block at the patches, before the final norm [B, 64, 128].

    Args:
        visual: The vision tower.
        images: Normalised with CLIP's mean and std [B, 3, 96, 96].
    """
    tokens: Tensor = visual.transformer(visual._embeds(images))  # type: ignore[operator]
    return tokens[:, 1:]


def normalise(images: Tensor) -> Tensor:
    """[0, 1] images to CLIP's mean and std."""
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images - mean) / std


class Learner(nn.Module):
    """The CLIP with the three patch heads of the training."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = build()
        self.what = nn.Linear(WIDTH, len(sprites()) + 1)
        self.colours = nn.Linear(WIDTH, 27)
        self.where = nn.Linear(WIDTH, GRID**2)

    def loss(self, images: Tensor, texts: Tensor, objects: Tensor) -> Tensor:
        """Contrastive loss plus the three patch losses.

        Args:
            images: [B, 3, 96, 96] in [0, 1].
            texts: Token ids [B, 32].
            objects: Object table [B, 3, 4].
        """
        visual = self.clip.visual
        # Of torch's attentions on a CPU the plain one has by far the fastest backward in bfloat16.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            raw = patch_tokens(visual, normalise(images))
            tokens = visual.ln_post(raw)
            image = F.normalize((tokens.mean(1) @ visual.proj).float(), dim=-1)
            text = F.normalize(self.clip.encode_text(texts).float(), dim=-1)
            what, colours = self.what(tokens).float(), self.colours(tokens).float()
        logits = self.clip.logit_scale.exp().clamp(max=100) * image @ text.T
        same = torch.arange(len(images))
        contrast = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        weight = torch.ones(len(sprites()) + 1)
        weight[-1] = 0.2
        naming = F.cross_entropy(what.flatten(0, 1), patch_labels(objects).flatten(), weight)
        # Asked of the tokens that the UNet reads, before the norm.
        where = self.where(raw.float()).flatten(0, 1)
        places = torch.arange(GRID**2).repeat(len(images))
        return (
            contrast
            + naming
            + F.mse_loss(colours, patch_colours(images))
            + PLACE * F.cross_entropy(where, places)
        )


def patch_labels(objects: Tensor) -> Tensor:
    """Which sprite covers each patch centre [B, 64], 80 for none; later objects lie in front."""
    centres = (torch.arange(GRID) + 0.5) * PATCH
    labels = torch.full((len(objects), GRID, GRID), len(sprites()))
    for row in objects.unbind(1):
        index, x, y, size = (v[:, None, None] for v in row.unbind(1))
        inside = (centres[None, :, None] - y).abs().maximum((centres - x).abs()) < 0.45 * size
        labels = torch.where(inside & (index >= 0), index.long(), labels)
    return labels.flatten(1)


def patch_colours(images: Tensor) -> Tensor:
    """Mean colours of the 3 x 3 cells of each patch, [-2, 2] [B, 64, 27]."""
    cells = F.avg_pool2d(images, PATCH // 3) * 4 - 2
    return F.unfold(cells, 3, stride=3).transpose(1, 2)


def flipped(images: Tensor, texts: Tensor, objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mirrored scenes: left and right change places in the captions too."""
    left, right = (words().index(word) for word in ("left", "right"))
    swapped = texts.clone()
    swapped[texts == left], swapped[texts == right] = right, left
    moved = objects.clone()
    moved[..., 1] = torch.where(objects[..., 0] >= 0, IMAGE_SIZE - objects[..., 1], -1)
    return images.flip(3), swapped, moved


def caption_variants(table: SceneTable) -> list[list[str]]:
    """Each caption in full, without its background, and with the names alone."""
    full = list(table.captions)
    objects = [caption.rsplit(" before ", 1)[0] for caption in full]
    names = [" ".join(w for w in text.split() if w not in PLACES) for text in objects]
    return [full, objects, names]


def train(output: Path, seed: int = 0, steps: int = STEPS, resume: bool = True) -> Path:
    """Train and write `output/clip`; see `brainit.zoo.recipes.train` for the arguments."""
    table = training_scenes(output / "work" / "scenes")
    tokenizer = make_tokenizer()
    texts = torch.stack([_ids(tokenizer, variant) for variant in caption_variants(table)])
    objects = torch.from_numpy(table.objects)
    torch.manual_seed(seed)
    learner = Learner()

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(table), (BATCH,), generator=generator)
        draw = torch.rand(BATCH, generator=generator)
        variant = (draw > 0.6).long() + (draw > 0.8).long()
        batch = (table.batch(rows.numpy()), texts[variant, rows], objects[rows])
        # One flip for the whole batch keeps the code plain and costs nothing.
        if torch.rand(1, generator=generator) < 0.5:
            batch = flipped(*batch)
        return learner.loss(*batch)

    plan = Plan(steps, rate=1e-3, warmup=200, weight_decay=0.05, betas=(0.9, 0.98), seed=seed)
    Trainer(learner, loss_of, plan, output / "work" / "clip").fit(resume)
    sample = normalise(table.batch(np.arange(256)))
    unit_tokens(learner.clip, sample)
    return write_clip(learner.clip, output / "clip")


@torch.no_grad()
def unit_tokens(clip: open_clip.CLIP, images: Tensor) -> None:
    """Scale the residual stream so that patch tokens have standard deviation one, in place.

    Every reader of the stream is a layer norm, so the model computes the same as before.
    """
    scale = 1 / patch_tokens(clip.visual, images).std()
    writers: list[Any] = [clip.visual.ln_pre]
    for block in clip.visual.transformer.resblocks:
        writers += [block.attn.out_proj, block.mlp.c_proj]
    for writer in writers:
        writer.weight.mul_(scale)
        writer.bias.mul_(scale)


def write_clip(clip: open_clip.CLIP, folder: Path) -> Path:
    """Write weights, `open_clip_config.json` and the tokenizer's files."""
    config = {
        "model_cfg": model_config(),
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }
    write_model(
        folder, "open_clip_model.safetensors", clip.state_dict(), {"open_clip_config.json": config}
    )
    make_tokenizer().save_pretrained(folder)
    return folder


def _ids(tokenizer: PreTrainedTokenizerFast, sentences: list[str]) -> Tensor:
    rows = tokenizer(sentences, padding="max_length", truncation=True, max_length=CONTEXT)
    return torch.tensor(rows["input_ids"])
