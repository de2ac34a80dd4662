"""Comparators: how alike two RDMs are, over their pairs of stimuli.

Each but Kendall's tau is a product of two vectors, data(d)·model(m), one made of each RDM, that
move with the stimuli when these are permuted. So a null distribution needs no comparison at all:
permuted, model(m) is the same vector in another order (`similarity`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import squareform
from scipy.stats import kendalltau

from patchclamp.registry.errors import UndefinedError

TIE = 1e-12
"""Values closer than this share of the largest are tied; a vector that varies less is constant.
A Gram matrix errs by about 1e-15, so equal dissimilarities come out different by that much."""

COLLINEAR = 1e-9
"""Below this share of its squared length left, a model RDM is a sum of those controlled for."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Comparator:
    """A comparison as the product of two vectors, and its name in words.

    `partial`: whether other RDMs can be taken out of it, which needs data and model to be
    transformed alike. `every_pair`: whether it needs the dissimilarity of every pair.
    """

    data: Callable[[Vector], Vector]
    model: Callable[[Vector], Vector]
    words: str
    partial: bool = False
    every_pair: bool = False


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return average ranks from 1, taking values that differ by rounding only as tied.

    `values`: (pair,); result: (pair,). Neighbours in sorted order closer than `TIE` times the
    largest magnitude share a rank; otherwise as `scipy.stats.rankdata(method="average")`.

    >>> ranks([0.3, 0.1, 0.1 + 1e-15, 0.2])
    array([4. , 1.5, 1.5, 3. ])
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values)
    gaps = np.diff(values[order]) > TIE * np.abs(values).max(initial=0.0)
    result = np.empty(values.size)
    if gaps.all():  # no ties
        result[order] = np.arange(1.0, values.size + 1)
        return result
    run = np.concatenate([[0], np.cumsum(gaps)]).astype(np.intp)[: values.size]
    size = np.bincount(run)
    middle = np.cumsum(size) - (size - 1) / 2
    result[order] = middle[run]
    return result


def standardised(vector: ArrayLike) -> NDArray[np.float64]:
    """Return a vector centred and scaled to unit length; `UndefinedError` if it is constant.

    >>> standardised([1.0, 3.0]).round(3)
    array([-0.707,  0.707])
    """
    vector = _finite(vector)
    centred = vector - (vector.mean() if vector.size else 0.0)
    return _over(centred, np.linalg.norm(centred), vector, "that are all equal")


def tau_a(first: ArrayLike, second: ArrayLike) -> float:
    """Return Kendall's tau a of two condensed vectors.

    Both: (pair,); result dimensionless: concordant minus discordant pairs of pairs, divided by
    all of them, so that ties count against it. Values that differ by rounding are tied.

    >>> round(tau_a([1, 2, 4], [1, 3, 2]), 4)
    0.3333
    """
    first, second = ranks(_finite(first)), ranks(_finite(second))
    every = first.size * (first.size - 1) / 2
    apart = [every - sum(t * (t - 1) / 2 for t in _ties(v)) for v in (first, second)]
    if min(apart) == 0:
        return 0.0
    return float(kendalltau(first, second).statistic * np.sqrt(apart[0] * apart[1]) / every)


def double_centred(vector: Vector) -> NDArray[np.float64]:
    """Return an RDM as a square with the means of rows and columns taken out.

    `vector`: (pair,); result: (stimulus, stimulus), -2 times the centred kernel of which a
    squared Euclidean RDM consists.

    >>> double_centred(np.array([1.0])).tolist()
    [[-0.5, 0.5], [0.5, -0.5]]
    """
    square = squareform(vector, checks=False)
    mean = square.mean(axis=0)
    return np.asarray(square - mean - mean[:, None] + mean.mean())


def _pearson(vector: Vector) -> Vector:
    return standardised(vector)


def _spearman(vector: Vector) -> Vector:
    return standardised(ranks(_finite(vector)))


def _cosine(vector: Vector) -> Vector:
    vector = _finite(vector)
    return _over(vector, np.linalg.norm(vector), vector, "that are all zero")


def _rho_a(vector: Vector) -> Vector:
    n = vector.size
    return np.asarray((ranks(_finite(vector)) - (n + 1) / 2) * np.sqrt(12 / (n**3 - n)))


def _tau_a_data(vector: Vector) -> Vector:
    """Against a model of zeros and ones, tau a is a sum of ranks: a Mann-Whitney count."""
    n = vector.size
    return np.asarray((ranks(_finite(vector)) - (n + 1) / 2) * 4 / (n * (n - 1)))


def _whitened_data(vector: Vector) -> Vector:
    square = double_centred(_finite(vector))
    length = np.linalg.norm(square)
    np.fill_diagonal(square, 0.0)
    return _over(2 * squareform(square, checks=False), length, vector, "that are all zero")


def _whitened_model(vector: Vector) -> Vector:
    length = np.linalg.norm(double_centred(_finite(vector)))
    return _over(vector, length, vector, "that are all zero")


def _whitened_centred_data(vector: Vector) -> Vector:
    return _whitened_data(standardised(vector))


def _whitened_centred_model(vector: Vector) -> Vector:
    return _whitened_model(standardised(vector))


def _debiased(vector: Vector) -> Vector:
    """U-centre an RDM (Székely & Rizzo 2014): unbiased products, since no diagonal takes part."""
    square = squareform(_finite(vector), checks=False)
    n = len(square)
    if n < 4:
        raise UndefinedError(f"a debiased CKA needs at least 4 stimuli; there are {n}")
    total = square.sum(axis=0) / (n - 2)
    square = square - total - total[:, None] + total.sum() / (n - 1)
    np.fill_diagonal(square, 0.0)
    centred = squareform(square, checks=False)
    return _over(centred, np.linalg.norm(centred), vector, "that are all equal")


COMPARATORS = {
    "spearman": Comparator(_spearman, _spearman, "Spearman's rho", partial=True),
    "pearson": Comparator(_pearson, _pearson, "Pearson's r", partial=True),
    "kendall_tau_a": Comparator(_tau_a_data, np.asarray, "Kendall's tau a"),
    "rho_a": Comparator(_rho_a, _rho_a, "rho a"),
    "cosine": Comparator(_cosine, _cosine, "cosine"),
    "whitened_cosine": Comparator(
        _whitened_data, _whitened_model, "whitened cosine", every_pair=True
    ),
    "whitened_correlation": Comparator(
        _whitened_centred_data, _whitened_centred_model, "whitened correlation", every_pair=True
    ),
    "cka": Comparator(_whitened_data, _whitened_model, "linear CKA", every_pair=True),
    "cka_debiased": Comparator(_debiased, _debiased, "debiased linear CKA", every_pair=True),
}
"""Every comparator by name.

`spearman`, `pearson`: correlations of the pairs. `kendall_tau_a`, `rho_a`: rank correlations
that do not favour a model with ties (Nili et al. 2014; Schütt et al. 2023,
doi:10.7554/eLife.82566). `whitened_cosine`, `whitened_correlation`: with the covariance that
dissimilarities have because pairs share stimuli (Diedrichsen et al. 2021). `cka` is the whitened
cosine of squared Euclidean RDMs, the same number as linear CKA of the activations (Kornblith et
al. 2019), and goes to 1 where units outnumber stimuli; `cka_debiased` does not.
"""


def score(compare: str, rdm: Vector, model: Vector, controls: NDArray[np.float64]) -> float:
    """Return the comparison of an RDM and a model RDM, others taken out.

    `rdm`, `model`: (pair,), pairs that are NaN in either are left out; `controls`: (model_rdm,
    pair), none for a plain comparison. A partial correlation is that of what the controls,
    transformed alike, leave of both. `UndefinedError` where it does not exist.

    >>> round(score("pearson", np.array([1.0, 2, 4]), np.array([1.0, 3, 2]), np.empty((0, 3))), 4)
    0.3273
    """
    given = ~(np.isnan(rdm) | np.isnan(model) | np.isnan(controls).any(axis=0))
    if not given.all() and COMPARATORS[compare].every_pair:
        raise UndefinedError(f"{compare!r} needs the dissimilarity of every pair of stimuli")
    rdm, model, controls = rdm[given], model[given], controls[:, given]
    if compare == "kendall_tau_a":
        return tau_a(rdm, model)
    form = COMPARATORS[compare]
    data, model = form.data(rdm), form.model(model)
    basis = control_basis(compare, controls)
    left = residual(data, basis)
    taken = basis @ model
    return float(left @ model / np.sqrt(remaining(taken @ taken)))


def control_basis(compare: str, controls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit vectors at right angles that span the transformed controls: (control, pair).

    A control that the others already make up raises `UndefinedError`.
    """
    if len(controls) == 0:
        return np.empty(controls.shape)
    rows = np.stack([COMPARATORS[compare].data(row) for row in controls])
    basis, triangle = np.linalg.qr(rows.T)
    if (np.diagonal(triangle) ** 2 < COLLINEAR).any():
        raise UndefinedError("the model RDMs under 'partial' make up each other: name fewer")
    return np.asarray(basis.T)


def residual(data: Vector, basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a basis leaves of a unit vector, at unit length."""
    if len(basis) == 0:
        return data
    left = data - (data @ basis.T) @ basis
    size = left @ left
    if size < COLLINEAR:
        raise UndefinedError("the model RDMs under 'partial' leave nothing of the RDM")
    return np.asarray(left / np.sqrt(size))


def remaining(taken: ArrayLike) -> NDArray[np.float64]:
    """Return the squared length that controls leave of a unit vector, given what they take."""
    left = 1 - np.asarray(taken, dtype=np.float64)
    if (left < COLLINEAR).any():
        raise UndefinedError(
            "a model RDM is made up of those under 'partial', which leave nothing of it to test"
        )
    return np.asarray(left)


def _ties(values: Vector) -> NDArray[np.int64]:
    return np.asarray(np.unique(values, return_counts=True)[1])


def _over(values: Vector, length: np.floating, given: ArrayLike, what: str) -> Vector:
    given = np.asarray(given)
    if length <= TIE * np.sqrt(given.size) * np.abs(given).max(initial=0.0):
        raise UndefinedError(f"{given.size} values {what} correlate with nothing")
    return np.asarray(values / length, dtype=np.float64)


def _finite(vector: ArrayLike) -> NDArray[np.float64]:
    vector = np.asarray(vector, dtype=np.float64)
    wrong = int((~np.isfinite(vector)).sum())
    if wrong:
        raise UndefinedError(f"{wrong} of {vector.size} values are NaN or infinite")
    return vector
