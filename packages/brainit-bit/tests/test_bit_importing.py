"""Checkpoints of the reference implementation: equal outputs, whole modules and state dicts."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainit_bit.importing import UnsafeCheckpoint, import_reference_checkpoint
from brainit_bit.importing.inert import Record
from brainit_bit.importing.reader import read_checkpoint

N_VOXELS = {"subj01": 40, "subj02": 25}
K, D, T, HEADS, FEATURES, ROUNDS = 6, 16, 10, 8, 5, 2
LABELS = {
    # The last cluster holds no voxel.
    name: torch.randint(0, 5, (n,), generator=torch.Generator().manual_seed(n))
    for name, n in N_VOXELS.items()
}


class GraphAttention(nn.Module):
    """One head from clusters to voxels over the edges of a graph, each cluster by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.lin_key, self.lin_query = nn.Linear(D, D), nn.Linear(D, D)
        self.lin_value, self.lin_skip = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, voxels: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
        keys, values, queries = (
            self.lin_key(voxels),
            self.lin_value(voxels),
            self.lin_query(centers),
        )
        rows = []
        for c in range(len(centers)):
            mine = labels == c
            weights = (keys[mine] @ queries[c] / D**0.5).softmax(0)
            rows.append(weights @ values[mine] + self.lin_skip(centers[c]))
        return torch.stack(rows)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Attention(nn.Module):
    """Self-attention with `parts` 3 (qkv), or attention of given queries with `parts` 2 (kv)."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.num_heads = HEADS
        setattr(self, "qkv" if parts == 3 else "kv", nn.Linear(D, parts * D, bias=False))
        self.proj = nn.Linear(D, D)

    def forward(self, x: Tensor, query: Tensor | None = None) -> Tensor:
        rows = (self.qkv if query is None else self.kv)(x)
        split = [rows[:, i * D : (i + 1) * D] for i in range(rows.shape[1] // D)]
        query, key, value = split if query is None else (query, *split)
        width, mixed = D // HEADS, []
        for head in range(HEADS):
            mine = slice(head * width, (head + 1) * width)
            weights = (query[:, mine] @ key[:, mine].T / width**0.5).softmax(-1)
            mixed.append(weights @ value[:, mine])
        return self.proj(torch.cat(mixed, 1))


class Block(nn.Module):
    def __init__(self, parts: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(D), Attention(parts)
        self.norm2, self.mlp = nn.LayerNorm(D), Mlp()

    def forward(self, x: Tensor, query: Tensor | None = None) -> Tensor:
        if query is None:
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        y = self.attn(self.norm1(x), query)
        return query + y + self.mlp(self.norm2(y))


class Decoder(nn.Module):
    """The reference layout, one image at a time, everything written out."""

    def __init__(self) -> None:
        super().__init__()
        self.voxel_embed = nn.Parameter(torch.randn(sum(N_VOXELS.values()), D))
        self.centers = nn.Parameter(torch.randn(K, D))
        self.pred_tokens = nn.Parameter(torch.randn(T, D))
        self.conv_centers, self.norm_centers = GraphAttention(), nn.LayerNorm(D)
        self.blocks = nn.ModuleList(Block(3) for _ in range(ROUNDS))
        self.block_crosses = nn.ModuleList(Block(2) for _ in range(ROUNDS + 1))
        self.proj = nn.Linear(D, FEATURES)
        self.register_buffer("voxel_cluster", torch.cat(list(LABELS.values())))
        self.activation = nn.functional.relu
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, x: Tensor, first: int) -> Tensor:
        rows = slice(first, first + len(x))
        voxels = x[:, None] * self.voxel_embed[rows]
        tokens = self.conv_centers(voxels, self.centers, self.voxel_cluster[rows])
        tokens = self.norm_centers(self.activation(tokens))
        queries = self.block_crosses[0](tokens, self.pred_tokens)
        for block, cross in zip(self.blocks, self.block_crosses[1:], strict=True):
            tokens = block(tokens)
            queries = cross(tokens, queries)
        return self.proj(queries)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    """A decoder whose classes lie in a module that is gone once the test reads."""
    module = ModuleType("reference_decoder")
    for one in (GraphAttention, Mlp, Attention, Block, Decoder):
        monkeypatch.setattr(one, "__module__", "reference_decoder")
        setattr(module, one.__name__, one)
    monkeypatch.setitem(sys.modules, "reference_decoder", module)
    torch.manual_seed(0)
    return Decoder()


FORMS: dict[str, Any] = {
    "module": lambda model: model,
    "state dict": lambda model: model.state_dict(),
    "training checkpoint": lambda model: {
        "epoch": 3,
        "args": argparse.Namespace(lr=5e-4, name="bit", sizes=[1, 2], device=torch.device("cpu")),
        "best": [float("inf"), np.float64(0.25)],
        "folder": Path("runs") / "a",
        "state_dict": OrderedDict((f"module.{k}", v) for k, v in model.state_dict().items()),
        "optimizer": torch.optim.AdamW(model.parameters()).state_dict(),
    },
    "parallel module": lambda model: {"net": nn.DataParallel(model), "rng": torch.get_rng_state()},
}
FORMATS: dict[str, dict[str, Any]] = {
    "zip": {},
    "zip, protocol 4": {"pickle_protocol": 4},
    "before torch 1.6": {"_use_new_zipfile_serialization": False},
}


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")  # torch, in the old format
@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("form", FORMS)
def test_outputs_equal_those_of_the_reference(
    decoder: Decoder, form: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "decoder.pth"
    torch.save(FORMS[form](decoder), path, **FORMATS[how])
    monkeypatch.delitem(sys.modules, "reference_decoder")
    model = import_reference_checkpoint(path, LABELS).double()
    assert model.subjects == list(N_VOXELS)
    decoder, first = decoder.cpu().double(), 0  # DataParallel takes it to a GPU where there is one
    for name, n_voxels in N_VOXELS.items():
        x = torch.randn(3, n_voxels, generator=torch.Generator().manual_seed(2)).double()
        expected = torch.stack([decoder(one, first) for one in x])
        # fp64 rounds at 1e-16; some hundred operations follow each other.
        torch.testing.assert_close(model(x, name).features, expected, rtol=1e-11, atol=1e-11)
        first += n_voxels


def test_half_precision_and_transposed_views(decoder: Decoder, tmp_path: Path) -> None:
    state = {name: value.half() for name, value in decoder.state_dict().items()}
    state["centers"] = state["centers"].T.contiguous().T
    state["voxel_cluster"] = decoder.voxel_cluster
    torch.save(state, tmp_path / "half.pt")
    model = import_reference_checkpoint(tmp_path / "half.pt", LABELS)
    assert torch.equal(model.tokenizer.centres, decoder.centers.half().float())
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert all(one.requires_grad for one in model.parameters())


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_graph_layer_of_a_library_reads_whole(tmp_path: Path) -> None:
    conv = pytest.importorskip("torch_geometric.nn").TransformerConv(D, D)
    for how in FORMATS.values():
        torch.save({"conv": conv}, tmp_path / "conv.pt", **how)
        record = read_checkpoint(tmp_path / "conv.pt")["conv"]
        assert isinstance(record, Record)
        assert str(record.kind).endswith("TransformerConv")
        weight = record.state["_modules"]["lin_key"].state["_parameters"]["weight"]
        assert torch.equal(weight, conv.lin_key.weight)


def test_plain_values_come_back(tmp_path: Path) -> None:
    shared = [1, 2]
    values = {
        "numbers": [0, 255, 65536, -1, 2**40, 1.5, True, None],
        "texts": ("a", "é"),
        "set": {"x", "y"},
        3: [shared, shared],
        "size": torch.Size([2, 3]),
        "tensors": [torch.arange(6).reshape(2, 3)[:, 1:], torch.empty(0), torch.tensor(2.5)],
        "types": [torch.ones(2, dtype=d) for d in (torch.bool, torch.int8, torch.bfloat16)],
    }
    torch.save(values, tmp_path / "plain.pt")
    read = read_checkpoint(tmp_path / "plain.pt")
    for ours, theirs in zip(read.pop("tensors"), values.pop("tensors"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    for ours, theirs in zip(read.pop("types"), values.pop("types"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert read == values
    assert list(read) == list(values)


def with_setting(decoder: Decoder, path: str, value: Any) -> Decoder:
    owner, _, name = path.rpartition(".")
    setattr(decoder.get_submodule(owner), name, value)
    return decoder


def tied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Three tensors in the memory of one."""
    table = state["voxel_embed"]
    alone = {name: value.clone() for name, value in state.items()}
    return alone | {"voxel_embed": table, "pred_tokens": table[:T], "centers": table[:K]}


OTHERS: dict[str, Callable[[Decoder], Any]] = {
    "missing": lambda d: {k: v for k, v in d.state_dict().items() if k != "proj.bias"},
    "surplus": lambda d: d.state_dict() | {"blocks.0.attn.q_norm.weight": torch.ones(2)},
    "shape": lambda d: d.state_dict() | {"norm_centers.weight": torch.ones(D + 1)},
    "nan": lambda d: d.state_dict() | {"centers": torch.full((K, D), torch.nan)},
    "tied": lambda d: tied(d.state_dict()),
    "two": lambda d: {"model": d.state_dict(), "average": d.state_dict()},
    "rounds": lambda d: (
        d.state_dict() | {f"blocks.{i}.norm1.bias": torch.ones(1) for i in range(101)}
    ),
    "empty": lambda d: d.state_dict() | {"block_crosses.0.mlp.fc1.weight": torch.empty(2**40, 0)},
    "heads": lambda d: with_setting(d, "blocks.1.attn.num_heads", 4),
    "eps": lambda d: with_setting(d, "block_crosses.0.norm1.eps", 1e-6),
    "act": lambda d: with_setting(d, "blocks.0.mlp.act", nn.ReLU()),
    "other": lambda d: nn.Linear(2, 2).state_dict(),
}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "1 tensors are missing, the first is cross_transformer.projection.bias"),
        ("surplus", "no place for: 'blocks.0.attn.q_norm.weight'"),
        ("shape", r"tokenizer.norm.weight: expected \[16\], got \[17\]"),
        ("nan", "centres: holds NaN"),
        ("tied", "share memory"),
        ("two", "expected one decoder .* found 2"),
        ("other", "expected one decoder .* found 0"),
        ("rounds", "more than 100 blocks"),
        ("empty", "expected a matrix"),
        ("heads", "blocks.1.attn: its heads is 4, expected 8"),
        ("eps", "block_crosses.0.norm1: its eps is 1e-06, expected 1e-05"),
        ("act", "blocks.0.mlp.act: its class is 'ReLU', expected 'GELU'"),
    ],
)
def test_other_models_are_refused(
    decoder: Decoder, what: str, message: str, tmp_path: Path
) -> None:
    torch.save(OTHERS[what](decoder), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=message) as caught:
        import_reference_checkpoint(tmp_path / "other.pt", LABELS)
    assert not isinstance(caught.value, UnsafeCheckpoint)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_module_in_itself_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    decoder.blocks[0].mlp.loop = decoder.blocks[0]
    torch.save(decoder, tmp_path / "loop.pt")
    with pytest.raises(UnsafeCheckpoint, match=r"loop\.pt: .*a module that holds itself"):
        import_reference_checkpoint(tmp_path / "loop.pt", LABELS)


def test_labels_that_do_not_fit(decoder: Decoder, tmp_path: Path) -> None:
    torch.save(decoder.state_dict(), tmp_path / "decoder.pt")
    load = import_reference_checkpoint
    with pytest.raises(ValueError, match=r"labels of 65 voxels.* got 40 of 1 subjects"):
        load(tmp_path / "decoder.pt", {"subj01": LABELS["subj01"]})
    with pytest.raises(ValueError, match=r"expected clusters in \[0, 6\)"):
        load(tmp_path / "decoder.pt", {"subj01": LABELS["subj01"], "subj02": [6] * 25})
    with pytest.raises(ValueError, match="does not divide"):
        load(tmp_path / "decoder.pt", LABELS, n_heads=3)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(tmp_path / "none.pt", LABELS)
