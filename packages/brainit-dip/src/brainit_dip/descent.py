"""Adam over the networks of one batch of images, a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from brainit_dip.config import InversionConfig
from brainit_dip.cuda_graph import GraphedStep
from brainit_dip.objective import Objective
from brainit_dip.pixel_images import PixelImages, total_variation
from brainit_dip.skip_network import SkipNetwork
from brainit_dip.vgg import VGGFeatures


class Descent:
    """The state of one batch: networks, optimiser, running averages.

    Weights and fixed inputs are drawn on the CPU, so they are the same on every device. The jitter
    is drawn where it is used, on an accelerator by a generator of its own per image: a million
    normal values a step and image would otherwise take longer to draw than to use.

    Attributes:
        losses: Loss of each image at the last step, [n].
    """

    def __init__(
        self,
        objective: Objective,
        vgg: VGGFeatures,
        config: InversionConfig,
        seeds: Sequence[int],
        start: Tensor | None = None,
    ) -> None:
        """Draw networks and inputs; `start` holds images [n, 3, S, S] in [0, 1] to start from."""
        self.objective, self.vgg, self.config = objective, vgg, config
        device, side = vgg.mean.device, config.image_size or vgg.image_size
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        channels = 1 if config.network is None else config.network.input_channels
        self.network: SkipNetwork | PixelImages = (
            PixelImages(side, generators)
            if config.network is None
            else SkipNetwork(config.network, generators)
        )
        self._shape = (channels, side, side)
        self.network.to(vgg.mean)
        if start is not None:
            self.network.start_from(start.to(vgg.mean))
        self.fixed = self._layout(_draw(torch.rand, self._shape, generators).to(vgg.mean))
        self.fixed *= config.noise
        self.inputs = self.fixed.clone()
        self._bfloat16 = config.in_bfloat16(device)
        on_cpu = device.type == "cpu"
        self.generators = generators if on_cpu else [_seeded(device, seed) for seed in seeds]
        graphed = config.cuda_graph and device.type == "cuda"
        self.rate = torch.tensor(config.lr, device=device) if graphed else config.lr
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=self.rate, fused=True, capturable=graphed
        )
        self._graph = GraphedStep(device) if graphed else None
        self.average = vgg.mean.new_zeros(len(seeds), 3, side, side)
        self.losses = vgg.mean.new_zeros(len(seeds))
        self.steps = 0

    def step(self) -> None:
        """One step of every network."""
        self._set_rate(self.config.rate(self.steps))
        if self.config.jitter:
            noise = _draw(torch.randn, self._shape, self.generators).to(self.fixed)
            torch.add(self.fixed, noise * self.config.jitter, out=self.inputs)
        if self._graph:
            self._graph(self._step)
        else:
            self._step()
        self.steps += 1

    @property
    def images(self) -> Tensor:
        """Bias-corrected running averages of the outputs, [n, 3, S, S] in [0, 1]."""
        return self.average / (1 - self.config.average_decay**self.steps)

    def keep(self, rows: Tensor) -> None:
        """Go on with the images whose row, a bool of [n], is True."""
        self.objective.keep(rows)
        for parameter in self.network.parameters():
            parameter.grad = None
            parameter.data = parameter.data[rows]
            moments = self.optimiser.state[parameter]
            moments.update({k: v[rows] for k, v in moments.items() if k != "step"})
        for name, buffer in self.network.named_buffers():
            setattr(self.network, name, buffer[rows])
        self.fixed, self.inputs = self.fixed[rows], self.inputs[rows]
        self.average, self.losses = self.average[rows], self.losses[rows]
        self.generators = [g for g, keep in zip(self.generators, rows, strict=True) if keep]
        if self._graph:
            self._graph = GraphedStep(self.fixed.device)

    def _step(self) -> None:
        """Forward, backward, update and average, in tensors that stay where they are."""
        config, decay = self.config, self.config.average_decay
        self.optimiser.zero_grad()
        with torch.autocast(self.fixed.device.type, torch.bfloat16, enabled=self._bfloat16):
            images = self.network(self.inputs)
            maps = self.vgg(images)
        loss = self.objective(maps)
        penalty = config.total_variation * total_variation(images) if config.total_variation else 0
        (loss + penalty).sum().backward()
        self.optimiser.step()
        self.losses.copy_(loss.detach())
        self.average.copy_(decay * self.average + (1 - decay) * images.detach())

    def _set_rate(self, rate: float) -> None:
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
            return
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _layout(self, x: Tensor) -> Tensor:
        """Channels-last for a lone image; several are one wide image of grouped channels."""
        alone = self.config.channels_last and len(x) == 1
        return x.to(memory_format=torch.channels_last) if alone else x


def _seeded(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _draw(
    sample: Callable[..., Tensor], shape: tuple[int, ...], generators: Sequence[torch.Generator]
) -> Tensor:
    """Random float32 values [n, *shape], row i from generator i and on its device."""
    return torch.stack([sample(shape, generator=g, device=g.device) for g in generators])
