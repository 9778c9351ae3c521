"""Simulated brains: voxels, what each prefers, and its response to a scene without noise.

Retinotopic voxels pool channels over a receptive field in the contralateral half of the visual
field whose size grows with eccentricity and from V1 to hV4. Most answer to Gabor energy, some to
signed luminance or colour. VO and LO pool texture and colour over wide fields. Category voxels pool
objects by place and size, each with its own graded taste. All compress their drive with the power
0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainit.simulation.areas import AREA_INDEX, AREAS, AreaMap, lay_out
from brainit.simulation.config import SimulationConfig
from brainit.simulation.features import (
    FIELD,
    FREQUENCIES,
    GRID,
    N_CHANNELS,
    N_ENERGY,
    ORIENTATIONS,
    SIGNED,
    SceneFeatures,
    grid_degrees,
)
from brainit.simulation.scenes import novel_sprites, sprites

Floats = NDArray[np.float32]

FIELD_SIZE = {
    "V1": (0.45, 0.10),
    "V2": (0.6, 0.15),
    "V3": (0.8, 0.2),
    "hV4": (1.1, 0.3),
    "VO": (1.6, 0.3),
    "LO": (1.6, 0.3),
}
"""Receptive field radius in degrees: at the fovea, and its growth a degree of eccentricity."""
SIGNED_VOXELS = {"V1": 0.06, "V2": 0.05, "V3": 0.04, "hV4": 0.08, "VO": 0.2, "LO": 0.02}
"""Fraction of voxels that answer to signed luminance or colour rather than to energy."""
TASTES: dict[str, dict[str, float]] = {
    "OFA": {"face": 1, "person": 0.5, "mammal": 0.3},
    "FFA": {"face": 1, "person": 0.6, "mammal": 0.35, "bird": 0.2},
    "EBA": {"person": 1, "hand": 0.8, "clothing": 0.5, "mammal": 0.35, "bird": 0.2},
    "FBA": {"person": 1, "hand": 0.6, "clothing": 0.6, "face": 0.3},
    "animals": {
        "mammal": 1,
        "bird": 0.9,
        "sea animal": 0.8,
        "insect": 0.7,
        "reptile": 0.9,
        "person": 0.2,
    },
    "food": {"fruit": 1, "vegetable": 0.9, "dish": 1, "sweet": 1, "plant": 0.2},
    "PPA": {"building": 1, "land vehicle": 0.35, "craft": 0.2, "plant": 0.3},
    "OPA": {"building": 1, "land vehicle": 0.4, "craft": 0.3},
    "vehicles": {"land vehicle": 1, "craft": 1, "building": 0.25},
    "tools": {"tool": 1, "instrument": 0.8, "ball": 0.6, "clothing": 0.4, "hand": 0.4},
    "plants": {"plant": 1, "vegetable": 0.6, "fruit": 0.5, "insect": 0.3},
}
OTHER_TASTE = 0.12
"""What a category area gives to objects that are none of its own."""
N_TRAITS = 6
COMPRESSION = 0.5


@dataclass(frozen=True)
class Brain:
    """A subject's voxels and their tuning.

    Attributes:
        areas: Vertices and areas.
        centre: Receptive field centre (x right, y up) in degrees, float32 [n, 2].
        radius: Receptive field radius (standard deviation) in degrees, float32 [n].
        channel_weight: float32 [n, N_CHANNELS], zero for category voxels.
        object_weight: float32 [n, number of sprites, novel ones last], zero for the others.
    """

    areas: AreaMap
    centre: Floats
    radius: Floats
    channel_weight: Floats
    object_weight: Floats


def make_brain(config: SimulationConfig, subject: int) -> Brain:
    """Draw one subject's brain.

    Args:
        config: The world.
        subject: Subject, counted from 0.

    Returns:
        Its voxels and their tuning.
    """
    rng = np.random.default_rng([config.seed, 2, subject])
    areas = lay_out(config.voxel_counts()[subject], rng)
    centre, radius = _receptive_fields(areas, rng)
    channel_weight = _channel_weights(areas, centre, rng)
    object_weight = _object_weights(areas, rng)
    return Brain(areas, centre, radius, channel_weight, object_weight)


def noiseless_responses(brain: Brain, features: SceneFeatures) -> Floats:
    """Responses of every voxel to every scene, before scaling and noise.

    Args:
        brain: A subject.
        features: Features of n scenes.

    Returns:
        float32 [n, n_voxels], non-negative.
    """
    drive = _object_drive(brain, features)
    visual = np.flatnonzero(brain.channel_weight.any(1))
    fields = _fields(brain.centre[visual], brain.radius[visual])
    weight = brain.channel_weight[visual].T[None]
    for start in range(0, len(drive), 50):
        maps = features.channels[start : start + 50]
        pooled = (maps.reshape(-1, GRID * GRID) @ fields).reshape(len(maps), N_CHANNELS, -1)
        drive[start : start + 50, visual] = (pooled * weight).sum(1)
    return np.asarray(drive**COMPRESSION, np.float32)


def _receptive_fields(areas: AreaMap, rng: np.random.Generator) -> tuple[Floats, Floats]:
    n = len(areas)
    name = np.array([a.name for a in AREAS])[areas.area]
    category = np.isin(name, list(TASTES))
    eccentricity = 0.35 * (4.4 / 0.35) ** areas.along * np.exp(rng.normal(0, 0.12, n))
    eccentricity = np.where(category, 0.4 + 1.2 * areas.along, eccentricity)
    # V2 is a mirror image of its neighbours: its inner border is the vertical meridian.
    field_angle = np.where(name == "V2", np.sign(areas.across) - areas.across, areas.across)
    angle = np.radians(-85 * field_angle + rng.normal(0, 6, n))
    side = np.where(areas.hemisphere == 0, 1.0, -1.0)
    centre = np.stack([side * eccentricity * np.cos(angle), eccentricity * np.sin(angle)], 1)
    base, growth = np.array([FIELD_SIZE.get(str(a), (2.4, 0.4)) for a in name]).T
    radius = (base + growth * eccentricity) * np.exp(rng.normal(0, 0.12, n))
    return centre.astype(np.float32), radius.astype(np.float32)


def _channel_weights(areas: AreaMap, centre: Floats, rng: np.random.Generator) -> Floats:
    n = len(areas)
    chance = np.array([SIGNED_VOXELS.get(a.name, np.nan) for a in AREAS])[areas.area]
    signed = rng.random(n) < chance
    energy = _energy_tuning(areas, centre, rng)
    taste = rng.dirichlet(np.full(len(SIGNED), 0.3), n)
    share = np.where(signed, rng.uniform(0.85, 1.0, n), rng.uniform(0.0, 0.05, n))[:, None]
    weight = np.concatenate([(1 - share) * energy, share * taste], 1)
    weight[np.isnan(chance)] = 0
    return np.asarray(weight, np.float32)


def _energy_tuning(areas: AreaMap, centre: Floats, rng: np.random.Generator) -> NDArray[np.float64]:
    n = len(areas)
    wide = np.isin(areas.area, [AREA_INDEX["VO"], AREA_INDEX["LO"]])
    preferred = rng.uniform(0, np.pi, n)
    sharpness = np.where(wide, 0.5, 2.0) * np.exp(rng.normal(0, 0.3, n))
    turn = np.cos(2 * (np.array(ORIENTATIONS)[None] - preferred[:, None]))
    orientation = np.exp(sharpness[:, None] * (turn - 1))
    eccentricity = np.hypot(*centre.T)
    octave = 3.6 - 0.45 * eccentricity + rng.normal(0, 0.5, n)
    distance = np.log2(FREQUENCIES)[None] - np.clip(octave, 1.3, 4.2)[:, None]
    frequency = np.exp(-0.5 * (distance / 0.8) ** 2)
    tuning = (frequency[:, :, None] * orientation[:, None, :]).reshape(n, N_ENERGY)
    return np.asarray(tuning / tuning.sum(1, keepdims=True))


def _object_weights(areas: AreaMap, rng: np.random.Generator) -> Floats:
    """Area's taste times the voxel's own: a soft preference for traits that the sprites carry.

    No area is for novel sprites, but voxels like their traits more or less.
    """
    table, n_all = sprites(), len(sprites()) + len(novel_sprites())
    categories = sorted({s.category for s in table})
    category = np.array([categories.index(s.category) for s in table])
    tastes = [TASTES.get(area.name, {}) for area in AREAS]
    taste = np.array([[t.get(c, OTHER_TASTE) for c in categories] for t in tastes])
    traits = np.random.default_rng(20251025).normal(size=(n_all, N_TRAITS))
    own = taste[areas.area] * np.exp(rng.normal(0, 0.35, (len(areas), len(categories))))
    liking = np.exp(rng.normal(size=(len(areas), N_TRAITS)) @ traits.T / np.sqrt(N_TRAITS))
    known, novel = np.split(liking, [len(table)], axis=1)
    weight = np.concatenate([own[:, category] * known, OTHER_TASTE * novel], axis=1)
    weight[~np.isin(areas.area, [AREA_INDEX[name] for name in TASTES])] = 0
    return np.asarray(weight, np.float32)


def _object_drive(brain: Brain, features: SceneFeatures) -> Floats:
    drive = np.zeros((len(features.sprite), len(brain.areas)), np.float32)
    for slot in range(features.sprite.shape[1]):
        x, y, size = (features.objects[:, slot, k, None] for k in range(3))
        square = (x - brain.centre[:, 0]) ** 2 + (y - brain.centre[:, 1]) ** 2
        near = np.exp(-0.5 * square / (brain.radius**2 + (size / 4) ** 2))
        there = features.sprite[:, slot, None] >= 0
        liked = brain.object_weight[:, features.sprite[:, slot]].T
        drive += there * near * (size / (FIELD / 2)) * liked
    return drive


def _fields(centre: Floats, radius: Floats) -> Floats:
    """Gaussian fields on the grid, float32 [GRID * GRID, n], of unit sum where wholly inside."""
    x, y = grid_degrees()
    square = (x[:, None] - centre[:, 0]) ** 2 + (y[:, None] - centre[:, 1]) ** 2
    cell = (FIELD / GRID) ** 2
    height = cell / (2 * np.pi * radius**2)
    return np.asarray(np.exp(-0.5 * square / radius**2) * height, np.float32)
