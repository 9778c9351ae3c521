"""One step of several networks: grouped convolutions, vmap, or one network after the other.

Which way is fastest on a device, for images of the published (224 px) and of the VGG's size:
``hatch run bench dip-batching [--device cuda]``. First, in float64, that all ways are one network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _scores import peak_bytes, seconds
from torch import Tensor
from torch.func import functional_call, vmap

from brainit_dip import SkipConfig, SkipNetwork
from brainit_dip.skip_network import StackedConv2d

Forward = Callable[[Tensor], Tensor]


def separate(convolution: StackedConv2d, x: Tensor) -> Tensor:
    """`StackedConv2d.forward` as one ordinary convolution per image."""
    if convolution.padding:
        x = F.pad(x, [convolution.padding] * 4, mode="reflect")
    each = zip(x.split(1), convolution.weight, convolution.bias, strict=True)
    return torch.cat([F.conv2d(*one, convolution.stride) for one in each])


def forms(network: SkipNetwork) -> dict[str, Forward]:
    """The ways to run all the networks that a stacked one holds."""
    single = SkipNetwork(network.config, [torch.Generator()]).to(network.output.weight)
    parameters = dict(network.named_parameters())

    def mapped(noise: Tensor) -> Tensor:
        def one(own: dict[str, Tensor], x: Tensor) -> Tensor:
            lone = {name: value[None] for name, value in own.items()}
            return functional_call(single, lone, (x[None],))[0]

        return vmap(one)(parameters, noise)

    def apart(noise: Tensor) -> Tensor:
        grouped = StackedConv2d.forward
        StackedConv2d.forward = separate
        try:
            return network(noise)
        finally:
            StackedConv2d.forward = grouped

    return {"grouped": network, "vmap": mapped, "separate": apart}


def build(n: int, config: SkipConfig, like: Tensor) -> SkipNetwork:
    """N networks of their own seeds."""
    return SkipNetwork(config, [torch.Generator().manual_seed(i) for i in range(n)]).to(like)


def check() -> float:
    """Largest difference of the ways' gradients in float64, relative to the largest gradient."""
    network = build(3, SkipConfig(4, (8, 8), (8, 8), (2, 2)), torch.zeros((), dtype=torch.float64))
    noise = torch.rand(3, 4, 16, 16, dtype=torch.float64)
    found = []
    for form in forms(network).values():
        loss = (form(noise) - 0.3).square().sum()
        grads = torch.autograd.grad(loss, list(network.parameters()))
        found.append(torch.cat([g.ravel() for g in grads]))
    return max(float((g - found[0]).abs().max() / found[0].abs().max()) for g in found)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", default="112,224")
    parser.add_argument("--batches", default="1,4,16")
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    error = check()
    passed = error < 1e-10  # float64, 12 layers
    print(f"gate {'passed' if passed else 'failed'}: gradients differ by {error:.1e}")
    figures = {}
    for size in map(int, chosen.sizes.split(",")):
        for n in map(int, chosen.batches.split(",")):
            network = build(n, SkipConfig(), torch.zeros((), device=chosen.device))
            noise = torch.rand(n, 32, size, size, device=chosen.device) * 0.1
            for name, form in forms(network).items():

                def step(form: Forward = form, noise: Tensor = noise) -> None:
                    with torch.autocast(
                        chosen.device, torch.bfloat16, chosen.precision == "bfloat16"
                    ):
                        loss = form(noise).square().mean()
                    loss.backward()

                for _ in range(2):
                    step()
                times = [seconds(step, chosen.device) for _ in range(chosen.rounds)]
                figure = {
                    "ms_per_image": round(1e3 * statistics.median(times) / n, 3),
                    "mib_per_image": round(peak_bytes(step, chosen.device) / n / 2**20, 1),
                }
                figures[f"{size} px, {n}, {name}"] = figure
                print(f"{size} px, {n} images, {name:<10} {json.dumps(figure)}", flush=True)
    gate = "passed" if passed else "failed"
    print(json.dumps({"name": "dip-batching", "gate": gate, "figures": figures}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
