"""Stage 2: the UNet and what predicts its tokens learn together from the diffusion loss.

The second stage of Brain-IT (arXiv 2510.25976). Predicted tokens may leave CLIP's space for what
serves generation: nothing but the loss of the denoised latent holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from brainit_diffusion.inputs import check_learned, check_width
from brainit_diffusion.objective import denoising_loss
from brainit_diffusion.unconditional import UnconditionalTokens

Trained = Literal["full", "low_rank", "frozen"]

_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass(frozen=True, kw_only=True)
class Stage2Config:
    """What learns, and from which loss; the optimiser is the caller's (AdamW at 1e-5).

    Attributes:
        unet: "full", all of its weights; "low_rank", added matrices in its attentions alone (the
            extra `low-rank`); "frozen", none, though gradients pass through it.
        decoder: Whether the token decoder learns.
        rank: Of the added matrices.
        gradient_checkpointing: Whether the UNet computes its blocks twice to keep less of them.
        noise_offset: See `denoising_loss`.
        dropout: See `denoising_loss`; learned unconditional tokens need it.
        prediction_type: See `denoising_loss`.
    """

    unet: Trained = "full"
    decoder: bool = True
    rank: int = 16
    gradient_checkpointing: bool = True
    noise_offset: float = 0.04
    dropout: float = 0.0
    prediction_type: str = "epsilon"


class Stage2(nn.Module):
    """A token decoder and a UNet as one module whose output is the loss.

    So `accelerate`, DistributedDataParallel and the like can wrap it as they wrap any module. A low
    rank's matrices are diffusers' own adapter: `unet.save_lora_adapter`, `unet.fuse_lora`.

    Args:
        decoder: Any module whose output is tokens [B, T, W].
        unet: `UNet2DConditionModel` with the "text_time" condition.
        config: What learns.
        unconditional_tokens: Learned ones, of the decoder's shape: they learn too, in the place of
            the tokens that are dropped, for sampling with `unconditional="learned"`.

    Raises:
        ValueError: If nothing would learn, `config.unet` is none of the three, or unconditional
            tokens are of another width or would never be used.
        ImportError: For "low_rank", if peft is not installed.
    """

    def __init__(
        self,
        decoder: nn.Module,
        unet: Any,
        config: Stage2Config | None = None,
        unconditional_tokens: UnconditionalTokens | None = None,
    ) -> None:
        super().__init__()
        self.config = config = config or Stage2Config()
        if config.unet not in get_args(Trained):
            raise ValueError(f"unet {config.unet!r}: expected full, low_rank or frozen")
        if unconditional_tokens is not None:
            check_learned(unconditional_tokens, unet)
            if not config.dropout:
                raise ValueError("unconditional_tokens: expected a dropout above 0, got 0")
        elif config.unet == "frozen" and not config.decoder:
            raise ValueError("both the decoder and the UNet are frozen: nothing would learn")
        self.unconditional_tokens = unconditional_tokens
        self.decoder = decoder.requires_grad_(config.decoder)
        self.unet = unet.requires_grad_(config.unet == "full")
        if config.unet == "low_rank":
            _add_low_rank(unet, config.rank)
        if config.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        else:
            unet.disable_gradient_checkpointing()

    def trained(self) -> list[nn.Parameter]:
        """The parameters that learn, for the optimiser and for diffusers' `EMAModel`."""
        return [p for p in self.parameters() if p.requires_grad]

    def train(self, mode: bool = True) -> Stage2:
        """Switch to training; a decoder that is frozen stays in evaluation mode."""
        super().train(mode)
        if not self.config.decoder:
            self.decoder.eval()
        return self

    def forward(
        self, *inputs: Any, latents: Tensor, time_ids: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Denoising loss of the latents, given the tokens that the decoder makes of its inputs.

        Args:
            *inputs: The decoder's.
            latents: Clean latents times the VAE's scaling factor [B, C, h, w].
            time_ids: Vector condition [B, 4] (`vector_condition`).
            generator: All randomness of the loss.

        Returns:
            Scalar.

        Raises:
            ValueError: If the tokens do not fit the UNet or the latents.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.decoder):
            tokens: Tensor = self.decoder(*inputs)
        check_width(tokens, self.unet.config.cross_attention_dim)
        learned = self.unconditional_tokens
        return denoising_loss(
            self.unet,
            latents,
            tokens,
            time_ids,
            generator,
            self.config.noise_offset,
            self.config.dropout,
            self.config.prediction_type,
            None if learned is None else learned(len(tokens)),
        )


def _add_low_rank(unet: Any, rank: int) -> None:
    """Matrices of low rank beside those of all attentions, in float32; they begin as zero."""
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    unet.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=_ATTENTION)
    )
    cast_training_params(unet, torch.float32)
