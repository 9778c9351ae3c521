"""Similarities of all pairs of two sets of vectors, streamed over features, safe to compare.

Products in single precision are several times cheaper than in double, yet flip comparisons that
are close. Here they only sort out the clear cases: a bound on their error says which comparisons
they cannot decide, and those pairs are computed again in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TIE = 1e-12  # rounding of a float64 similarity stays far below; real differences far above
_COLUMNS = 1024  # features per fp32 product: more are faster, fewer leave less undecided
_BUFFER = 1_000_000  # doubles of each set per block of vectors: 8 MB
_PAIR_COST = 100  # a pair on its own costs as much as this many pairs within a product of matrices
_UNIT = 2.0**-24  # unit roundoff of float32
_NORMS = 1e-12, 1e12  # between them no product over- or underflows in float32


@dataclass(frozen=True)
class Vectors:
    """Feature vectors with what makes their products similarities.

    Attributes:
        values: ``[n, D]`` as given.
        means: ``[n]`` float64: what is subtracted of each vector; 0 for cosine.
        norms: ``[n]`` float64 lengths after that; NaN where a vector has no direction.
    """

    values: Tensor
    means: Tensor
    norms: Tensor

    @classmethod
    def of(cls, values: Tensor, *, centred: bool) -> Vectors:
        """Prepare vectors for Pearson correlation (``centred``) or for cosine."""
        means, norms = [], []
        for rows in values.split(_rows(values)):
            exact = rows.to(torch.float64, copy=True)
            mean = exact.mean(1) if centred else exact.new_zeros(len(rows))
            norm = torch.linalg.vector_norm(exact.sub_(mean[:, None]), dim=1)
            low, high = rows.amin(1), rows.amax(1)
            flat = low == high if centred else (low == 0) & (high == 0)
            norms.append(norm.masked_fill(flat, torch.nan))
            means.append(mean)
        return cls(values, torch.cat(means), torch.cat(norms))

    def exact(self, which: slice | Tensor) -> Tensor:
        """Some vectors in float64, less their means."""
        return self.values[which].to(torch.float64, copy=True).sub_(self.means[which, None])

    def pivots(self) -> Tensor:
        """``[n]`` the means, rounded to the type that `rounded` subtracts in."""
        half = self.values.dtype in (torch.float16, torch.bfloat16, torch.float32)
        return self.means.to(torch.float32 if half else torch.float64)

    def rounded(self, columns: slice, pivots: Tensor) -> Tensor:
        """Some features in float32, less the pivots."""
        return (self.values[:, columns].to(pivots.dtype) - pivots[:, None]).float()


@torch.no_grad()
def own_similarities(rows: Vectors, columns: Vectors) -> Tensor:
    """Similarity of each row with the column of the same place, ``[n]`` float64."""
    step = _rows(rows.values)
    parts = [slice(start, start + step) for start in range(0, len(rows.values), step)]
    return torch.cat([_dots(rows, columns, part, part) for part in parts])


@torch.no_grad()
def similarities(rows: Vectors, columns: Vectors, thresholds: Sequence[Tensor]) -> Tensor:
    """Similarities of all pairs that compare with the thresholds as exact ones would.

    Args:
        rows: m vectors.
        columns: n vectors on the same device.
        thresholds: Float64 tensors that broadcast to ``[m, n]``.

    Returns:
        ``[m, n]`` float64, NaN where a vector is; those near a threshold in full float64, the
        others within the error of float32.
    """
    if not _ordinary(rows, columns):
        return _in_double(rows, columns)
    result, error = _in_single(rows, columns)
    near = torch.zeros_like(result, dtype=torch.bool)
    for threshold in thresholds:
        near |= (result - threshold).abs() <= error + 2 * TIE
    if int(near.sum()) * _PAIR_COST > near.numel():
        return _in_double(rows, columns)
    step = _rows(rows.values)
    for i, j in zip(*(place.split(step) for place in near.nonzero(as_tuple=True)), strict=True):
        result[i, j] = _dots(rows, columns, i, j)
    return result


def _in_single(rows: Vectors, columns: Vectors) -> tuple[Tensor, float]:
    """Similarities by float32 products with float64 sums, and the most they can be off.

    Each factor is rounded once (u = 2^-24) and a product of K features has an error of at most
    K u times the product of the factors' lengths, in whatever order it is summed (Higham 2002,
    sec. 3.1); by Cauchy and Schwarz the blocks' errors add up to no more than for all features.
    """
    width = rows.values.shape[1]
    p, q = rows.pivots(), columns.pivots()
    total = rows.norms.new_zeros(len(rows.norms), len(columns.norms))
    block = total.new_empty(total.shape, dtype=torch.float32)
    for start in range(0, width, _COLUMNS):
        part = slice(start, start + _COLUMNS)
        # With `out`, autocast leaves the product in float32.
        total += torch.mm(rows.rounded(part, p), columns.rounded(part, q).T, out=block)
    rest_p, rest_q = rows.means - p, columns.means - q  # the pivots are rounded means
    total.addr_(rest_p, rest_q, alpha=-width)
    total /= rows.norms[:, None]
    total /= columns.norms
    longest = 1.0  # the vectors' lengths before the rest is subtracted, over their norms
    for rest, norms in ((rest_p, rows.norms), (rest_q, columns.norms)):
        longest *= float((1 + width * (rest / norms).square()).nan_to_num(1).max().sqrt())
    return total, (_COLUMNS + 4) * _UNIT * longest


def _in_double(rows: Vectors, columns: Vectors) -> Tensor:
    total = rows.norms.new_zeros(len(rows.norms), len(columns.norms))
    for start in range(0, rows.values.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        a = rows.values[:, part].double() - rows.means[:, None]
        b = columns.values[:, part].double() - columns.means[:, None]
        total.addmm_(a, b.T)
    return total / rows.norms[:, None] / columns.norms


def _dots(rows: Vectors, columns: Vectors, i: slice | Tensor, j: slice | Tensor) -> Tensor:
    """Similarities of rows ``i`` with columns ``j``, one with one, in float64."""
    products: Tensor = torch.linalg.vecdot(rows.exact(i), columns.exact(j))
    return products / (rows.norms[i] * columns.norms[j])


def _rows(values: Tensor) -> int:
    return max(1, _BUFFER // values.shape[1])


def _ordinary(rows: Vectors, columns: Vectors) -> bool:
    """Whether float32 products are what the bound takes them for."""
    kind = rows.values.device.type
    if kind == "cpu":
        precision = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    elif kind == "cuda":
        precision = torch.backends.cuda.matmul.fp32_precision
    else:
        return False
    norms = torch.cat([rows.norms, columns.norms])
    low, high = _NORMS
    usual = norms.isnan() | ((norms > low) & (norms < high))
    return precision in ("none", "ieee") and bool(usual.all())
