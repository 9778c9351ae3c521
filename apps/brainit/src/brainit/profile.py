"""Profiles: every number of a run in one TOML file, parsed strictly into dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tomli_w

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The simulated world; absent from profiles that read real scans.

    `routes` are the spaces that betas are written in.
    """

    subjects: int
    own_images: int
    shared_images: int
    repeats: int
    external_images: int
    routes: tuple[str, ...] = ("fsaverage",)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which scans are read and how. `root` and `external` are paths; empty means simulated.

    Of each subject so many `minutes` of scanning, or `trials`, are learnt from (0: all): the
    "first" ones or "random" ones. Test images keep all their trials.
    """

    root: str
    external: str
    subjects: tuple[int, ...]
    betas: str
    space: str
    mask: str
    normalisation: str
    image_size: int
    validation_fraction: float
    minutes: float = 0.0
    trials: int = 0
    draw: Literal["first", "random"] = "first"

    def __post_init__(self) -> None:
        if min(self.minutes, self.trials) < 0 or (self.minutes and self.trials):
            raise ProfileError(
                f"data.minutes is {self.minutes:g} and data.trials {self.trials}: "
                "expected one above 0 at most"
            )


@dataclass(frozen=True, kw_only=True)
class Models:
    """Pretrained models by name or folder; `zoo:NAME` is a tiny model that ships with the app."""

    backbone: str
    clip: str
    clip_pretrained: str
    vgg: str
    unclip: str
    refiner: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: optimiser, schedule and budget.

    The gradients of `accumulate` batches are averaged in each step. `warmup_epochs` follow factor
    f0 + (1 - f0)(epoch / warm-up)^3 with f0 = 1e-3; then the rate falls by ten after `patience`
    epochs without progress ("plateau") or along a half cosine ("cosine"). Gradients longer than
    `clip_norm` are shortened to it; with 0 none is, as published.
    """

    optimiser: Literal["adamw", "adam_amsgrad"]
    learning_rate: float
    weight_decay: float
    batch_size: int
    accumulate: int
    epochs: int
    warmup_epochs: int
    schedule: Literal["plateau", "cosine"]
    patience: int
    precision: Literal["auto", "no", "bf16"]
    clip_norm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The universal brain encoder (arXiv 2406.12179)."""

    dim: int
    channels: int
    taps: tuple[int, ...]
    rank: int
    alpha: float
    dropout: float
    mlp_ratio: int
    voxels_per_image: int
    max_shift: int
    training: Training


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Groups of voxels: of function, by a mixture over their embeddings, or of places."""

    count: int
    kind: Literal["functional", "anatomical"] = "functional"


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """One Brain Interaction Transformer.

    `start_length` is the length of the voxel embeddings at the start, taken from the encoder's, and
    query tokens then start from their places; 0 draws both small and random, as published.
    `external_per_real` external samples come for each real one; with inf each external image comes
    once an epoch beside the real ones, as published.
    """

    dim: int
    heads: int
    rounds: int
    mlp_ratio: int
    voxels_drawn: int
    start_length: float
    external_per_real: float
    training: Training


@dataclass(frozen=True, kw_only=True)
class LowLevel(Decoder):
    """The low-level one.

    `thumbnail` is the side in pixels of a copy of the image that is decoded as one more level, the
    last; with 0 there is none, as published. `queries` are drawn per level in each step. With
    `whiten`, predictions are contrasted with whitened features; without, with the features as they
    are, as published.
    """

    thumbnail: int
    queries: tuple[int, ...]
    whiten: bool


@dataclass(frozen=True, kw_only=True)
class Stage2:
    """The semantic transformer and the UNet together, on the diffusion loss; absent: they stay.

    Of the UNet all weights learn ("full"), added matrices of `rank` in its attentions ("low_rank")
    or none ("frozen"). `dropout` is how often tokens are replaced by random ones, for guidance.
    """

    unet: Literal["full", "low_rank", "frozen"]
    rank: int
    gradient_checkpointing: bool
    noise_offset: float
    dropout: float
    training: Training


@dataclass(frozen=True, kw_only=True)
class Coarse:
    """Deep Image Prior inversion of predicted VGG features: a preset, its steps and precision.

    With `weigh_levels` a level counts for what calibration found it to know; without, all levels
    count the same, as published. `thumbnail_weight` is a factor on the weight of the thumbnail,
    whose few tokens hold most of what is known of colours.
    """

    preset: Literal["reference", "quality", "fast", "tiny"]
    weigh_levels: bool
    thumbnail_weight: float
    steps: int
    precision: Literal["auto", "float32", "bfloat16"]
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Image:
    """unCLIP sampling, fusion and refinement.

    The fused image starts from the noised coarse image at `fused_start_step` of `steps`. With a
    refiner among the models, `refine_last_steps` of `refine_steps` then run on it.
    """

    steps: int
    fused_start_step: int
    guidance_scale: float
    noise_offset: float
    contrast: float
    refine_steps: int
    refine_last_steps: int
    batch_size: int
    precision: Literal["auto", "no", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Per-subject ridge: side of the coarse image and penalties tried by cross-validation."""

    coarse_size: int
    penalties: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is reconstructed and scored, and bootstrap draws.

    Of the subjects' `images_per_subject` (0: all) first images in a `split`: the average over an
    image's repeats, or with `trials` every repeat by itself; `samples` of the diffusion model each.
    """

    subjects: tuple[int, ...]
    images_per_subject: int
    bootstrap: int
    split: Literal["test", "val", "train"] = "test"
    trials: bool = False
    samples: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ProfileError(f"evaluation.samples is {self.samples}, expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """A new subject in trained models: its voxel embeddings alone are trained, all else is frozen.

    `base` is the folder of the run whose models are taken over; empty in a run that trains its own.
    The numbers take the place of those of [encoder.training], [low_level] and [semantic] when
    `brainit adapt` makes a run from this one.
    """

    base: str
    encoder_epochs: int
    encoder_learning_rate: float
    decoder_epochs: int
    decoder_learning_rate: float
    external_per_real: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A whole run.

    `tracker` shows the curves of trainings: any that accelerate knows by name, or "none".
    """

    name: str
    seed: int
    data: Data
    models: Models
    encoder: Encoder
    clusters: Clusters
    low_level: LowLevel
    semantic: Decoder
    coarse: Coarse
    image: Image
    baseline: Baseline
    evaluation: Evaluation
    simulation: Simulation | None = field(default=None)
    stage2: Stage2 | None = field(default=None)
    adaptation: Adaptation | None = field(default=None)
    tracker: str = "tensorboard"


class ProfileError(ValueError):
    """A profile that cannot be used; the message names file, key and what was expected."""


def load_profile(name_or_path: str, overrides: list[str] | None = None) -> Profile:
    """Read a shipped profile by name ("tiny", "nsd") or any TOML file.

    Args:
        name_or_path: Name of a shipped profile or path of a TOML file.
        overrides: Assignments such as "semantic.dim=256" in TOML syntax; bare words are strings.

    Returns:
        The profile.

    Raises:
        ProfileError: Missing file, bad TOML, unknown or missing key, wrong type.
    """
    path = Path(name_or_path)
    source = path if path.suffix == ".toml" else _shipped(name_or_path)
    if not source.is_file():
        names = ", ".join(
            sorted(p.name[:-5] for p in _profiles().iterdir() if p.name.endswith(".toml"))
        )
        raise ProfileError(
            f"{name_or_path}: no such profile (shipped: {names}; or a path ending in .toml)"
        )
    try:
        table = tomllib.loads(source.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{source}: not valid TOML: {error}") from None
    return _parse(table, str(source), overrides or [])


def override(profile: Profile, overrides: list[str]) -> Profile:
    """A profile with some assignments, as of `load_profile`."""
    return _parse(tomllib.loads(dump_profile(profile)), f"profile {profile.name!r}", overrides)


def dump_profile(profile: Profile) -> str:
    """The profile as TOML text that `load_profile` reads back to an equal profile."""
    table = dataclasses.asdict(profile)
    return tomli_w.dumps({key: value for key, value in table.items() if value is not None})


def _parse(table: dict[str, Any], source: str, overrides: list[str]) -> Profile:
    for assignment in overrides:
        _assign(table, assignment)
    return _build(Profile, table, source, "")


def _profiles() -> Path:
    return Path(str(resources.files("brainit") / "profiles"))


def _shipped(name: str) -> Path:
    return _profiles() / f"{name}.toml"


def _assign(table: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator:
        raise ProfileError(f"--set {assignment}: expected KEY=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ProfileError(f"--set {assignment}: {parent} is not a table")
    table[last] = value


def _build(kind: type[T], table: Any, source: str, where: str) -> T:
    if not isinstance(table, dict):
        raise ProfileError(f"{source}: [{where}] must be a table, got {table!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(fields)}"
            raise ProfileError(f"{source}: unknown key {where + key!r}{hint}")
    hints, values = get_type_hints(kind), {}
    for name, spec in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], source, where + name)
        elif spec.default is dataclasses.MISSING:
            raise ProfileError(f"{source}: missing key {where + name!r}")
    return kind(**values)


def _convert(hint: Any, value: Any, source: str, where: str) -> Any:
    options = [a for a in get_args(hint) if a is not type(None)]
    if type(None) in get_args(hint):
        hint = options[0]
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, where + ".")  # type: ignore[arg-type]
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise ProfileError(f"{source}: {where} must be one of {choices}, got {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ProfileError(f"{source}: {where} must be a list, got {value!r}")
        return tuple(_convert(options[0], item, source, where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ProfileError(f"{source}: {where} must be {hint.__name__}, got {value!r}")
    return value
