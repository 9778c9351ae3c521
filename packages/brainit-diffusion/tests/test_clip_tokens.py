"""CLIP tokens against open_clip's own forward pass and torchvision's preprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import to_pil_image

from brainit_diffusion.clip_tokens import ClipTokens

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
CONFIG: dict[str, Any] = {
    "embed_dim": 10,
    "vision_cfg": {
        "image_size": 24,
        "patch_size": 8,
        "width": 16,
        "layers": 2,
        "head_width": 8,
        "pool_type": "tok",
    },
    "text_cfg": {"context_length": 4, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    save_file(model.state_dict(), result / "open_clip_model.safetensors")
    preprocess = {"mean": MEAN, "std": STD, "size": 24}
    text = json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess})
    (result / "open_clip_config.json").write_text(text)
    return result


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipTokens:
    return ClipTokens.load(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(5, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_sizes(clip: ClipTokens) -> None:
    assert (clip.n_tokens, clip.width, clip.image_size) == (9, 16, (24, 24))


def test_tokens_are_the_last_block_without_the_class_token(
    clip: ClipTokens, images: torch.Tensor
) -> None:
    caught: list[torch.Tensor] = []
    hook = clip.visual.transformer.resblocks[-1].register_forward_hook(
        lambda _, __, output: caught.append(output)
    )
    embedding = clip.visual(normalised(images))
    hook.remove()
    tokens = clip.encode(images, batch_size=2)
    # Only the batch differs.
    assert torch.allclose(tokens, caught[0][:, 1:], atol=1e-5)
    assert tokens.shape == (5, 9, 16)
    assert torch.allclose(clip.embed(images, batch_size=3), embedding, atol=1e-5)
    assert not tokens.requires_grad


def test_mindeye2_pixels_are_shifted_before_the_normalisation(
    folder: Path, clip: ClipTokens, images: torch.Tensor
) -> None:
    public = ClipTokens.load(f"local-dir:{folder}", pixels="mindeye2")
    assert torch.allclose(public._pixels(images), normalised((images + 1) / 2), atol=1e-6)
    # Resized first, as the public code does: a shift and a resizing commute but for clipping.
    sharp = (torch.rand(2, 3, 50, 50, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    assert torch.equal(public.encode(sharp), clip.encode((clip.resize(sharp) + 1) / 2))
    with pytest.raises(ValueError, match="expected clip or mindeye2"):
        ClipTokens(clip.visual, MEAN, STD, pixels="sgm")  # type: ignore[arg-type]


def test_final_norm_gives_open_clips_own_token_output(folder: Path, images: torch.Tensor) -> None:
    normed = ClipTokens.load(f"local-dir:{folder}", final_norm=True)
    tokens = normed.encode(images)
    normed.visual.output_tokens = True
    _, expected = normed.visual(normalised(images))
    assert torch.allclose(tokens, expected, atol=1e-6)
    assert not torch.allclose(tokens, ClipTokens.load(f"local-dir:{folder}").encode(images))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_half_precision_is_as_close_as_rounding_allows(
    precision: Any, dtype: torch.dtype, folder: Path, clip: ClipTokens, images: torch.Tensor
) -> None:
    half = ClipTokens.load(f"local-dir:{folder}", precision=precision)
    assert half.visual.transformer.resblocks[0].attn.in_proj_weight.dtype == dtype
    assert half.visual.ln_post.weight.dtype == torch.float32
    tokens, truth = half.encode(images), clip.encode(images)
    assert tokens.dtype == torch.float32
    error = (tokens - truth).norm() / truth.norm()
    # Embedding and two blocks round about 20 times in a row on the way to a token, each time by
    # at most half a unit; independent, they would add up to less.
    assert 0 < error < 20 * torch.finfo(dtype).eps / 2


def test_weights_come_from_a_file_by_name(tmp_path: Path, images: torch.Tensor) -> None:
    open_clip.add_model_config(_named(tmp_path, CONFIG))
    torch.manual_seed(3)
    model = open_clip.CLIP(**CONFIG)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    clip = ClipTokens.load("tiny-by-name", str(tmp_path / "weights.safetensors"))
    expected = ClipTokens(model.visual, clip.mean.flatten().tolist(), clip.std.flatten().tolist())
    assert torch.equal(clip.encode(images), expected.encode(images))


def _named(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "tiny-by-name.json").write_text(json.dumps(config))
    return folder / "tiny-by-name.json"


def test_fingerprint_tells_models_and_conventions_apart(folder: Path) -> None:
    def load(**choice: Any) -> str:
        return ClipTokens.load(f"local-dir:{folder}", **choice).fingerprint()

    choices: list[dict[str, Any]] = [
        {},
        {"pixels": "mindeye2"},
        {"final_norm": True},
        {"precision": "bf16"},
    ]
    marks = [load(**choice) for choice in choices]
    assert len(set(marks)) == len(choices)
    assert load() == marks[0]
    other = ClipTokens.load(f"local-dir:{folder}")
    other.visual.proj.data[0, 0] += 1e-3
    assert other.fingerprint() not in marks


def test_images_of_another_size_are_prepared_as_by_open_clip(
    folder: Path, clip: ClipTokens, images: torch.Tensor
) -> None:
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    # Mid-greys, because PIL clips between its two passes.
    smooth = torch.nn.functional.interpolate(0.3 + 0.4 * images, (50, 50), mode="bilinear")
    picture: Image.Image = to_pil_image(smooth[0])
    expected: Any = preprocess(picture)
    # PIL rounds before, between and after its passes, each by 0.5/255, and a pass has weights of
    # at most 1.3 in all: below 2/255, over the smallest deviation, 0.2.
    assert (clip._pixels(smooth)[0] - expected).abs().max() < 2 / 255 / 0.2


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="open_clip_config"):
        ClipTokens.load(f"local-dir:{tmp_path}")


def test_wrong_images(clip: ClipTokens, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="float"):
        clip.encode((images * 255).byte())
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        clip.encode(images[:, :1])


def test_other_towers_are_refused() -> None:
    with pytest.raises(ValueError, match="VisionTransformer"):
        ClipTokens(torch.nn.Linear(2, 2), MEAN, STD)
