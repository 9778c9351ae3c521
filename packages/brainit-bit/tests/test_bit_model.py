"""The Brain Interaction Transformer as a whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from small_model import CONFIG, activations, make_model
from torch import Tensor, nn
from torch.nn import functional

from brainit_bit import (
    BITConfig,
    BrainInteractionTransformer,
    draw_voxels,
    freeze_for_adaptation,
)
from brainit_bit.cross_transformer import CrossBlock, SelfAttentionBlock
from brainit_bit.ops.cluster_attention.reference import cluster_attention_reference


def test_tokenizer_equals_graph_form() -> None:
    model = make_model(torch.float64)
    voxels, tokenizer = model.voxels("subj01"), model.tokenizer
    drawn = draw_voxels(40, 30, 3, torch.Generator().manual_seed(3))
    attended = cluster_attention_reference(
        activations(dtype=torch.float64),
        voxels.by_voxel(),
        voxels.labels,
        tokenizer.query(tokenizer.centres),
        tokenizer.key.weight,
        torch.ones(16, dtype=torch.float64),
        tokenizer.value.weight,
        tokenizer.value.bias,
        drawn,
    )
    expected = tokenizer.norm((attended + tokenizer.skip(tokenizer.centres)).relu())
    tokens = tokenizer(activations(dtype=torch.float64), voxels, drawn)
    torch.testing.assert_close(tokens, expected, rtol=1e-11, atol=1e-11)


def test_order_of_voxels_does_not_matter() -> None:
    model = make_model(torch.float64)
    shuffle = torch.randperm(40, generator=torch.Generator().manual_seed(4))
    voxels = model.voxels("subj01")
    model.add_subject("shuffled", voxels.labels[shuffle], voxels.by_voxel()[shuffle])
    model.double()
    model.voxels("shuffled").embedding.data = voxels.embedding.data.new_tensor(
        voxels.by_voxel()[shuffle][model.voxels("shuffled").order].tolist()
    )
    x = activations(dtype=torch.float64)
    torch.testing.assert_close(
        model(x, "subj01").features, model(x[:, shuffle], "shuffled").features
    )


def test_cross_block_equals_torch_multi_head_attention() -> None:
    block = CrossBlock(16, 4, 4).double()
    queries, tokens = torch.randn(3, 7, 16).double(), torch.randn(3, 6, 16).double()
    normalised = block.norm(tokens).transpose(0, 1)
    update, attention = functional.multi_head_attention_forward(
        queries.transpose(0, 1),
        normalised,
        normalised,
        16,
        4,
        torch.cat([torch.eye(16).double(), block.key_value.weight]),
        None,
        None,
        None,
        False,
        0.0,
        block.projection.weight,
        block.projection.bias,
        average_attn_weights=False,
    )
    update = update.transpose(0, 1)
    expected = queries + update + block.mlp(update)
    for return_attention in (False, True):
        result, weights = block(queries, tokens, return_attention)
        torch.testing.assert_close(result, expected)
    torch.testing.assert_close(weights, attention)


def test_self_attention_block_equals_torch_encoder_layer() -> None:
    block = SelfAttentionBlock(16, 4, 4).double()
    layer = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    names = {
        "self_attn.in_proj_weight": block.qkv.weight,
        "self_attn.in_proj_bias": torch.zeros(48),
        "self_attn.out_proj.weight": block.projection.weight,
        "self_attn.out_proj.bias": block.projection.bias,
        "linear1.weight": block.mlp[1].weight,
        "linear1.bias": block.mlp[1].bias,
        "linear2.weight": block.mlp[3].weight,
        "linear2.bias": block.mlp[3].bias,
        "norm1.weight": block.norm.weight,
        "norm1.bias": block.norm.bias,
        "norm2.weight": block.mlp[0].weight,
        "norm2.bias": block.mlp[0].bias,
    }
    layer.load_state_dict(names)
    tokens = torch.randn(3, 6, 16).double()
    torch.testing.assert_close(block(tokens), layer(tokens))


def test_bfloat16_attention_keeps_gradients() -> None:
    block = CrossBlock(16, 4, 4)
    queries, tokens = torch.randn(3, 7, 16, requires_grad=True), torch.randn(3, 6, 16)
    truth = torch.autograd.grad(block(queries, tokens)[0].square().sum(), queries)[0]
    with torch.autocast("cpu", torch.bfloat16):
        result = block(queries, tokens)[0]
    ours = torch.autograd.grad(result.float().square().sum(), queries)[0]
    # Some ten roundings in a row at 2^-9 each.
    assert (ours - truth).norm() < 10 * 2**-9 * truth.norm()


def test_query_subsets_equal_the_full_run() -> None:
    model = make_model(torch.float64)
    x = activations(dtype=torch.float64)
    full = model(x, "subj01").features
    assert full.shape == (3, 10, 5)
    some = torch.tensor([8, 1, 1])
    torch.testing.assert_close(model(x, "subj01", queries=some).features, full[:, some])
    own = torch.tensor([[0, 9], [4, 4], [7, 2]])
    torch.testing.assert_close(
        model(x, "subj01", queries=own).features, full[torch.arange(3)[:, None], own]
    )


def test_attention_maps_on_request() -> None:
    model = make_model()
    plain = model(activations(), "subj01")
    assert plain.attention is None
    mapped = model(activations(), "subj01", return_attention=True)
    torch.testing.assert_close(mapped.features, plain.features, rtol=1e-4, atol=1e-4)
    assert [tuple(one.shape) for one in mapped.attention] == [(3, 4, 10, 6)] * 3
    for one in mapped.attention:
        torch.testing.assert_close(one.sum(-1), torch.ones(3, 4, 10))


def test_attention_weights_exist_only_where_maps_are_asked_for() -> None:
    model, shapes = make_model(), []

    def keep(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape[-2:]))
        return tensor

    for return_attention in (False, True):
        shapes.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(activations(), "subj01", return_attention=return_attention)
        # 10 query tokens on 6 brain tokens.
        assert ((10, 6) in shapes) == return_attention
        assert (6, 6) not in shapes


@pytest.mark.parametrize("preset", ["semantic", "low_level"])
def test_parameters_at_paper_size(preset: str) -> None:
    with torch.device("meta"):
        config = getattr(BITConfig, preset)()
        model = BrainInteractionTransformer(config)
        model.add_subject("subj01", torch.arange(39_548, device="cpu") % 128)
    d, tokens, features = 512, *((256, 1664) if preset == "semantic" else (7190, 512))
    linear = d * d + d
    mlp = 2 * d + (4 * d * d + 4 * d) + linear * 4 - 3 * d
    tokenizer = 128 * d + 3 * linear + d * d + 2 * d  # the key has no bias
    self_block = 2 * d + 3 * d * d + linear + mlp
    cross_block = 2 * d + 2 * d * d + linear + mlp
    expected = tokenizer + 5 * self_block + 6 * cross_block
    expected += tokens * d + features * d + features + 39_548 * d
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_initial_scale() -> None:
    model = BrainInteractionTransformer(BITConfig(dim=64, n_query_tokens=400))
    model.add_subject("subj01", [0] * 400)
    # 25,600 draws: their standard deviation is within five times 1/sqrt(2 * 25,600) of the truth.
    for values in (model.query_tokens, model.voxels("subj01").embedding):
        assert float(values.std()) == pytest.approx(0.1 / (2 * 64**0.5), rel=0.0221)


def test_embedding_draw_depends_on_the_generator_alone() -> None:
    one, other = make_model(), make_model()
    torch.manual_seed(1)
    for model, labels in ((one, [0, 1, 2, 3]), (other, [3, 2, 1, 0])):
        model.add_subject("new", labels, generator=torch.Generator().manual_seed(5))
    assert torch.equal(one.voxels("new").by_voxel(), other.voxels("new").by_voxel())


def test_given_embedding_is_kept_in_voxel_order() -> None:
    model = make_model()
    start = torch.randn(4, 16)
    model.add_subject("new", [3, 0, 3, 1], start)
    assert torch.equal(model.voxels("new").by_voxel(), start)
    assert model.voxels("new").order.tolist() == [1, 3, 0, 2]


def test_save_and_load(tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    (tmp_path / "ordinary").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert modes == {(tmp_path / "ordinary").stat().st_mode}
    loaded = BrainInteractionTransformer.from_pretrained(tmp_path / "model")
    assert loaded.config == CONFIG
    assert loaded.subjects == ["subj01", "subj02"]
    for subject, n_voxels in (("subj01", 40), ("subj02", 25)):
        x = activations(n_voxels)
        assert torch.equal(model(x, subject).features, loaded(x, subject).features)


def test_state_of_other_labels_is_sorted_again() -> None:
    model, other = make_model(), make_model()
    model.remove_subject("subj01")
    labels = 4 - other.voxels("subj01").labels
    model.add_subject("subj01", labels)
    other.load_state_dict(model.state_dict())
    x = activations()
    assert torch.equal(model(x, "subj01").features, other(x, "subj01").features)


def test_broken_folders(tmp_path: Path) -> None:
    load = BrainInteractionTransformer.from_pretrained
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"expected a file config\.json"):
        load(tmp_path)
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"dim": 32}, r"query_tokens: config\.json means \[10, 32\], the file has \[10, 16\]$"),
        ({"n_rounds": 3}, r"blocks\.2.*means \[16\], the file has None$"),
        ({"subjects": ["subj01"]}, r"subj02.*means None, the file has \[25"),
        ({"subjects": ["s"]}, r"no entry '_voxels\.s\.labels'$"),
        ({"n_clusters": 3}, r"labels of 'subj01': expected clusters in \[0, 3\)"),
        ({"width": 1}, "width"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match="not a Brain Interaction Transformer") as refused:
            load(tmp_path)
        assert re.search(message, str(refused.value))
        assert "\n" not in str(refused.value)
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="unreadable"):
        load(tmp_path)


def test_adaptation_trains_one_embedding() -> None:
    model = make_model()
    embedding = freeze_for_adaptation(model, "subj02")
    assert [name for name, one in model.named_parameters() if one.requires_grad] == [
        "_voxels.subj02.embedding"
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW([embedding], lr=1e-2)
    target = torch.randn(3, 10, 5)
    losses = []
    for _ in range(20):
        loss = (model(activations(25), "subj02").features - target).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < losses[0]
    changed = [n for n, value in model.state_dict().items() if not torch.equal(value, before[n])]
    assert changed == ["_voxels.subj02.embedding"]


def test_subjects_come_and_go() -> None:
    model = make_model()
    model.remove_subject("subj01")
    assert model.subjects == ["subj02"]
    with pytest.raises(ValueError, match=r"unknown subject 'subj01'.*subj02"):
        model(activations(), "subj01")


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("new", [0, 6], r"\[0, 6\)"),
        ("new", [-1, 0], r"\[0, 6\)"),
        ("new", [0.0, 1.0], "expected integers"),
        ("new", [[0, 1]], "expected integers"),
        ("subj01", [0, 1], "expected a new identifier"),
        ("sub.01", [0, 1], "expected a new identifier"),
    ],
)
def test_subjects_that_do_not_fit(name: str, labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model().add_subject(name, labels)


def test_embedding_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"expected \[2, 16\]"):
        make_model().add_subject("new", [0, 1], torch.zeros(2, 8))


def test_input_that_does_not_fit() -> None:
    model, x = make_model(), activations()
    spoilt = x.clone()
    spoilt[1, 3], spoilt[2, 3] = torch.nan, torch.inf
    for wrong, keywords, message in (
        (x[:, :39], {}, r"expected \[B, 40\]"),
        (spoilt, {}, "2 values are NaN or infinite"),
        (x, {"multiplicity": torch.ones(3, 39)}, "multiplicity"),
        ([x], {}, r"expected \[B, 40\], got list"),
        (x, {"multiplicity": -torch.ones(3, 40)}, ">= 0"),
        (x, {"multiplicity": torch.full((3, 40), torch.nan)}, "finite"),
        (x, {"multiplicity": torch.full((3, 40), torch.inf)}, "finite"),
        (x, {"queries": torch.tensor([10])}, r"\[0, 10\)"),
        (x, {"queries": torch.tensor([-1])}, r"\[0, 10\)"),
        (x, {"queries": torch.zeros(2, 4, dtype=torch.int64)}, "3 rows"),
        (x, {"queries": torch.tensor([0.0])}, "int64"),
        (x, {"queries": torch.ones(10, dtype=torch.bool)}, "int64"),
        (x, {"queries": torch.tensor(3)}, "int64"),
    ):
        with pytest.raises(ValueError, match=message):
            model(wrong, "subj01", **keywords)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        BITConfig(dim=30, n_heads=8)
    with pytest.raises(ValueError, match="n_clusters"):
        BITConfig(n_clusters=0)
