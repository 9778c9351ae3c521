"""VGG features of images as tokens, and images from VGG features by Deep Image Prior."""

from __future__ import annotations

from brainit_dip.__about__ import __version__
from brainit_dip.config import InversionConfig
from brainit_dip.corruption import corrupt
from brainit_dip.inversion import InversionResult, Progress, invert, recover
from brainit_dip.inverter import Inverter, InverterConfig
from brainit_dip.inverter_training import TrainingConfig, train_inverter
from brainit_dip.long_list import invert_file
from brainit_dip.precision import multiplies_bfloat16
from brainit_dip.reliability import TokenReliability
from brainit_dip.skip_network import SkipConfig, SkipNetwork
from brainit_dip.vgg import VGGFeatures, load_vgg
from brainit_dip.vgg_tokens import VGGTokens

__all__ = [
    "InversionConfig",
    "InversionResult",
    "Inverter",
    "InverterConfig",
    "Progress",
    "SkipConfig",
    "SkipNetwork",
    "TokenReliability",
    "TrainingConfig",
    "VGGFeatures",
    "VGGTokens",
    "__version__",
    "corrupt",
    "invert",
    "invert_file",
    "load_vgg",
    "multiplies_bfloat16",
    "recover",
    "train_inverter",
]
