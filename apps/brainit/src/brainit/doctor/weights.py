"""Weights of pretrained models: here, to be fetched (and how much of it), or nowhere."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from brainit.doctor.check import Check, gigabytes
from brainit.models import resolve
from brainit.profile import Profile

WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
_TIMEOUT = 5.0


def check_weights(profile: Profile) -> list[Check]:
    """A line for every model that a profile names."""
    models = profile.models
    kind, _, backbone = models.backbone.partition(":")
    checks = [
        _open_clip("backbone", *_split(backbone))
        if kind == "open_clip"
        else _timm("backbone", backbone)
        if kind == "timm"
        else _folder_or_hub("backbone", resolve(backbone)),
        _open_clip("clip", models.clip, models.clip_pretrained),
        _vgg(models.vgg),
        _unclip(models.unclip),
    ]
    if models.refiner:
        checks.append(_folder_or_hub("refiner", models.refiner))
    return checks


def _split(name: str) -> tuple[str, str]:
    """An `open_clip:` backbone's architecture and tag; a folder has no tag."""
    if name.startswith(("zoo:", "local-dir:")):
        return name, ""
    architecture, _, tag = name.partition("/")
    return architecture, tag


def _open_clip(role: str, name: str, tag: str) -> Check:
    import open_clip

    name = resolve(name)
    if name.startswith("local-dir:"):
        return _here(role, Path(name.removeprefix("local-dir:")))
    if name.startswith("hf-hub:"):
        return _hub(role, name.removeprefix("hf-hub:"))
    if Path(tag).is_file():
        return _here(role, Path(tag))
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none: unknown model"
        return _missing(role, f"{name}, {tag}", f"name one of OpenCLIP's weights ({known})")
    if repository := config.get("hf_hub", "").rstrip("/"):
        return _hub(role, repository)
    return _url(role, config["url"], Path("~/.cache/clip").expanduser(), None)


def _timm(role: str, name: str) -> Check:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return _missing(role, f"timm:{name}", "name a model with weights that timm knows")
    return _hub(role, config.hf_hub_id)


def _vgg(name: str) -> Check:
    from torchvision.models import get_model_weights, list_models

    name = resolve(name)
    if name in list_models():
        weights = get_model_weights(name).DEFAULT
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        return _url("vgg", weights.url, folder, 2**20 * weights.meta["_file_size"])
    return _here("vgg", Path(name))


def _unclip(name: str) -> Check:
    folder = Path(resolve(name))
    if all((folder / part).is_dir() for part in ("unet", "vae")):
        return _here("unclip", folder)
    advice = f"fetch unclip6_epoch0_step110000.ckpt and: brainit-diffusion convert FILE {folder}"
    return _missing("unclip", f"{folder}: no unet/ and vae/", advice)


def _folder_or_hub(role: str, name: str) -> Check:
    return _here(role, Path(name)) if Path(name).exists() else _hub(role, name)


def _here(role: str, path: Path) -> Check:
    """Weights in a file or below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix in WEIGHTS]
    if not files:
        return _missing(role, f"{path}: no weights", "put them there, or name another model")
    size = sum(file.stat().st_size for file in files)
    return Check(f"weights: {role}", "ok", f"{path}, {gigabytes(size)}")


def _missing(role: str, found: str, advice: str) -> Check:
    return Check(f"weights: {role}", "fail", found, advice)


def _url(role: str, url: str, folder: Path, size: float | None) -> Check:
    path = folder / url.rpartition("/")[2]
    if path.is_file():
        return _here(role, path)
    amount = gigabytes(size) if size else "a file"
    advice = f"without a network: fetch {url} into {folder}"
    return Check(f"weights: {role}", "warn", f"will be downloaded, {amount}", advice)


def _hub(role: str, repository: str) -> Check:
    """Weights in the hub's cache, or on the hub."""
    try:
        folder = Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError:
        return _not_cached(role, repository)
    except HFValidationError:
        return _missing(role, f"{repository}: not there", "name a folder or a repository")
    found = _here(role, folder)
    return found if found.state == "ok" else _not_cached(role, repository)


def _not_cached(role: str, repository: str) -> Check:
    name, fetch = f"weights: {role}", f"hf download {repository}"
    try:
        info = huggingface_hub.HfApi().model_info(repository, files_metadata=True, timeout=_TIMEOUT)
    except RepositoryNotFoundError:
        return _missing(role, f"{repository}: not on the hub", "name a folder or a repository")
    except Exception as error:  # of whichever HTTP library this version of the hub's client has
        found = f"{repository}: not in the hub's cache, hub not reached ({type(error).__name__})"
        return Check(name, "fail", found, f"where there is a network: {fetch}; then copy HF_HOME")
    sizes = [f.size or 0 for f in info.siblings or () if f.rfilename.endswith(".safetensors")]
    found = f"{repository}: will be downloaded, up to {gigabytes(sum(sizes))}"
    return Check(name, "warn", found, f"to have it beforehand: {fetch}")
