"""Joint training on tiny real components: what moves, what does not, and exact gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from brainit_diffusion.objective import denoising_loss, vector_condition
from brainit_diffusion.stage2 import Stage2, Stage2Config

LATENTS = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
BRAIN = torch.randn(3, 7, generator=torch.Generator().manual_seed(2))
TIME_IDS = vector_condition(3, (768, 768))


class Decoder(nn.Module):
    """Stands for the brain decoder: activations [B, 7] and a gain to tokens [B, 5, 12]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(7, 60), nn.Dropout(0.0)

    def forward(self, activations: Tensor, gain: float = 1.0) -> Tensor:
        tokens: Tensor = self.dropout(gain * self.linear(activations)).unflatten(1, (5, 12))
        return tokens


Join = Callable[..., Stage2]


@pytest.fixture
def joined(build_unet: Callable[[], Any]) -> Join:
    def build(**choice: Any) -> Stage2:
        torch.manual_seed(0)
        return Stage2(Decoder(), build_unet(), Stage2Config(**choice)).train()

    return build


def loss_of(model: Stage2, seed: int = 3) -> Tensor:
    loss: Tensor = model(
        BRAIN,
        latents=LATENTS,
        time_ids=TIME_IDS,
        generator=torch.Generator().manual_seed(seed),
    )
    return loss


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


def test_the_loss_is_that_of_the_decoders_tokens(joined: Join) -> None:
    model = joined(noise_offset=0.1, dropout=0.5, prediction_type="v_prediction")
    expected = denoising_loss(
        model.unet,
        LATENTS,
        model.decoder(BRAIN, 2.0),
        TIME_IDS,
        torch.Generator().manual_seed(3),
        noise_offset=0.1,
        dropout=0.5,
        prediction_type="v_prediction",
    )
    generator = torch.Generator().manual_seed(3)
    assert model(BRAIN, 2.0, latents=LATENTS, time_ids=TIME_IDS, generator=generator) == expected
    assert loss_of(model) != expected


@pytest.mark.parametrize("unet", ["full", "low_rank", "frozen"])
@pytest.mark.parametrize("decoder", [True, False])
def test_steps_move_what_learns_alone_and_lower_the_loss_of_a_fixed_batch(
    unet: Any, decoder: bool, joined: Join
) -> None:
    if unet == "low_rank":
        pytest.importorskip("peft")
    if unet == "frozen" and not decoder:
        with pytest.raises(ValueError, match="nothing would learn"):
            joined(unet=unet, decoder=decoder)
        return
    model = joined(unet=unet, decoder=decoder, rank=2)
    before = snapshot(model.decoder), snapshot(model.unet)
    optimiser = torch.optim.AdamW(model.trained(), lr=1e-2, weight_decay=0)
    losses = []
    for _ in range(6):
        loss = loss_of(model)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert moved(model.decoder, before[0]) == (set(before[0]) if decoder else set())
    changed = moved(model.unet, before[1])
    if unet == "full":
        assert changed == set(before[1])
    else:
        lora = {name for name in before[1] if "lora_" in name}
        assert changed == lora
        assert bool(lora) == (unet == "low_rank")


def test_gradients_are_those_of_finite_differences(joined: Join) -> None:
    """Of the whole path in float64: decoder, tokens, cross-attention, UNet, loss."""
    model = joined().double()
    for module in (model.decoder.linear, model.unet.conv_in, model.unet.mid_block.attentions[0]):
        weight = next(module.parameters())
        direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)).double()

        def at(step: float, weight: Any = weight, direction: Tensor = direction) -> float:
            with torch.no_grad():
                weight += step * direction
                value = loss_in_double(model).item()
                weight -= step * direction
            return value

        (gradient,) = torch.autograd.grad(loss_in_double(model), weight)
        # Central differences: h^2 of truncation and eps / h of rounding are both about 1e-10.
        slope = (at(1e-5) - at(-1e-5)) / 2e-5
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-6, abs=1e-9)


def loss_in_double(model: Stage2) -> Tensor:
    # The loss itself is taken in float32 for the sake of half precision: undone for this test.
    seen: list[Tensor] = []
    hook = model.unet.register_forward_hook(lambda *call: seen.append(call[-1][0]))
    model(
        BRAIN.double(),
        latents=LATENTS.double(),
        time_ids=TIME_IDS,
        generator=torch.Generator().manual_seed(3),
    )
    hook.remove()
    return seen[0].square().mean()


@pytest.mark.parametrize("choice", [{"unet": "full"}, {"unet": "frozen"}])
def test_checkpointing_changes_no_gradient(choice: Any, joined: Join) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = joined(gradient_checkpointing=checkpointing, **choice)
        assert model.unet.is_gradient_checkpointing == checkpointing
        gradients.append(torch.autograd.grad(loss_of(model), model.trained()))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_frozen_decoder_stays_in_evaluation_mode(joined: Join) -> None:
    model = joined(decoder=False)
    assert not model.decoder.training
    assert model.unet.training
    assert joined().decoder.training


def test_low_rank_starts_where_the_unet_was_and_is_saved_by_diffusers(
    joined: Join, tmp_path: Any
) -> None:
    pytest.importorskip("peft")
    plain, model = joined(), joined(unet="low_rank", rank=2)
    assert torch.equal(loss_of(plain), loss_of(model))
    assert all(p.dtype == torch.float32 for p in model.trained())
    for p in model.unet.parameters():
        if p.requires_grad:
            p.data += 0.1
    model.unet.save_lora_adapter(tmp_path)
    fresh = joined().unet
    weights = "pytorch_lora_weights.safetensors"
    fresh.load_lora_adapter(tmp_path, prefix=None, weight_name=weights, use_safetensors=True)
    again = Stage2(model.decoder, fresh, Stage2Config(gradient_checkpointing=False)).train()
    assert torch.equal(loss_of(again), loss_of(model))
    assert loss_of(again) != loss_of(plain)


def test_moving_average_of_what_learns(joined: Join) -> None:
    """Diffusers' average against its definition; it begins with the first step."""
    model = joined(unet="full")
    average = EMAModel(model.trained(), decay=0.75, min_decay=0.75)
    expected = [p.detach().clone() for p in model.trained()]
    optimiser = torch.optim.SGD(model.trained(), lr=0.1)
    for seed in range(3):
        optimiser.zero_grad()
        loss_of(model, seed).backward()
        optimiser.step()
        average.step(model.trained())
        decay = 0.75 if seed else 0
        expected = [
            decay * kept + (1 - decay) * p.detach()
            for kept, p in zip(expected, model.trained(), strict=True)
        ]
    last = model.trained()[0].detach().clone()
    average.store(model.trained())
    average.copy_to(model.trained())
    for kept, p in zip(expected, model.trained(), strict=True):
        assert torch.allclose(p, kept, atol=1e-6)
    average.restore(model.trained())
    assert torch.equal(model.trained()[0], last)


def test_wrong_tokens_and_choices(joined: Join) -> None:
    with pytest.raises(ValueError, match=r"tokens: expected \[B, T, 12\], got \(3, 7\)"):
        Stage2(nn.Identity(), joined().unet)(
            BRAIN, latents=LATENTS, time_ids=TIME_IDS, generator=torch.Generator()
        )
    with pytest.raises(ValueError, match="expected full, low_rank or frozen"):
        joined(unet="lora")
