"""Kernels of dissimilarity on plain arrays: RDMs from patterns, and Fisher z."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.distances import Rows, squared_distances
from patchclamp.analyses.moments import Form
from patchclamp.analyses.pairs import pair_rows
from patchclamp.registry.errors import UndefinedError

Metric = Literal["correlation", "cosine", "euclidean", "squared_euclidean"]

IDENTICAL = 1e-10
"""Within this of |r| = 1, z is rounding: activations of one float32 forward pass differ by about
1e-5 of their scale between batches, which moves 1 - r by half the square of that."""


CACHED = 2**15
"""Numbers done at a time, so that each step finds them in the processor's cache."""

FORMS = {
    "correlation": (True, True, "a correlation is undefined for {}, constant over units"),
    "cosine": (False, True, "a cosine is undefined for {}, zero in every unit"),
    "euclidean": (False, False, ""),
    "squared_euclidean": (False, False, ""),
}
"""Metric -> whether patterns are centred, whether they are scaled, and when it is undefined."""


def dissimilarities(
    patterns: ArrayLike | Rows,
    *,
    metric: Metric = "correlation",
    leave_out: bool = False,
    block: int | None = None,
) -> NDArray[np.float64]:
    """Return how dissimilar each pair of patterns is.

    `patterns`: (stimulus, unit), any units; result: (pair,). `correlation` is 1 - r, r being
    Pearson's over units; `cosine` is 1 - cos of the angle seen from zero; both dimensionless, 0
    to 2. `euclidean` is |x_i - x_j|, in units of the patterns; `squared_euclidean` is its square
    divided by the number of units, so that patterns of different length compare. Exact
    duplicates give 0. A pattern that is constant has no r, and a zero one no direction:
    `UndefinedError` with their rows, or with `leave_out` NaN for their pairs. NaN or infinity in
    a pattern is an error in any case. `block` patterns are read at a time, None reads all;
    results differ by rounding only. Method: `distances`; Kriegeskorte, Mur & Bandettini 2008,
    doi:10.3389/neuro.06.004.2008.

    >>> dissimilarities([[1, 2, 3], [2, 4, 6], [3, 2, 1]]).round(6)
    array([0., 2., 2.])
    """
    rows: Rows = patterns if isinstance(patterns, Rows) else np.asarray(patterns)
    centred, scaled, undefined = FORMS[metric]
    factor = 0.5 if scaled else 1 / rows.shape[1] if metric == "squared_euclidean" else 1.0
    form = Form(centred, scaled, factor, undefined)
    result = squared_distances(rows, form, leave_out=leave_out, block=block)
    if scaled:
        np.minimum(result, 2.0, out=result)  # opposite patterns, but for rounding
    return np.sqrt(result) if metric == "euclidean" else result


def correlations(patterns: ArrayLike) -> NDArray[np.float64]:
    """Return Pearson's r over units of each pair of patterns: 1 - `dissimilarities`.

    `patterns`: (stimulus, unit); result: (pair,), dimensionless, -1 to 1. Errors as there.

    >>> correlations([[1, 2, 3], [2, 4, 6], [3, 2, 1]]).round(6)
    array([ 1., -1., -1.])
    """
    return 1.0 - dissimilarities(patterns)


def fisher_z(
    *, dissimilarity: ArrayLike, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return Fisher's z = arctanh(r) of each pair, from its `dissimilarity` d = 1 - r.

    `dissimilarity`: (..., pair), dimensionless; result: the same, in Fisher z, where sampling error
    depends little on r: z = ln((2 - d) / d) / 2. It is the z of r, never of 1 - r; the argument
    must be named, so that neither is taken for the other. It takes d because a stored r has lost
    what sets near-duplicates apart. A pair with d or 2 - d below 1e-10 is refused, not clipped:
    its z would be rounding error, and one such pair can carry a mean. It raises
    `UndefinedError` with the two rows of the first. NaN, a pair that is left out, stays NaN.
    `out` takes the result, and may be the dissimilarities themselves.
    Source: Fisher 1915, doi:10.2307/2331838.

    >>> fisher_z(dissimilarity=[0.5, 1.0, 1.5]).round(3)
    array([ 0.549,  0.   , -0.549])
    """
    d = np.asarray(dissimilarity, dtype=np.float64)
    low, high = (f.reduce(d, axis=None, initial=1.0) for f in (np.fmin, np.fmax))
    if low < IDENTICAL or high > 2 - IDENTICAL:
        _refuse_extreme(d)
    z = np.empty(d.shape) if out is None else out
    given, flat, room = d.reshape(-1), z.reshape(-1), np.empty(min(CACHED, d.size))
    for start in range(0, d.size, CACHED):
        some, part = given[start : start + CACHED], flat[start : start + CACHED]
        ratio = np.subtract(2.0, some, out=room[: len(some)])
        np.divide(ratio, some, out=ratio)
        np.log(ratio, out=ratio)
        np.multiply(ratio, 0.5, out=part)
    return z


def _refuse_extreme(d: NDArray[np.float64]) -> None:
    extreme = np.argwhere((d < IDENTICAL) | (d > 2 - IDENTICAL))
    first = tuple(extreme[0])
    raise UndefinedError(
        f"Fisher z is decided by rounding for {len(extreme)} of {d.size} pairs of patterns, "
        f"which are identical or opposite: 1 - |r| < {IDENTICAL:g}; "
        f"the first has 1 - r = {d[first]:.3g}; leave such stimuli out, or contrast distances, by "
        "rdm.metric 'squared_euclidean'",
        where=pair_rows(int(first[-1]), d.shape[-1]),
    )
