"""VGG features of images as tokens, and images from VGG features by Deep Image Prior."""

from __future__ import annotations

from brainit_dip.__about__ import __version__
from brainit_dip.inversion import InversionConfig, InversionResult, invert
from brainit_dip.skip_network import SkipConfig, SkipNetwork
from brainit_dip.vgg import VGGFeatures, load_vgg
from brainit_dip.vgg_tokens import VGGTokens

__all__ = [
    "InversionConfig",
    "InversionResult",
    "SkipConfig",
    "SkipNetwork",
    "VGGFeatures",
    "VGGTokens",
    "__version__",
    "invert",
    "load_vgg",
]
