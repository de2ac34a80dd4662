"""Model RDMs weighed against each other, by cross-validated non-negative least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from patchclamp.analyses.comparators import TIE
from patchclamp.analyses.pairs import BLOCK, pairs_of
from patchclamp.registry.errors import AnalysisError

LEAST = 4
"""Stimuli in a fold: 6 pairs, of which a correlation is made."""


def weighted_similarity(
    rdms: NDArray[np.float64],
    tables: Sequence[NDArray[np.float64]],
    labellings: NDArray[np.int64],
    fold: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return how well weighed model RDMs predict RDMs of stimuli that the weights never saw.

    `rdms`: (rdm, pair); `tables`: (code, code) each; `labellings`: (labelling, stimulus), codes;
    `fold`: (stimulus,); result: (rdm, labelling), the mean over folds of Pearson's r. For each
    fold, weights and an offset are fitted to the pairs of all other stimuli, min |d - c - Σ w m|²
    with w >= 0, and r is that of Σ w m with the RDM over the pairs inside the fold; pairs of
    which one stimulus is inside take no part. A prediction without any positive weight is
    constant and counts as r = 0. Weights may not be negative because a mixture of feature sets
    has a weighted sum of their squared distances (Khaligh-Razavi & Kriegeskorte 2014,
    doi:10.1371/journal.pcbi.1003915). A fold of fewer than 4 stimuli raises `AnalysisError`.
    """
    sizes = np.bincount(fold)
    if sizes.min() < LEAST:
        raise AnalysisError(
            f"a fold of {sizes.min()} stimuli has too few pairs to predict: at least {LEAST} are "
            "needed in each; use fewer folds, or more stimuli"
        )
    first, second = np.triu_indices(len(fold), 1)
    result = np.zeros((len(rdms), len(labellings)))
    step = max(1, BLOCK // (len(tables) * rdms.shape[1]))
    for begin in range(0, len(labellings), step):
        block = labellings[begin : begin + step]
        models = np.stack([[pairs_of(table, codes) for table in tables] for codes in block])
        for number in range(len(sizes)):
            inside, outside = fold == number, fold != number
            train, test = outside[first] & outside[second], inside[first] & inside[second]
            weights = _fitted(rdms[:, train], models[:, :, train])
            result[:, begin : begin + step] += _predicted(
                weights, rdms[:, test], models[:, :, test]
            )
    return result / len(sizes)


def model_weights(
    rdms: NDArray[np.float64], tables: Sequence[NDArray[np.float64]], codes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the weight of each model RDM, fitted to all pairs: (rdm, model_rdm).

    In units of the RDM for one unit of the model RDM. They say what was mixed, not how well it
    predicts.
    """
    models = np.stack([pairs_of(table, codes) for table in tables])
    return _fitted(rdms, models[None])[:, 0]


def _fitted(rdms: NDArray[np.float64], models: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights (rdm, labelling, model) from (rdm, pair) and (labelling, model, pair)."""
    centred = models - models.mean(axis=2, keepdims=True)
    data = rdms - rdms.mean(axis=1, keepdims=True)
    with_data = np.einsum("rp,lmp->rlm", data, centred, optimize=True)
    products = centred @ centred.transpose(0, 2, 1)
    result = np.empty(with_data.shape)
    for labelling, product in enumerate(products):
        # |d - Mw|² is |Rw - R'⁻¹M'd|² and a constant, with R'R = M'M: as small as the models are.
        values, vectors = np.linalg.eigh(product)
        kept = values > TIE * max(values[-1], np.finfo(np.float64).tiny)
        root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
        targets = with_data[:, labelling] @ vectors[:, kept] / np.sqrt(values[kept])
        for row, target in enumerate(targets):
            result[row, labelling] = nnls(root, target)[0] if kept.any() else 0.0
    return result


def _predicted(
    weights: NDArray[np.float64], rdms: NDArray[np.float64], models: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return r of prediction and RDM, (rdm, labelling); 0 for a constant prediction."""
    centred = models - models.mean(axis=2, keepdims=True)
    data = rdms - rdms.mean(axis=1, keepdims=True)
    products = centred @ centred.transpose(0, 2, 1)
    shared = np.einsum("rlm,lmp,rp->rl", weights, centred, data, optimize=True)
    length = np.sqrt(np.maximum(np.einsum("rlm,lmk,rlk->rl", weights, products, weights), 0.0))
    scale = np.linalg.norm(data, axis=1)[:, None] * length
    flat = scale <= TIE * max(1.0, float(np.abs(rdms).max(initial=0.0)))
    return np.where(flat, 0.0, shared / np.where(flat, 1.0, scale))
