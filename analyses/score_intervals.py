"""Intervals of scores where all that was held out is right, or all of it wrong."""

from __future__ import annotations

import numpy as np

from patchclamp.analyses.bootstrap import beyond_certain
from patchclamp.analyses.probe_design import Design


def beyond(name: str, design: Design) -> float:
    """Return how far an interval reaches from a score of 1 (or 0) that no draw departs from.

    With n groups in all, and n_c that hold class c of K: for accuracy Wilson's bound w(n); for
    balanced accuracy w(n) or, as if only the smallest class were less sure, w(min n_c) / K,
    whichever is larger; for an area under the curve the mean over classes of w(m_c), m_c being the
    smaller of the numbers of groups that hold c and that hold another class: so many independent
    pairs are in order. Other scores have no such end: 0.
    """
    held = np.zeros((design.n_groups, design.n_classes), dtype=bool)
    held[np.unique(design.units, return_inverse=True)[1], design.codes] = True
    groups = [int(n) for n in held.sum(axis=0) if n]
    if name == "accuracy":
        return beyond_certain(design.n_groups)
    if name == "balanced_accuracy":
        return max(beyond_certain(design.n_groups), beyond_certain(min(groups)) / len(groups))
    if name == "auroc":
        others = [np.delete(held, c, axis=1).any(axis=1).sum() for c in range(design.n_classes)]
        pairs = np.minimum(held.sum(axis=0), others).tolist()
        return float(np.mean([beyond_certain(n) for n in pairs]))
    return 0.0
