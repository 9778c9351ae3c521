"""Similarities of all pairs of two sets of vectors, streamed over features, safe to compare.

Products in single precision are several times cheaper than in double, yet flip comparisons that
are close. Here they only sort out the clear cases: a bound on their error says which comparisons
they cannot decide, and those pairs are computed again in double precision.
"""

from __future__ import annotations

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
        parts = [_measured(rows, centred) for rows in values.split(_rows(values))]
        return cls(values, *(torch.cat(column) for column in list(zip(*parts, strict=True))[1:]))

    def exact(self, which: Tensor) -> Tensor:
        """Vectors of these numbers in float64, less their means."""
        return self.values[which].double() - self.means[which, None]

    def pivots(self) -> Tensor:
        """``[n]`` the means, rounded to the type that `rounded` subtracts in."""
        half = self.values.dtype in (torch.float16, torch.bfloat16, torch.float32)
        return self.means.to(torch.float32 if half else torch.float64)

    def rounded(self, columns: slice, pivots: Tensor) -> Tensor:
        """Some features in float32, less the pivots."""
        return (self.values[:, columns].to(pivots.dtype) - pivots[:, None]).float()


def pairs(rows: Tensor, columns: Tensor, *, centred: bool) -> tuple[Vectors, Vectors, Tensor]:
    """Prepare two sets of vectors that belong together one by one, and compare those.

    Args:
        rows: ``[n, D]``.
        columns: ``[n, D]``.
        centred: As for `Vectors.of`.

    Returns:
        Both sets prepared, and the similarity of each row with its column, ``[n]`` float64.
    """
    found = []
    for a, b in zip(rows.split(_rows(rows)), columns.split(_rows(rows)), strict=True):
        exact_a, *row = _measured(a, centred)
        exact_b, *column = _measured(b, centred)
        found.append((*row, *column, torch.linalg.vecdot(exact_a, exact_b) / row[1] / column[1]))
    means_a, norms_a, means_b, norms_b, own = (torch.cat(v) for v in zip(*found, strict=True))
    return Vectors(rows, means_a, norms_a), Vectors(columns, means_b, norms_b), own


def similarities(rows: Vectors, columns: Vectors, own: Tensor, *, paired: bool) -> Tensor:
    """Similarities of all pairs that compare with ``own`` as exact ones would.

    Args:
        rows: m vectors.
        columns: n vectors on the same device.
        own: ``[n]`` float64: what the similarities of each column are compared with.
        paired: Whether row i belongs to column i with similarity ``own[i]``; the similarities of
            each row are then compared with it, too.

    Returns:
        ``[m, n]`` float64, NaN where a vector is; those near ``own`` in full float64, the others
        within the error of float32.
    """
    if not _ordinary(rows, columns):
        return _in_double(rows, columns)
    result, error = _in_single(rows, columns)
    near = (result - own).abs() <= error + 2 * TIE
    if paired:
        near |= (result - own[:, None]).abs() <= error + 2 * TIE
        near.fill_diagonal_(False)
        result.diagonal().copy_(own)
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


def _dots(rows: Vectors, columns: Vectors, i: Tensor, j: Tensor) -> Tensor:
    """Similarities of rows ``i`` with columns ``j``, one with one, in float64."""
    products: Tensor = torch.linalg.vecdot(rows.exact(i), columns.exact(j))
    return products / rows.norms[i] / columns.norms[j]


def _measured(rows: Tensor, centred: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors in float64 less their means, the means and the norms."""
    exact = rows.to(torch.float64, copy=True)
    mean = exact.mean(1) if centred else exact.new_zeros(len(rows))
    norm = torch.linalg.vector_norm(exact.sub_(mean[:, None]), dim=1)
    low, high = rows.amin(1), rows.amax(1)
    flat = low == high if centred else (low == 0) & (high == 0)
    return exact, mean, norm.masked_fill(flat, torch.nan)


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
