"""Invert a file of features into a folder, picking up where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.utils import save_image

from brainit_dip.config import InversionConfig
from brainit_dip.files import digest, replacing
from brainit_dip.inversion import invert
from brainit_dip.inverter import Inverter
from brainit_dip.vgg import VGGFeatures
from brainit_dip.vgg_tokens import VGGTokens

Report = Callable[[int, int], None]


class FeatureFile:
    """Features of images in a safetensors file.

    Either `tokens` [N, n_tokens, token_dim] or `map_1` ... `map_L`, each [N, C, h, w]; with them,
    if wanted, `ids`, int64 [N], the images' numbers (0, 1, ... without).
    """

    def __init__(self, path: Path, layout: VGGTokens) -> None:
        """Look at names and shapes; features are read as they are needed.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it does not hold features of this layout.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file of features")
        self.path, self.layout = path, layout
        try:
            with safe_open(path, framework="pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
                ids = file.get_tensor("ids") if "ids" in shapes else None
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file: {error}") from error
        maps = [f"map_{level}" for level in range(1, len(layout.map_shapes) + 1)]
        self.names = ["tokens"] if "tokens" in shapes else maps
        wanted = [(layout.n_tokens, layout.token_dim)] if "tokens" in shapes else layout.map_shapes
        found = [tuple(shapes.get(name, ())) for name in self.names]
        counts = {shape[0] for shape in found if shape}
        if len(counts) != 1 or [shape[1:] for shape in found] != wanted:
            raise ValueError(
                f"{path}: expected `tokens` [N, {layout.n_tokens}, {layout.token_dim}] or maps "
                f"{', '.join(maps)} of {layout.map_shapes}, got {shapes}"
            )
        (n,) = counts
        ids = torch.arange(n) if ids is None else ids
        whole = not (ids.is_floating_point() or ids.is_complex()) and ids.shape == (n,)
        if not whole or len(ids.unique()) != n or (ids < 0).any():
            raise ValueError(f"{path}: ids: expected {n} different whole numbers from 0 up")
        self.ids: list[int] = ids.tolist()

    def read(self, rows: list[int]) -> list[Tensor]:
        """Maps of some images, float32."""
        with safe_open(self.path, framework="pt") as file:
            values = [file.get_slice(name)[rows].float() for name in self.names]
        return values if len(values) > 1 else self.layout.unpack(values[0])

    def digest(self) -> str:
        """SHA-256 of the file."""
        with self.path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()


def invert_file(
    features: Path,
    output: Path,
    vgg: VGGFeatures,
    config: InversionConfig | None = None,
    seed: int = 0,
    inverter: Inverter | None = None,
    report: Report | None = None,
) -> list[Path]:
    """One image per row of a file: `ID.png` to look at and `ID.safetensors` to compute with.

    Image ID has seed `seed` + ID whatever else is in the file. Files appear when they are whole,
    and an image whose `ID.safetensors` is there is done: the same call goes on after a stop, with
    any batch size. What made them is in `inversion.json`; beside images of other features or
    settings nothing is written.

    Args:
        features: See `FeatureFile`.
        output: Folder to write.
        vgg: The frozen network whose features they are; its device computes.
        config: Settings; None is the preset `fast`, or `warm` with an inverter.
        seed: Added to the images' numbers.
        inverter: Its images start the inversion.
        report: Called after each batch with images done and images in all.

    Returns:
        The safetensors files in the order of the features: `image` [3, S, S] in [0, 1] and
        `loss` [steps].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If features do not fit the VGG, or the folder is of another inversion.
    """
    config = config or InversionConfig.named("warm" if inverter else "fast")
    file = FeatureFile(features, VGGTokens.of(vgg))
    made_by = {
        "features": file.digest(),
        "vgg": digest(vgg),
        "inverter": inverter and digest(inverter),
        "seed": seed,
        "settings": {k: v for k, v in asdict(config).items() if k != "batch_size"},
    }
    _claim(output, json.dumps(made_by, indent=2) + "\n")
    paths = [output / f"{number:06}.safetensors" for number in file.ids]
    missing = [row for row, path in enumerate(paths) if not path.exists()]
    for first in range(0, len(missing), config.batch_size):
        rows = missing[first : first + config.batch_size]
        maps = [x.to(vgg.mean) for x in file.read(rows)]
        start = inverter(maps) if inverter else None
        seeds = [seed + file.ids[row] for row in rows]
        found = invert(maps, vgg, config, seeds, start=start)
        for row, image, loss in zip(rows, found.images.cpu(), found.loss.T.cpu(), strict=True):
            with replacing(paths[row].with_suffix(".png")) as temporary:
                save_image(image, temporary, format="png")
            with replacing(paths[row]) as temporary:
                save_file({"image": image.contiguous(), "loss": loss.contiguous()}, temporary)
        if report:
            report(len(paths) - len(missing) + first + len(rows), len(paths))
    return paths


def _claim(output: Path, made_by: str) -> None:
    """Write what the folder's images come from, or see that it is the same."""
    record = output / "inversion.json"
    if record.exists() and record.read_text() == made_by:
        return
    if any(output.glob("[0-9]*.safetensors")):
        raise ValueError(f"{output}: holds another inversion (inversion.json); choose another")
    output.mkdir(parents=True, exist_ok=True)
    with replacing(record) as temporary:
        temporary.write_text(made_by)
