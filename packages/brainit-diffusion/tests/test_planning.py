"""The planner against real steps on the CPU, hand-made costs, and what an H100 measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from brainit_diffusion.cli import app
from brainit_diffusion.planning import LAUNCH, MARGIN, PASSES, UTILISATION, Cost, _stage, cost
from brainit_diffusion.profiles import GIB, GPU, GPUS, nsd
from brainit_diffusion.stage2 import Stage2, Stage2Config

SIDE, ROWS = 32, 4


def arithmetic(run: Callable[[], Any]) -> int:
    # Its products are seen in this form, and fused attention's are not.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        run()
    return int(counted.get_total_flops())


def predict(unet: Any, device: str = "cpu") -> torch.Tensor:
    conditions = {
        "text_embeds": torch.zeros(ROWS, 0, device=device),
        "time_ids": torch.zeros(ROWS, 4, device=device),
    }
    result: torch.Tensor = unet(
        torch.zeros(ROWS, 4, SIDE, SIDE, device=device),
        torch.zeros((), device=device),
        torch.zeros(ROWS, 5, 12, device=device),
        added_cond_kwargs=conditions,
        return_dict=False,
    )[0]
    return result


def test_a_sampling_step_is_what_a_real_one_takes(
    build_unet: Callable[[], Any], measured: Any
) -> None:
    with torch.device("meta"):
        shapes = build_unet()
    with torch.no_grad():
        counted = cost(shapes, lambda device: predict(shapes, device))
        real = build_unet().eval()
        assert counted.flops == arithmetic(lambda: predict(real))
        truth = measured(lambda: predict(real))
    assert counted.held == sum(p.numel() * 4 for p in real.parameters())
    # Kernels take scratch of their own, which shapes do not tell.
    assert 0.85 * truth < counted.beyond < 1.01 * truth
    assert counted.operations > 100


@pytest.mark.parametrize("learns", ["full", "low_rank", "frozen"])
def test_training_takes_at_most_so_many_forward_passes(
    learns: Any, build_unet: Callable[[], Any]
) -> None:
    if learns == "low_rank":
        pytest.importorskip("peft")
    forward = arithmetic(lambda: predict(build_unet().eval().requires_grad_(False)))
    decoder = torch.nn.Linear(8, 12)
    model = Stage2(decoder, build_unet(), Stage2Config(unet=learns, rank=1)).train()

    def step() -> None:
        loss = model(
            torch.zeros(ROWS, 5, 8),
            latents=torch.zeros(ROWS, 4, SIDE, SIDE),
            time_ids=torch.zeros(ROWS, 4),
            generator=torch.Generator(),
        )
        torch.autograd.grad(loss, model.trained())

    # What is outside the blocks is not computed twice, and a frozen beginning has no gradients; a
    # low rank and the decoder come on top, of this tiny UNet one in fifty.
    assert 0.7 * PASSES[learns] < arithmetic(step) / forward < 1.02 * PASSES[learns]


def test_the_paper_s_models_are_the_real_ones() -> None:
    profile = nsd()
    assert (profile.n_tokens, profile.width, profile.latent) == (256, 1664, (4, 32, 32))
    # The tokens of NSD's images in float16 are known as 62 GB.
    assert round(profile.stimuli * profile.n_tokens * profile.width * 2 / 1e9) == 62


COST = Cost(held=100 * GIB, beyond=40 * GIB, operations=1000, flops=8 * 10**12)


def staged(memory: float, peak: float = 1e15, fixed: int = 0) -> Any:
    return _stage("x", GPU(memory * GIB, peak), 1, 2, 8, 80, COST, fixed, "another way")


def test_what_fits_and_what_then() -> None:
    enough = staged(140 * (1 + MARGIN))
    assert (enough.fits, enough.memory, enough.advice) == (True, 140 * GIB, "")
    # 5 GiB an image: 29 GiB of room are 5 images, and 4 beside 5 GiB that any batch needs.
    less = staged(129 * (1 + MARGIN))
    assert (less.fits, less.largest_batch, less.advice) == (False, 5, "batches of 5 fit")
    assert staged(129 * (1 + MARGIN), fixed=5 * GIB).largest_batch == 5
    assert staged(124 * (1 + MARGIN), fixed=5 * GIB).largest_batch == 4
    none = staged(100)
    assert (none.fits, none.largest_batch, none.advice) == (False, 0, "another way")


def test_time_is_arithmetic_or_launches_whichever_is_more() -> None:
    assert staged(200, peak=1e12).seconds == pytest.approx(80 * 1e12 / (UTILISATION * 1e12))
    assert staged(200, peak=1e20).seconds == pytest.approx(10 * 1000 * LAUNCH)
    # Half the batch is twice the launches.
    assert staged(124 * (1 + MARGIN), 1e20).seconds == pytest.approx(20 * 1000 * LAUNCH)


def call(*args: Any) -> Any:
    return CliRunner().invoke(app, ["plan", *map(str, args)])


def test_the_command_says_what_does_not_fit() -> None:
    done = call("--profile", "tiny", "--memory", 0.08, "--tflops", 1, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["gpu"] == {"memory": 0.08 * GIB, "peak": 1e12}
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert [name.split(",")[0] for name in stages] == [
        "tokens",
        *["stage 2"] * 3,
        *["sampling"] * 2,
    ]
    full = stages["stage 2, UNet and decoder"]
    # Weights, gradients, two moments and an average in float32 are 20 bytes each.
    weights = full["output"] // 4
    assert 20 * weights < full["memory"] < 30 * weights
    assert not full["fits"]
    assert "batch" in full["advice"]
    assert stages["stage 2, low rank and decoder"]["fits"]
    assert stages["tokens"]["output"] == 2500 * 64 * 128 * 2
    many, few = (stages[f"sampling, {n} steps"] for n in (38, 10))
    assert many["memory"] == few["memory"]
    assert 2 < many["seconds"] / few["seconds"] < 4
    assert found["assumes"]


def test_the_table_and_a_wrong_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from brainit_diffusion import planning

    monkeypatch.setattr(planning, "plan", lambda *_: [staged(200), staged(100)])
    lines = call("--gpu", "a100").output.splitlines()
    assert lines[0] == "nsd on 79 GiB, 312 TFLOP/s peak"
    assert [lines[2].split()[-3], lines[3].split()[-3]] == ["yes", "no"]
    assert lines[4].strip() == "another way"
    wrong = call("--gpu", "abacus")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
    assert f"expected one of {', '.join(GPUS)}, got abacus" in wrong.stderr
