# ruff: noqa: E402
"""The encoder against plain loops in fp64, and the three kinds of backbone."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from brainit_clusters.encoder import (
    BrainEncoder,
    EncoderConfig,
    encoder_loss,
    load_backbone,
    predict,
    predict_external,
    predict_responses,
    predict_subjects,
    reading,
)
from brainit_clusters.encoder.backbone import (
    from_dinov2,
    from_open_clip,
    from_timm,
    from_transformers,
)

CONFIG = EncoderConfig(dim=6, channels=4, taps=(1, 3), rank=2, alpha=0.5)


@pytest.fixture
def encoder(toy):
    torch.manual_seed(0)
    model = BrainEncoder(CONFIG, toy.backbone()).double().eval()
    for index, n_voxels in enumerate((5, 3)):
        generator = torch.Generator().manual_seed(index)
        model.add_subject(f"subj{index + 1:02d}", n_voxels, generator)
        # Large embeddings, so that attention is far from uniform.
        model.voxels[f"subj{index + 1:02d}"].data *= 300
    return model


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def plain_response(model, images, embedding):
    """The definition, voxel by voxel and token by token; with a key bias, which must not matter."""
    x = model.backbone.embed(images)
    key_bias = torch.linspace(-2, 2, CONFIG.dim, dtype=torch.float64)
    parts = []
    for number, block in enumerate(model.backbone.blocks, start=1):
        x = block(x)
        low = model.low_rank[number - 1]
        x = x + CONFIG.alpha / CONFIG.rank * (x @ low.b.weight.T) @ low.a.weight.T
        if number not in CONFIG.taps:
            continue
        tap = model.taps[len(parts)]
        values = tap.project(tap.norm_in(x))
        response = torch.zeros(len(images), len(embedding), CONFIG.channels, dtype=torch.float64)
        for b in range(len(images)):
            for v, e in enumerate(embedding):
                query = tap.query.weight @ e + tap.query.bias
                keys = [
                    tap.key.weight @ value + key_bias + position
                    for value, position in zip(values[b], model.position, strict=True)
                ]
                weights = [math.exp(float(query @ key)) for key in keys]
                attended = sum(w * value for w, value in zip(weights, values[b], strict=True))
                y = tap.norm(attended / sum(weights))
                response[b, v] = y + tap.fc2(nn.functional.gelu(tap.fc1(y)))
        parts.append(response)
    return torch.einsum("bvc,vc->bv", torch.cat(parts, dim=2), embedding @ model.readout_weight)


@torch.no_grad()
def test_readout_is_the_plain_form(encoder):
    torch.manual_seed(1)
    for layer in encoder.low_rank:
        layer.b.weight.normal_()
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    truth = plain_response(encoder, images, encoder.voxel_embedding("subj01"))
    assert truth.std() > 0.1
    features = encoder.features(images)
    # `read` sums the taps in float32: 2^-23 of the largest share.
    tolerance = 4 * 2.0**-23 * truth.abs().max().item()
    found = encoder.readout(features, "subj01")
    torch.testing.assert_close(found.double(), truth, atol=tolerance, rtol=0)
    some = torch.tensor([4, 0, 4])
    found = encoder.readout(features, "subj01", some)
    torch.testing.assert_close(found.double(), truth[:, some], atol=tolerance, rtol=0)
    assert encoder(images, "subj02").shape == (2, 3)


@torch.no_grad()
@pytest.mark.usefixtures("two_threads")
def test_voxels_in_blocks_are_the_readout(encoder, monkeypatch):
    """In the same memory image after image, in two threads, and in a last smaller block."""
    monkeypatch.setattr(reading, "_VOXELS", 2)
    for tap in encoder.taps:
        tap.norm.weight.normal_(1)
        tap.norm.bias.normal_()
    features = encoder.eval().features(torch.rand(3, 3, 12, 12, dtype=torch.float64))
    truth = encoder.readout(features, "subj01")
    found = predict.read_voxels(encoder, features, "subj01")
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-12 * truth.abs().max().item())
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder.float().features(torch.rand(3, 3, 12, 12))
        truth = encoder.readout(features, "subj01")
        found = predict.read_voxels(encoder, features, "subj01")
    # A dozen roundings to bfloat16's 2^-9 on the way to each of two shares.
    torch.testing.assert_close(found, truth.float(), rtol=0, atol=24 * 2.0**-9 * truth.abs().max())


@pytest.mark.usefixtures("two_threads")
def test_reading_in_threads_leaves_the_number_of_threads(encoder):
    predict_responses(encoder.float(), torch.rand(2, 3, 12, 12), "subj01")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2


@torch.no_grad()
def test_low_rank_residuals_start_at_nothing(encoder):
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    before = encoder.features(images)
    for layer in encoder.low_rank:
        layer.a.weight.normal_()
    for a, b in zip(before, encoder.features(images), strict=True):
        assert torch.equal(a, b)
    encoder.low_rank[0].b.weight.normal_()
    assert not torch.equal(before[0], encoder.features(images)[0])


def test_without_low_rank_tokens_never_change(encoder):
    plain = BrainEncoder(EncoderConfig(dim=6, channels=4, taps=(1, 3), rank=0), encoder.backbone)
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    tokens = plain.double().tokens(images)
    assert not any(part.requires_grad for part in tokens)
    for found, truth in zip(plain.values(tokens), plain.features(images), strict=True):
        assert torch.equal(found, truth)
    assert all(part.requires_grad for part in encoder.tokens(images))


def test_gradients_reach_all_but_the_backbone(encoder):
    encoder.train()
    nn.init.normal_(encoder.low_rank[0].b.weight)
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    encoder_loss(encoder(images, "subj01"), torch.randn(2, 5)).backward()
    without = {name for name, value in encoder.named_parameters() if value.grad is None}
    # b is zero after blocks 2 and 3, so a's gradient there is zero, but it is there.
    expected = {name for name, _ in encoder.named_parameters() if name.startswith("backbone.")}
    assert without == expected | {"voxels.subj02"}
    assert not encoder.backbone.training
    encoder.freeze_for_adaptation("subj02")
    free = [name for name, value in encoder.named_parameters() if value.requires_grad]
    assert free == ["voxels.subj02"]


def test_dropout_acts_in_training_alone(encoder):
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    encoder.train()
    assert not torch.equal(encoder(images, "subj01"), encoder(images, "subj01"))
    encoder.eval()
    assert torch.equal(encoder(images, "subj01"), encoder(images, "subj01"))


def test_voxel_embeddings_start_small_and_seeded(encoder):
    encoder.add_subject("a", 4000, torch.Generator().manual_seed(5))
    encoder.add_subject("b", 4000, torch.Generator().manual_seed(5))
    a, b = encoder.voxel_embedding("a"), encoder.voxel_embedding("b")
    assert torch.equal(a, b)
    # 24,000 draws: the relative error of a standard deviation is 1 / sqrt(2 * 24000) = 0.5 %.
    assert a.std().item() == pytest.approx(0.1 / (2 * math.sqrt(6)), rel=0.02)
    with pytest.raises(ValueError, match="there already"):
        encoder.add_subject("a", 3)
    with pytest.raises(ValueError, match="no subject 'c'"):
        encoder.voxel_embedding("c")


@torch.no_grad()
def test_prediction_in_blocks_is_the_readout(encoder):
    encoder.float().add_subject("many", 5000, torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)
    found = predict_subjects(encoder.train(), images, ["many", "subj02"], batch_size=2)
    assert encoder.training
    encoder.eval()
    floats = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    for name, responses in found.items():
        truth = encoder(floats, name).numpy()
        assert responses.dtype == np.float16
        # float16: 2^-11 relative, plus float32 noise of the sums.
        np.testing.assert_allclose(responses, truth, rtol=2.0**-10, atol=1e-6)
    again = predict_responses(encoder, floats, "subj02", batch_size=5)
    np.testing.assert_allclose(again, found["subj02"], rtol=2.0**-9, atol=1e-6)


def test_round_trip(encoder, tmp_path):
    nn.init.normal_(encoder.low_rank[1].b.weight)
    encoder.float().save_pretrained(tmp_path / "encoder")
    found = BrainEncoder.from_pretrained(tmp_path / "encoder", encoder.backbone)
    assert found.config == encoder.config
    assert found.subjects == ["subj01", "subj02"]
    images = torch.rand(2, 3, 12, 12)
    assert torch.equal(found(images, "subj02"), encoder(images, "subj02"))
    from safetensors.torch import load_file

    assert not [
        name
        for name in load_file(tmp_path / "encoder/model.safetensors")
        if name.startswith("backbone")
    ]
    (tmp_path / "encoder/config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json"):
        BrainEncoder.from_pretrained(tmp_path / "encoder", encoder.backbone)
    with pytest.raises(FileNotFoundError):
        BrainEncoder.from_pretrained(tmp_path, encoder.backbone)


def test_loss_by_hand():
    predicted = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    measured = torch.tensor([[1.0, 1.0], [-3.0, -4.0]])
    cosine = (1 / math.sqrt(2) - 1) / 2
    expected = (0 + 1 + 36 + 64) / 4 - 0.1 * cosine
    assert encoder_loss(predicted, measured).item() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="must both be"):
        encoder_loss(predicted, measured[:1])


@pytest.mark.parametrize(
    "wrong", [{"taps": (2, 1)}, {"taps": (0, 1)}, {"dropout": 1.0}, {"dim": 0}]
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"taps|dropout|dim"):
        EncoderConfig(**wrong)


def test_taps_beyond_the_backbone_are_refused(encoder):
    with pytest.raises(ValueError, match="tap 24: backbone 'toy' has 3 blocks"):
        BrainEncoder(EncoderConfig(), encoder.backbone)


def run_blocks(backbone, images):
    x = backbone.embed(images)
    for block in backbone.blocks:
        x = block(x)
    return x


@torch.no_grad()
def test_open_clip_backbone(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    visual = VisionTransformer(16, 4, 12, 2, 3, 2.0, output_dim=5).eval()
    assert open_clip is not None
    images = torch.rand(2, 3, 16, 16)
    mean, std = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
    normal = (images - mean[:, None, None]) / std[:, None, None]
    truth = visual.transformer(visual._embeds(normal))
    backbone = from_open_clip("tiny", visual)
    torch.testing.assert_close(run_blocks(backbone, images), truth)
    assert (backbone.n_tokens, backbone.width, backbone.image_size) == (17, 12, 16)
    assert backbone.embed(torch.rand(1, 3, 40, 40)).shape == (1, 17, 12)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@torch.no_grad()
def test_dinov2_backbone_drops_registers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=28,
        patch_size=7,
        num_register_tokens=4,
    )
    model = transformers.Dinov2WithRegistersModel(config).eval()
    backbone = from_dinov2("tiny", model, 14)
    images = torch.rand(2, 3, 14, 14)
    mean, std = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
    normal = (images - mean[:, None, None]) / std[:, None, None]
    truth = model(normal).last_hidden_state
    found = model.layernorm(run_blocks(backbone, images))
    torch.testing.assert_close(found, truth)
    assert backbone.n_tokens == 1 + 4
    torch.testing.assert_close(backbone.tokens(found), truth[:, [0, 5, 6, 7, 8]])


@torch.no_grad()
def test_timm_backbone():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **sizes).eval()
    images = torch.rand(2, 3, 16, 16)
    normal = (images - 0.5) / 0.5  # what timm says this model was trained with
    norm = model.norm
    truth = model.forward_features(normal)
    backbone = from_timm("tiny", model)
    torch.testing.assert_close(norm(run_blocks(backbone, images)), truth)
    assert backbone.n_tokens == 17


@torch.no_grad()
@pytest.mark.parametrize(("kind", "n_special"), [("ViT", 1), ("DeiT", 2), ("Dinov2", 1)])
def test_transformers_backbone(kind, n_special):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = getattr(transformers, f"{kind}Config")(**sizes, image_size=12, patch_size=4)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    backbone = from_transformers("tiny", model, {"image_mean": [0.1] * 3, "image_std": [0.3] * 3})
    images = torch.rand(2, 3, 12, 12)
    truth = model((images - 0.1) / 0.3).last_hidden_state
    found = model.layernorm(run_blocks(backbone, images))
    torch.testing.assert_close(found, truth)
    kept = [0, *range(n_special, n_special + 9)]
    torch.testing.assert_close(backbone.tokens(found), truth[:, kept])
    assert backbone.n_tokens == 10


def test_other_architectures_are_refused():
    with pytest.raises(ValueError, match="not built like transformers' ViT"):
        from_transformers("conv", SimpleNamespace(config=None), {})


def test_unknown_backbones_are_refused():
    with pytest.raises(ValueError, match="is none of dinov2:NAME"):
        load_backbone("vgg16")


@torch.no_grad()
def test_a_stopped_store_is_finished_in_the_same_numbers(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "_CHUNK", 4)
    encoder.float()
    images = np.random.default_rng(0).integers(0, 256, (11, 12, 12, 3), dtype=np.uint8)
    truth = predict_subjects(encoder, images, encoder.subjects)
    path = tmp_path / "external.h5"
    calls = []

    def stopping(*args):
        calls.append(args)
        if len(calls) == 3 * 2 - 1:  # two subjects a chunk: in the third
            raise KeyboardInterrupt
        return read(*args)

    read = predict.read_voxels
    monkeypatch.setattr(predict, "read_voxels", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict_external(path, encoder, images)
    assert not path.exists()
    with pytest.raises(ValueError, match="other images"):
        predict_external(path, encoder, images[::-1])
    patched = []
    monkeypatch.setattr(predict, "read_voxels", lambda *args: patched.append(args) or read(*args))
    predict_external(path, encoder, images)
    assert len(patched) == 2  # the third chunk alone
    with predict.ExternalResponses.open(path) as found:
        np.testing.assert_array_equal(found.images(), images)
        for name, responses in truth.items():
            np.testing.assert_array_equal(found.responses(name), responses)


def test_paper_sizes():
    """DINOv2 ViT-L/14 with registers: no weights, only shapes (on the meta device)."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = transformers.Dinov2WithRegistersConfig(
        **sizes, patch_size=14, image_size=518, num_register_tokens=4
    )
    with torch.device("meta"):
        model = transformers.Dinov2WithRegistersModel(config)
        encoder = BrainEncoder(EncoderConfig(), from_dinov2("large", model, 224))
        encoder.add_subject("subj01", 39_548)
        images = torch.rand(2, 3, 224, 224)
    backbone = encoder.backbone
    embedded = backbone.embed(images)
    assert embedded.shape == (2, 1 + 4 + 256, 1024)
    assert backbone.tokens(embedded).shape == (2, 257, 1024)
    features = encoder.features(images)
    assert [values.shape for values in features] == [(2, 257, 128)] * 5
    assert encoder.readout(features, "subj01").shape == (2, 39_548)
    assert predict.read_voxels(encoder, features, "subj01").shape == (2, 39_548)
    free = {n: v.numel() for n, v in encoder.named_parameters() if v.requires_grad}
    tap = 2 * 1024 + (1024 * 128 + 128)  # layer norm, values
    tap += (256 * 256 + 256) + 128 * 256  # queries, keys
    tap += 2 * 128 + (128 * 512 + 512) + (512 * 128 + 128)  # layer norm, MLP
    shared = 24 * 2 * 7 * 1024 + 5 * tap + 257 * 256 + 256 * 640
    assert sum(free.values()) == shared + 39_548 * 256
