# ruff: noqa: E402
"""Import of the reference encoder's parameters, against its own form written out in float64."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from torch import nn

from brainit_clusters.encoder import import_reference_encoder

N, E, C, T, W, R, HIDDEN, ALPHA = 7, 6, 4, 10, 8, 2, 8, 0.3
TAPS = (1, 3)
SUBJECTS = {"subj01": 4, "subj02": 3}


@pytest.fixture
def state():
    """Random parameters by the reference's names; float32 as it stores them."""
    torch.manual_seed(0)
    shapes = {"voxel_embed": (N, E), "feat_embed": (E, len(TAPS) * C), "pos_embed": (T, E)}
    for tap in range(len(TAPS)):
        shapes |= {
            f"norm_in.{tap}.weight": (W,),
            f"norm_in.{tap}.bias": (W,),
            f"in_project.{tap}.weight": (C, W),
            f"in_project.{tap}.bias": (C,),
            f"map_att.{tap}.project.weight": (E, E),
            f"map_att.{tap}.project.bias": (E,),
            f"map_att.{tap}.project_x.weight": (E, C),
            f"map_att.{tap}.project_x.bias": (E,),
            f"norm.{tap}.weight": (C,),
            f"norm.{tap}.bias": (C,),
            f"mlp.{tap}.fc1.weight": (HIDDEN, C),
            f"mlp.{tap}.fc1.bias": (HIDDEN,),
            f"mlp.{tap}.fc2.weight": (C, HIDDEN),
            f"mlp.{tap}.fc2.bias": (C,),
        }
    for block in range(TAPS[-1]):
        shapes |= {f"lora_A.{block}.weight": (W, R), f"lora_B.{block}.weight": (R, W)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def reference(state, backbone, images):
    """The reference's equations, an image and a voxel at a time: [B, N]."""
    p = {name: value.double() for name, value in state.items()}

    def linear(name, x):
        return p[f"{name}.weight"] @ x + p[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean()
        scaled = centred / (centred.square().mean() + 1e-5).sqrt()
        return p[f"{name}.weight"] * scaled + p[f"{name}.bias"]

    def gelu(x):
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    responses = torch.empty(len(images), N, dtype=torch.float64)
    for b, image in enumerate(images):
        x = backbone.embed(image[None])[0]
        tapped = []
        for number, block in enumerate(backbone.blocks):
            x = block(x[None])[0]
            low = [p[f"lora_A.{number}.weight"] @ (p[f"lora_B.{number}.weight"] @ t) for t in x]
            x = x + ALPHA / R * torch.stack(low)
            if number + 1 in TAPS:
                tapped.append(x)
        for v, embedding in enumerate(p["voxel_embed"]):
            features = []
            for tap, tokens in enumerate(tapped):
                values = [linear(f"in_project.{tap}", norm(f"norm_in.{tap}", t)) for t in tokens]
                query = linear(f"map_att.{tap}.project", embedding)
                keys = [
                    linear(f"map_att.{tap}.project_x", value) + position
                    for value, position in zip(values, p["pos_embed"], strict=True)
                ]
                weights = torch.stack([query @ key for key in keys]).softmax(dim=0)
                attended = sum(w * value for w, value in zip(weights, values, strict=True))
                y = norm(f"norm.{tap}", attended)
                features.append(y + linear(f"mlp.{tap}.fc2", gelu(linear(f"mlp.{tap}.fc1", y))))
            responses[b, v] = torch.cat(features) @ (embedding @ p["feat_embed"])
    return responses


@pytest.fixture
def backbone(toy):
    torch.manual_seed(1)
    return toy.backbone()


@torch.no_grad()
@pytest.mark.parametrize("swapped", [False, True])
def test_imported_encoder_is_the_references_form(state, backbone, swapped):
    given = dict(state)
    if swapped:  # the two low-rank matrices under each other's name, as elsewhere in use
        for block in range(TAPS[-1]):
            pair = f"lora_A.{block}.weight", f"lora_B.{block}.weight"
            given |= {pair[0]: state[pair[1]], pair[1]: state[pair[0]]}
    given["pos_embed"] = state["pos_embed"][None]
    found = import_reference_encoder(given, SUBJECTS, backbone, taps=TAPS, alpha=ALPHA).double()
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    truth = reference(state, found.backbone, images)
    assert truth.std() > 1
    # Sums of some hundred float64 products of size up to the largest response.
    tolerance = 1e-12 * truth.abs().max().item()
    for name, part in zip(SUBJECTS, truth.split(list(SUBJECTS.values()), dim=1), strict=True):
        torch.testing.assert_close(found(images, name), part, atol=tolerance, rtol=0)


def test_files_of_tensors_are_read(state, backbone, tmp_path):
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    given = {"subjects": SUBJECTS, "backbone": backbone, "taps": TAPS, "alpha": ALPHA}
    truth = import_reference_encoder(state, **given).state_dict()
    for name in ("a.safetensors", "a.pt"):
        found = import_reference_encoder(tmp_path / name, **given).state_dict()
        assert all(torch.equal(found[key], value) for key, value in truth.items())


def test_pickled_modules_are_refused_with_a_way_out(backbone, tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"module\.pt: holds more than tensors.*safetensors"):
        import_reference_encoder(tmp_path / "module.pt", SUBJECTS, backbone)
    (tmp_path / "text.pt").write_text("no tensors")
    with pytest.raises(ValueError, match=r"text\.pt"):
        import_reference_encoder(tmp_path / "text.pt", SUBJECTS, backbone)
    torch.save({"epoch": 3}, tmp_path / "more.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        import_reference_encoder(tmp_path / "more.pt", SUBJECTS, backbone)
    with pytest.raises(FileNotFoundError):
        import_reference_encoder(tmp_path / "none.pt", SUBJECTS, backbone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.1.bias": None}, r"1 parameters are missing, the first is taps\.1\.norm\.bias"),
        ({"lora_B.2.weight": None}, r"missing, the first is low_rank\.2\.b\.weight"),
        ({"head.weight": torch.ones(2)}, "no place for"),
        ({"mlp.0.fc3.weight": torch.ones(2, 2)}, "no place for"),
        ({"norm.2.bias": torch.ones(C)}, r"1 parameters too many, the first is taps\.2"),
        ({"pos_embed": torch.ones(T + 4, E)}, r"position: expected \[10, 6\], got \[14, 6\]"),
        ({"feat_embed": torch.ones(2 * C, E)}, "readout_weight: expected"),
        ({"voxel_embed": torch.ones(N + 1, E)}, "8 voxels, the subjects have 7"),
        ({"norm.0.bias": torch.full((C,), torch.nan)}, "holds NaN"),
    ],
)
def test_what_does_not_fit_is_refused(state, backbone, change, message):
    given = {name: value for name, value in {**state, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        import_reference_encoder(given, SUBJECTS, backbone, taps=TAPS)
