"""CPU time of probes with permuted labels, against refits by scikit-learn.

One process does both, on one thread, in process time (user and system). Patterns are like a
language model's: a power-law spectrum, a common offset, six dimensions of great size, two
paraphrases a group. Ours is a cross-validated probe with all its permuted labels; scikit-learn's a
pipeline of StandardScaler and estimator, fitted anew for every labelling and fold, of which some
are timed and the rest is in proportion, as each line says. Decisions of the labellings that both
have are held against each other, their difference told as a share of their mean size; a logistic
one against scikit-learn's at a strict tolerance, while what is timed is its default.

    python benchmarks/probe.py [--stimuli 500 2000] [--units 4096] [--labels 1000]

`careful` is the same refits by someone who knows that `Ridge` takes many targets at once.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from time import process_time
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from patchclamp.analyses.decoding import Estimator, Fold, held_out
from patchclamp.analyses.folds import group_folds
from patchclamp.analyses.permutation import permuted_labels

Array = NDArray[Any]

EXACT = 1e-11
"""Two factorisations in float64 differ by as much: at 2,000 stimuli and permuted labels each is
3e-12 from extended precision; with 500, or true labels, they are equal to 1e-13."""

CONVERGED = 1e-4
"""So far may decisions be from a minimum where the gradient has come to the tolerance."""


def problem(stimuli: int, units: int, labels: int) -> tuple[Array, Array, list[Fold]]:
    """Return patterns, labellings with the true one first, and five folds of whole groups."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(stimuli // 2), 2)
    codes = rng.permutation(np.arange(stimuli // 2) % 2)[group]
    k = min(units, 2000)
    scores = rng.normal(size=(stimuli // 2, k))[group] + 0.5 * rng.normal(size=(stimuli, k))
    x = (scores * np.arange(1, k + 1) ** -0.5) @ rng.normal(size=(k, units)) / 3
    x += 3 * rng.normal(size=units) + 0.3 * rng.normal(size=(2, units))[codes]
    x[:, rng.choice(units, 6, replace=False)] *= 50
    number = group_folds(group, 5, rng)
    folds = [
        Fold(train, np.flatnonzero(number == fold), np.zeros(len(train), dtype=int))
        for fold in range(5)
        for train in [np.flatnonzero(number != fold)]
    ]
    drawn = permuted_labels(codes, group, labels, rng)
    return x.astype(np.float32), np.concatenate([codes[None], drawn]), folds


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a piece of work, and what it gives."""
    start = process_time()
    found = work()
    return process_time() - start, found


def refits(x: Array, labellings: Array, folds: list[Fold], model: Any) -> tuple[float, Array]:
    """Return the CPU seconds of a refit, and decisions (labelling, stimulus)."""
    found = np.empty((len(labellings), len(x)))

    def work() -> None:
        for row, labels in enumerate(labellings):
            for fold in folds:
                pipeline = make_pipeline(StandardScaler(), model)
                pipeline.fit(x[fold.train], labels[fold.train])
                found[row, fold.test] = pipeline.decision_function(x[fold.test])

    return timed(work)[0] / (len(labellings) * len(folds)), found


def careful(x: Array, labellings: Array, folds: list[Fold]) -> float:
    """Return the CPU seconds of ridge refits that share each fold's factorisation."""

    def work() -> None:
        for fold in folds:
            scaler = StandardScaler().fit(x[fold.train])
            model = Ridge(alpha=1.0).fit(
                scaler.transform(x[fold.train]), 2.0 * labellings[:, fold.train].T - 1
            )
            model.predict(scaler.transform(x[fold.test]))

    return timed(work)[0]


def alone(x: Array, labellings: Array, folds: list[Fold], estimator: Estimator) -> Array:
    """Return our held-out decisions, one labelling at a time: (labelling, stimulus)."""
    found = [held_out(x, row[None], folds, estimator).decisions[:, 0] for row in labellings]
    return np.stack(found)


def line(what: str, ours: float | None, theirs: float, ratio: float, more: str = "") -> None:
    mine = "" if ours is None else f"{ours:9.3f} s"
    print(f"{what:<50} {mine:>11} {theirs:11.1f} s {ratio:9.1f} x   {more}", flush=True)


def verdict(ratio: float, aim: float, apart: float, limit: float) -> str:
    """Return whether it is as fast as it should be, and as equal."""
    met = "met" if ratio >= aim and apart <= limit else "MISSED"
    return f"aim {aim:g}, {met}; apart by {apart:.1e} (at most {limit:g})"


def ridge_null(what: str, x: Array, labellings: Array, folds: list[Fold]) -> None:
    """Time all labellings by ridge."""
    ridge, few, exact = Estimator("ridge", (1.0,)), labellings[:2], x.astype(np.float64)
    held_out(x, few, folds, ridge)  # what is loaded on first use is not timed
    ours, _ = timed(lambda: held_out(x, labellings, folds, ridge))
    each, found = refits(exact, few, folds, RidgeClassifier(alpha=1.0))
    apart = np.abs(alone(x, few, folds, ridge) - found).max() / np.abs(found).mean()
    theirs = each * len(labellings) * len(folds)
    more = f"{verdict(theirs / ours, 500, apart, EXACT)}; theirs from 2 labellings"
    line(f"ridge null, {what}", ours, theirs, theirs / ours, more)
    shared = careful(exact, labellings, folds)
    line("  against a careful Ridge of many targets", None, shared, shared / ours)


def logistic_null(what: str, strength: float, problem: tuple[Array, Array, list[Fold]]) -> None:
    """Time all labellings by logistic regression."""
    x, labellings, folds = problem
    logistic, exact = Estimator("logistic", (strength,)), x.astype(np.float64)
    true, permuted = labellings[:1], labellings[1:3]
    held_out(x, true, folds, logistic)
    ours, _ = timed(lambda: held_out(x, labellings, folds, logistic))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        rough = refits(x, true, folds, LogisticRegression(C=strength))[1]
        # Of permuted labels, which nearly all are, and which take longer.
        each, _ = refits(x, permuted, folds, LogisticRegression(C=strength))
    strict = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000)
    slow, found = refits(exact, true, folds, strict)
    scale, n = np.abs(found).mean(), len(labellings) * len(folds)
    apart = np.abs(alone(x, true, folds, logistic) - found).max() / scale
    off = np.abs(rough - found).max() / scale
    more = f"{verdict(each * n / ours, 20, apart, CONVERGED)}; theirs from 2 labellings"
    line(f"logistic null, C = {strength:g}, {what}", ours, each * n, each * n / ours,
         f"{more}, off by {off:.1e}")  # fmt: skip
    more = "theirs from the true labelling"
    line("  against refits that have converged", None, slow * n, slow * n / ours, more)


def svm_null(what: str, x: Array, labellings: Array, folds: list[Fold]) -> None:
    """Time a twentieth of the labellings by support vector machines; of these nothing is asked."""
    svm, exact, some = Estimator("svm", (1.0,)), x.astype(np.float64), labellings[::20]
    held_out(x, some[:1], folds, svm)
    ours, _ = timed(lambda: held_out(x, some, folds, svm))
    each, found = refits(exact, labellings[20:21], folds, SVC(C=1.0, kernel="linear"))
    apart = np.abs(alone(x, labellings[20:21], folds, svm) - found).max() / np.abs(found).mean()
    theirs = each * len(some) * len(folds)
    more = f"of {len(some)} labellings; theirs from 1 labelling, apart by {apart:.1e}"
    line(f"SVM null, C = 1, {what}", ours, theirs, theirs / ours, more)


def main() -> None:
    """Print a table of CPU seconds and ratios."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--stimuli", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--labels", type=int, default=1000)
    given = parser.parse_args()
    print(f"{'':<50} {'ours':>11} {'scikit-learn':>13} {'ratio':>11}")
    for stimuli in given.stimuli:
        made = problem(stimuli, given.units, given.labels)
        what = f"{stimuli} x {given.units}"
        ridge_null(what, *made)
        for strength in (1.0, 1e-3):
            logistic_null(what, strength, made)
        svm_null(what, *made)


if __name__ == "__main__":
    main()
