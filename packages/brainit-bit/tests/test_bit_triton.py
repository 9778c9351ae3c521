"""The Triton kernels: their numbers in the interpreter, and what they compile to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from brainit_bit.ops._gpu import dot_precision, takes_kernels
from brainit_bit.ops.cluster_attention import ops as _cluster_operators  # noqa: F401
from brainit_bit.ops.cluster_attention.reference import cluster_attention_reference
from brainit_bit.ops.info_nce import ops as _contrast_operators  # noqa: F401

triton = pytest.importorskip("triton")
WORKER = Path(__file__).with_name("interpreted_kernels.py")

# sizes of clusters, samples, width, drawn or all, scale of activations
ATTENTION = {
    "odd": ([37, 0, 1, 70, 33], 5, 40, True, 1.0),
    "tiny": ([3], 1, 7, False, 1.0),
    "many samples": ([0, 2, 130], 67, 65, True, 1.0),
    "wide": ([33, 5], 2, 512, False, 1.0),
    "huge scores": ([20, 40], 3, 16, True, 1e4),
}
# rows, columns, width, first column of the positives, scale of features
CONTRAST = {
    "odd": (70, 130, 33, 20, 0.5),
    "tiny": (1, 1, 5, 0, 1.0),
    "wide": (9, 40, 512, 31, 0.2),
    "huge logits": (33, 65, 16, 3, 30.0),
}


def attention_problem(name: str) -> dict[str, Tensor]:
    sizes, batch, dim, partly, scale = ATTENTION[name]
    generator = torch.Generator().manual_seed(len(name))
    shapes = {
        "activations": (batch, sum(sizes)),
        "embedding": (sum(sizes), dim),
        "query": (len(sizes), dim),
        "seed": (len(sizes), batch, dim),
    }
    problem = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    problem["activations"] *= scale
    problem["query"] /= dim**0.5
    if partly:
        problem["drawn"] = torch.randint(0, 3, shapes["activations"], generator=generator).float()
        problem["drawn"][0, : sizes[0] + sizes[1]] = 0  # whole clusters not drawn
    return problem | {"sizes": torch.tensor(sizes)}


def contrast_problem(name: str) -> dict[str, Tensor]:
    n_rows, n_columns, dim, first, scale = CONTRAST[name]
    generator = torch.Generator().manual_seed(len(name))
    shapes = {
        "predicted": (n_rows, dim),
        "target": (n_columns, dim),
        "seed_positives": (n_rows,),
        "seed_rows": (n_rows,),
        "seed_columns": (n_columns,),
    }
    problem = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    problem["predicted"] *= scale
    problem["target"] *= scale
    return problem | {"first": torch.tensor(first)}


def attention_truth(problem: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """Context, occupied clusters and gradients by the graph form in fp64; the largest score."""
    names = ("activations", "embedding", "query")
    x, e, q = (problem[name].double().requires_grad_() for name in names)
    sizes, dim = problem["sizes"], e.shape[1]
    labels = torch.arange(len(sizes)).repeat_interleave(sizes)
    eye, zero = torch.eye(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    drawn = problem["drawn"].double() if "drawn" in problem else None
    weights = eye * dim**0.5, zero, eye, zero
    context = cluster_attention_reference(x, e, labels, q, *weights, drawn).transpose(0, 1)
    grads = torch.autograd.grad(context, (x, e, q), problem["seed"].double())
    drawn = torch.ones_like(x) if drawn is None else drawn
    count = x.new_zeros(len(x), len(sizes)).index_add(1, labels, drawn)
    truth = {"context": context.detach(), "occupied": (count > 0).double()}
    truth |= {f"grad_{name}": grad for name, grad in zip(names, grads, strict=True)}
    return truth, float((x * (e * q[labels]).sum(1)).detach().abs().max())


def contrast_truth(problem: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """Log-sum-exps and gradients from the whole logit matrix in fp64; the largest logit."""
    pair = [problem[name].double().requires_grad_() for name in ("predicted", "target")]
    logits = pair[0] @ pair[1].T
    positives = logits.diagonal(int(problem["first"]))[: len(logits)]
    outputs = positives, logits.logsumexp(1), logits.logsumexp(0)
    seeds = [problem[f"seed_{name}"].double() for name in ("positives", "rows", "columns")]
    grads = torch.autograd.grad(outputs, pair, seeds)
    names = ("positives", "rows", "columns", "grad_predicted", "grad_target")
    truth = {n: t.detach() for n, t in zip(names, (*outputs, *grads), strict=True)}
    return truth, float(logits.detach().abs().max())


def by_operator(problem: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    """What the registered operator of a device makes of a problem, in fp32."""
    given = {name: tensor.to(device) for name, tensor in problem.items()}
    if "predicted" in given:
        pair = [given[name].requires_grad_() for name in ("predicted", "target")]
        outputs = torch.ops.brainit.info_nce(*pair, int(given["first"]))
        seeds = [given[f"seed_{name}"] for name in ("positives", "rows", "columns")]
        grads = torch.autograd.grad(outputs, pair, seeds)
        names = ("positives", "rows", "columns", "grad_predicted", "grad_target")
        tensors = (*outputs, *grads)
    else:
        inputs = [given[n].requires_grad_() for n in ("activations", "embedding", "query")]
        sizes = given["sizes"].tolist()
        outputs = torch.ops.brainit.cluster_context(*inputs, given.get("drawn"), sizes)
        grads = torch.autograd.grad(outputs[0], inputs, given["seed"])
        names = ("context", "occupied", "grad_activations", "grad_embedding", "grad_query")
        tensors = (*outputs[:2], *grads)
    return {n: t.detach().cpu() for n, t in zip(names, tensors, strict=True)}


def assert_as_exact_as_torch(
    found: dict[str, Tensor], problem: dict[str, Tensor], truth: dict[str, Tensor], peak: float
) -> None:
    """Error against fp64 at most four times that of plain torch in fp32, plus rounding.

    Both round the same sums in other orders: their errors are draws of one size, and a factor of
    four leaves room for luck, not for a lost row or tile. A score near `peak` carries a rounding
    error of ``peak eps`` into the exponential, where it becomes a relative error; plain torch may
    be spared it, because it forms a score twice in the same order. Eight eps are for results that
    plain torch happens to hit exactly.
    """
    plain = by_operator(problem, "cpu")
    assert set(found) == set(truth) == set(plain)
    for name, exact in truth.items():
        assert found[name].shape == exact.shape, name
        error, usual = (float((tensor[name].double() - exact).norm()) for tensor in (found, plain))
        rounding = (8 + peak) * torch.finfo(torch.float32).eps * float(exact.norm())
        assert error <= 4 * usual + rounding, (name, error, usual, rounding)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which one process has run all problems in Triton's interpreter."""
    folder = tmp_path_factory.mktemp("kernels")
    for name in ATTENTION:
        save_file(attention_problem(name), folder / f"attention {name}.problem")
    for name in CONTRAST:
        save_file(contrast_problem(name), folder / f"contrast {name}.problem")
    subprocess.run([sys.executable, str(WORKER), str(folder)], check=True, timeout=500)
    return folder


@pytest.mark.parametrize("name", ATTENTION)
def test_interpreted_attention(name: str, interpreted: Path) -> None:
    problem = attention_problem(name)
    found = load_file(interpreted / f"attention {name}.found")
    assert_as_exact_as_torch(found, problem, *attention_truth(problem))


@pytest.mark.parametrize("name", CONTRAST)
def test_interpreted_contrast(name: str, interpreted: Path) -> None:
    problem = contrast_problem(name)
    found = load_file(interpreted / f"contrast {name}.found")
    assert_as_exact_as_torch(found, problem, *contrast_truth(problem))


def test_products_are_as_exact_as_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    usual = torch.get_float32_matmul_precision()
    try:
        assert dot_precision() == "ieee"
        torch.set_float32_matmul_precision("high")
        assert dot_precision() == "tf32"
        monkeypatch.setattr(torch.version, "hip", "7.0")  # only some of AMD's chips have tf32
        assert dot_precision() == "ieee"
    finally:
        torch.set_float32_matmul_precision(usual)


def test_kernels_take_fp32_alone() -> None:
    assert takes_kernels(torch.zeros(1))
    assert not takes_kernels(torch.zeros(1, dtype=torch.float64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or HIP device")
def test_on_the_gpu() -> None:
    for name in ATTENTION:
        problem = attention_problem(name)
        assert_as_exact_as_torch(by_operator(problem, "cuda"), problem, *attention_truth(problem))
    for name in CONTRAST:
        problem = contrast_problem(name)
        assert_as_exact_as_torch(by_operator(problem, "cuda"), problem, *contrast_truth(problem))


# Shared memory that one program may use, in bytes.
TARGETS = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "gfx942": 64 * 1024}


def kernels() -> dict[str, tuple[Any, dict[str, Any], dict[str, int]]]:
    """Every kernel with the constants and options of its launch at paper size: B = 64, D = 512."""
    from brainit_bit.ops.cluster_attention import triton as attention
    from brainit_bit.ops.info_nce import triton as contrast

    precision = {"PRECISION": "ieee"}  # torch's default; needs more registers than tf32
    voxels, columns = {"BLOCK_N": attention.BLOCK_N}, {"BLOCK_D": attention.BLOCK_D}
    blocks = voxels | columns | precision | {"BLOCK_B": attention.block_b(64)}
    scores = voxels | {"BLOCK_B": attention.SCORES_BLOCK_B}
    usual, unfused = attention.launch(64), attention.unfused(64)
    softmax = {"BLOCK_B": attention.SOFTMAX_BLOCK_B, "BLOCK_N": attention.SOFTMAX_BLOCK_N}
    table = [
        (attention.slope_kernel, voxels | columns, usual),
        (attention.weights_kernel, softmax, usual),
        (attention.context_kernel, blocks, usual),
        (attention.columns_backward_kernel, blocks, usual),
        (attention.means_backward_kernel, softmax, unfused),
        (attention.scores_backward_kernel, scores, unfused),
        (attention.rows_backward_kernel, blocks, usual),
        (contrast.log_sum_exp_kernel, contrast.ALONG, contrast.LAUNCH),
        (contrast.log_sum_exp_kernel, contrast.ACROSS, contrast.LAUNCH),
        (contrast.shares_kernel, contrast.SHARES, contrast.LAUNCH),
    ]
    return dict(zip(KERNELS, table, strict=True))


def build(name: str, target: str) -> Any:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, constants, options = kernels()[name]
    counts = {"dim", "batch", "n_voxels", "n_clusters", "n_own", "n_other", "n_rows", "n_columns"}
    counts |= {"own_stride", "other_stride"}
    signature, aligned = {}, {}
    for place, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in counts:
            signature[argument] = "i32"
        else:
            signature[argument] = "*i64" if argument == "offsets" else "*fp32"
        if argument == "dim" or signature[argument].startswith("*"):
            aligned[(place,)] = [["tt.divisibility", 16]]
    chip = {
        "sm_80": GPUTarget("cuda", 80, 32),
        "sm_90": GPUTarget("cuda", 90, 32),
        "gfx942": GPUTarget("hip", "gfx942", 64),
    }[target]
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=chip, options=options)


def resources(compiled: Any, target: str, folder: Path) -> dict[str, int]:
    """Registers a thread, bytes of registers spilled a thread, shared memory a program."""
    amd = target == "gfx942"
    if amd:
        text = compiled.asm["amdgcn"]
    else:
        (folder / "kernel.cubin").write_bytes(compiled.asm["cubin"])
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", folder / "kernel.cubin"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def number(key: str) -> int:
        return int(re.findall(rf"\b{key}:\s*(\d+)", text)[0])

    return {
        "registers": number("vgpr_count" if amd else "REG"),
        "spilled": 4 * number("vgpr_spill_count") if amd else number("STACK") + number("LOCAL"),
        "shared": compiled.metadata.shared,
    }


KERNELS = (
    "slope_kernel",
    "weights_kernel",
    "context_kernel",
    "columns_backward_kernel",
    "means_backward_kernel",
    "scores_backward_kernel",
    "rows_backward_kernel",
    "log_sum_exp_kernel, rows",
    "log_sum_exp_kernel, columns",
    "shares_kernel",
)


@pytest.mark.slow  # as a whole, until Triton's cache holds the kernels
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_compiles_ahead_of_time(
    name: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fits the chip without spilling, and adds nothing up in the order in which threads arrive."""
    compiled = build(name, target)
    used = resources(compiled, target, tmp_path)
    with capsys.disabled():
        print(f"\n{name:28s} {target:7s} {used}", end="")
    assert used["registers"] <= (512 if target == "gfx942" else 255)
    assert used["spilled"] == 0
    assert used["shared"] <= TARGETS[target]
    machine_code = compiled.asm["amdgcn" if target == "gfx942" else "ptx"]
    assert not re.search(r"\b(atom|red)\.|_atomic_", machine_code)
