"""Noise ceilings: how well any model RDM could do, from how far repeated RDMs agree.

The RDM that is most like all repetitions is their mean after each is brought to the form in which
the comparator sees it. Comparing each repetition with that mean gives the upper bound, too high
since the repetition is part of it; comparing it with the mean of the others the lower one
(Nili et al. 2014, doi:10.1371/journal.pcbi.1003553).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.comparators import COMPARATORS, ranks, score, standardised
from patchclamp.analyses.pair_bootstrap import counted
from patchclamp.analyses.pairs import pair_sums
from patchclamp.registry.errors import AnalysisError

RANKED = ("spearman", "rho_a", "kendall_tau_a")


def noise_ceiling(rdms: NDArray[np.float64], compare: str) -> tuple[float, float]:
    """Return the lower and the upper bound: the best that a model RDM can expect.

    `rdms`: (repetition, pair), of the same stimuli; dimensionless. Fewer than 2 repetitions
    raise `AnalysisError`; errors of comparing are those of `score`.

    >>> low, high = noise_ceiling(np.array([[1.0, 2, 4], [1, 3, 4], [2, 1, 4]]), "spearman")
    >>> round(low, 3), round(high, 3)
    (0.744, 0.833)
    """
    if len(rdms) < 2:
        raise AnalysisError(
            f"a noise ceiling is how far repetitions agree, and there is {len(rdms)}: give "
            "several seeds or models under 'matrix.grid'"
        )
    formed = np.stack([_formed(rdm, compare) for rdm in rdms])
    none = np.empty((0, rdms.shape[1]))
    lower = [
        score(compare, rdm, np.delete(formed, i, axis=0).mean(axis=0), none)
        for i, rdm in enumerate(rdms)
    ]
    upper = [score(compare, rdm, formed.mean(axis=0), none) for rdm in rdms]
    return float(np.mean(lower)), float(np.mean(upper))


def _formed(rdm: NDArray[np.float64], compare: str) -> NDArray[np.float64]:
    """Bring an RDM to the form in which its mean with others is the best prediction."""
    if compare in RANKED:
        return ranks(rdm)
    if compare in ("pearson", "whitened_correlation", "cka_debiased"):
        return standardised(rdm)
    return COMPARATORS["cosine"].data(rdm)


def ceiling_draws(
    rdms: NDArray[np.float64], models: NDArray[np.float64], counts: NDArray[np.int64], compare: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return comparisons and noise ceilings in each draw of stimuli, exactly.

    `rdms`: (repetition, pair); `models`: (model_rdm, pair); `counts`: (draw, stimulus);
    `compare`: `pearson` or `cosine`. Returns the mean over repetitions of the comparison with
    each model RDM, (draw, model_rdm), and the lower and the upper bound, (draw,). All follow
    from the weighted products of all RDMs with each other.
    """
    given = np.concatenate([rdms, models])
    n, pearson = len(rdms), compare == "pearson"
    if pearson:
        given = given - given.mean(axis=1, keepdims=True)  # for its digits
    given = given / np.linalg.norm(given, axis=1, keepdims=True)
    one, other = np.triu_indices(len(given))
    sums = pair_sums(given[one] * given[other], counts, counted).T
    products = np.empty((len(counts), len(given), len(given)))
    products[:, one, other] = products[:, other, one] = sums
    if pearson:
        rows = np.concatenate([given, np.ones((1, given.shape[1]))])
        moments = pair_sums(rows, counts, counted).T
        products -= moments[:, :-1, None] * moments[:, None, :-1] / moments[:, -1, None, None]
    length = np.sqrt(np.einsum("dii->di", products))
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = products / (length[:, :, None] * length[:, None, :])
        repeated = alike[:, :n, :n]
        with_all = repeated.sum(axis=2)
        every = with_all.sum(axis=1, keepdims=True)
        others = with_all - 1
        lower = (others / np.sqrt(every - 2 * with_all + 1)).mean(axis=1)
        upper = (with_all / np.sqrt(every)).mean(axis=1)
    return alike[:, :n, n:].mean(axis=1), lower, upper
