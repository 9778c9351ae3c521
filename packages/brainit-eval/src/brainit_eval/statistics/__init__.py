"""Statistics of scores: resampling, tests between methods, repeats, ceilings, brain correlation."""

from __future__ import annotations

from brainit_eval.statistics.brain_correlation import BrainCorrelation, brain_correlation
from brainit_eval.statistics.ceilings import (
    consistency,
    ncsnr,
    noise_ceiling,
    spearman_brown,
    split_half,
)
from brainit_eval.statistics.comparison import Comparison, MetricComparison, compare
from brainit_eval.statistics.hierarchical import hierarchical_mean, hierarchical_two_way
from brainit_eval.statistics.permutation import (
    PairedTest,
    attainable_p,
    holm,
    sign_flip_test,
    subject_test,
)
from brainit_eval.statistics.repeats import RepeatEffect, averages, effect_of_repeats

__all__ = [
    "BrainCorrelation",
    "Comparison",
    "MetricComparison",
    "PairedTest",
    "RepeatEffect",
    "attainable_p",
    "averages",
    "brain_correlation",
    "compare",
    "consistency",
    "effect_of_repeats",
    "hierarchical_mean",
    "hierarchical_two_way",
    "holm",
    "ncsnr",
    "noise_ceiling",
    "sign_flip_test",
    "spearman_brown",
    "split_half",
    "subject_test",
]
