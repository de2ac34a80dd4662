"""How fast RSA is beside rsatoolbox and beside plain loops, with equal results.

    python benchmarks/rsa.py            # everything; several minutes
    python benchmarks/rsa.py rdms null  # some of it

CPU seconds with one BLAS thread in one process: the best of some runs of both in turn, or where
theirs takes long, one of theirs and the median of ours. What would take too long is measured on a
part and multiplied, and said to be. Results are held equal to 1e-9 before any ratio is printed.
For a GPU there is `rsa_torch.py`.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from rsatoolbox.data import Dataset
from rsatoolbox.data.noise import prec_from_residuals
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, calc_rdm, compare
from scipy.stats import ttest_ind

from patchclamp.analyses.comparators import COMPARATORS
from patchclamp.analyses.contrasts import Kind, contrasts
from patchclamp.analyses.feature_study import study_t
from patchclamp.analyses.noise_ceilings import ceiling_draws
from patchclamp.analyses.permutation import p_largest, permuted_labels
from patchclamp.analyses.precision import crossnobis, shrunk_precision
from patchclamp.analyses.rdm import dissimilarities
from patchclamp.analyses.rsa_questions import Contrast
from patchclamp.analyses.rsa_rdms import Chunk
from patchclamp.analyses.similarity import Comparison
from patchclamp.analyses.time_course import Courses, course_dissimilarities
from patchclamp.analyses.unit_scores import SCORES, Block

warnings.simplefilter("ignore")  # of rsatoolbox

UNITS = 4096
EQUAL = 1e-9


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Least CPU seconds of two functions, run one after the other: what disturbs, adds."""
    pairs = [(seconds(ours)[0], seconds(theirs)[0]) for _ in range(runs)]
    first, second = np.min(pairs, axis=0)
    return float(first), float(second)


def told(what: str, ours: float, theirs: float, wanted: float | None, how: str = "") -> None:
    ratio = theirs / ours
    verdict = "" if wanted is None else f"aim {wanted:g} {'met' if ratio >= wanted else 'MISSED'}"
    print(f"{what:64} {ours:9.4f} s {theirs:10.3f} s {ratio:8.2f}x  {verdict} {how}")


def equal(first: Any, second: Any) -> None:
    np.testing.assert_allclose(first, second, rtol=EQUAL, atol=EQUAL)


def activations(n: int, seed: int = 0) -> np.ndarray:
    """A falling spectrum, a common offset and six massive units, as language models have."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, UNITS)) * np.linspace(3, 0.1, UNITS)
    values += rng.normal(size=UNITS)
    values[:, :6] += 300
    return values


def rdms() -> None:
    for n, wanted in ((500, 10), (2000, 20)):
        values = activations(n)
        data = Dataset(values)
        ours, theirs = in_turn(
            lambda v=values: dissimilarities(v),
            lambda d=data: calc_rdm(d, method="correlation"),
            5 if n == 500 else 3,
        )
        equal(dissimilarities(values), calc_rdm(data, method="correlation").dissimilarities[0])
        told(f"correlation RDM, {n} x {UNITS}", ours, theirs, wanted)
        ours, bare = in_turn(lambda v=values: dissimilarities(v), lambda v=values: v @ v.T, 9)
        told(f"  the bare product of that size ({bare / ours:.0%} of its speed)", ours, bare, 0.85)


def crossed() -> None:
    rng = np.random.default_rng(0)
    residuals = rng.normal(size=(500, UNITS))
    residuals -= residuals.mean(axis=0)
    part = residuals[:20].copy()
    for n in (100, 500):
        folds = rng.normal(size=(4, n, UNITS))

        def ours(folds: np.ndarray = folds) -> np.ndarray:
            return crossnobis(folds, shrunk_precision(residuals, 499, "shrinkage"))

        mine = float(np.median([seconds(ours)[0] for _ in range(3)]))
        # Theirs loops over residuals: one matrix of units by units for each.
        noise, precision = seconds(
            lambda: prec_from_residuals(part.copy(), method="shrinkage_diag")
        )
        inverse, _ = seconds(lambda p=precision: np.linalg.inv(p))
        labels = {"item": np.tile(np.arange(n), 4), "fold": np.repeat(np.arange(4), n)}
        data = Dataset(folds.reshape(-1, UNITS), obs_descriptors=labels)
        given = {"method": "crossnobis", "descriptor": "item", "cv_descriptor": "fold"}
        crossing, _ = seconds(lambda d=data, g=given, p=precision: calc_rdm(d, noise=p, **g))
        theirs = (noise - inverse) * len(residuals) / len(part) + inverse + crossing
        what = f"crossnobis with shrinkage, 4 x {n} x {UNITS}"
        told(what, mine, theirs, 100, "(their noise from 20 of 500 residuals)")
    small, few = folds[:, :20, :200], residuals[:, :200]
    given = {"method": "crossnobis", "descriptor": "item", "cv_descriptor": "fold"}
    labels = {"item": np.tile(np.arange(20), 4), "fold": np.repeat(np.arange(4), 20)}
    theirs_small = calc_rdm(
        Dataset(small.reshape(-1, 200), obs_descriptors=labels),
        noise=prec_from_residuals(few.copy(), dof=499, method="shrinkage_diag"),
        **given,
    )
    equal(
        crossnobis(small, shrunk_precision(few, 499, "shrinkage")),
        theirs_small.dissimilarities[0],
    )


def null() -> None:
    n, layers, permutations, tried = 500, 32, 1000, 2
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(n, 1)
    given = rng.gamma(2.0, size=(layers, len(first)))
    codes = rng.permutation(n) % 5
    drawn = permuted_labels(codes, None, permutations, rng)
    labellings = np.concatenate([codes[None], drawn])
    stimuli = np.stack([rng.permutation(n) for _ in range(permutations)])
    every = np.concatenate([np.arange(n)[None], stimuli])
    other = rng.gamma(2.0, size=len(first))
    square = np.zeros((n, n))
    square[first, second] = square[second, first] = other
    comparison = Comparison("spearman", np.empty((0, len(first))))
    cases = {
        "a category": (1 - np.eye(5), labellings),
        "another RDM": (square, every),
    }
    for name, (table, order) in cases.items():

        def ours(table: np.ndarray = table, order: np.ndarray = order) -> np.ndarray:
            values = np.stack([comparison.transformed(rdm) for rdm in given])
            return comparison.scores(given, values, table, order)

        mine = float(np.median([seconds(ours)[0] for _ in range(3)]))
        models = [table[order[k]][:, order[k]][first, second] for k in range(1, tried + 1)]
        data = RDMs(given)

        def theirs(models: list[np.ndarray] = models, data: RDMs = data) -> np.ndarray:
            return np.stack([compare(data, RDMs(m[None]), "spearman")[:, 0] for m in models], 1)

        loop, expected = seconds(theirs)
        equal(ours()[:, 1 : tried + 1], expected)
        what = f"Spearman, {layers} layers x {n} stimuli x {permutations}, {name}"
        told(what, mine, loop * permutations / tried, 300, f"(their loop from {tried})")

        values = np.stack([comparison.transformed(rdm) for rdm in given])
        ranking, _ = seconds(lambda: [comparison.transformed(rdm) for rdm in given])
        some = models * 5

        def ranked(models: list[np.ndarray] = some, values: np.ndarray = values) -> list[Any]:
            return [values @ COMPARATORS["spearman"].model(model) for model in models]

        careful = ranking + seconds(ranked)[0] * permutations / len(some)
        print(f"{'  beside a loop over models that ranks the RDMs once':64} {'':12}"
              f" {careful:9.2f} s {careful / mine:8.2f}x")  # fmt: skip


def bootstrap() -> None:
    for n, repetitions, tried in ((50, 20, 20), (100, 20, 10), (200, 12, 6)):
        for name, method in (("cosine", "cosine"), ("pearson", "corr")):
            _bootstrap(n, repetitions, tried, (name, method))


def _bootstrap(n: int, repetitions: int, tried: int, names: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    pairs = n * (n - 1) // 2
    given = rng.gamma(2.0, size=pairs) + rng.gamma(1.0, size=(repetitions, pairs))
    models = rng.random((3, pairs))
    drawn = rng.integers(0, n, size=(1000, n))
    counts = np.stack([np.bincount(draw, minlength=n) for draw in drawn])
    name, method = names

    def theirs() -> np.ndarray:
        result = []
        for draw in drawn[:tried]:
            sample = RDMs(given).subsample_pattern("index", draw)
            predicted = [RDMs(model[None]).subsample_pattern("index", draw) for model in models]
            scores = [np.mean(compare(model, sample, method)) for model in predicted]
            result.append((*scores, *boot_noise_ceiling(sample, method=method)))
        return np.array(result)

    mine = float(
        np.median(
            [seconds(lambda: ceiling_draws(given, models, counts, name))[0] for _ in range(3)]
        )
    )
    loop, expected = seconds(theirs)
    found = ceiling_draws(given, models, counts, name)
    equal(np.column_stack([found[0], found[1], found[2]])[:tried], expected)
    what = f"1,000 bootstraps with ceilings, {n} stimuli x {repetitions}, {name}"
    told(what, mine, loop * 1000 / tried, 50, f"(theirs from {tried})")


Kinds = tuple[Kind, ...]


def courses() -> None:
    for n in (50, 100):
        _courses(n, features=1024, tried=100)


def _courses(n: int, features: int, tried: int) -> None:
    """Of 50,000 features a part. What the study takes for a feature hardly depends on n."""
    # As a capture has them: (stimulus, position, feature).
    values = np.random.default_rng(0).normal(size=(n, 50, features)).astype(np.float32)
    codes = np.repeat([0, 1], n // 2)
    both: Kinds = ("discriminative_target", "categorical")
    _equal_courses(values[..., :tried], codes, both)
    drawn = permuted_labels(codes, None, 1000, np.random.default_rng(0))
    labellings = np.concatenate([codes[None], drawn])

    def study(kinds: Kinds) -> list[list[float]]:
        return [study_of_one(values[..., f].astype(float), kinds) for f in range(tried)]

    def score(kinds: Kinds) -> list[np.ndarray]:
        return scores_of_selection(values, codes, kinds)

    def contrast(kinds: Kinds) -> list[np.ndarray]:
        return contrasts_of_rsa(values, codes[None], kinds)

    def permuted(kinds: Kinds) -> list[np.ndarray]:
        return contrasts_of_rsa(values, labellings, kinds)

    told_as = {
        score: "",
        contrast: "  as `rsa` does: with z of every pair, and each contrast alone",
        permuted: "  the same with 1,000 permutations, which the study has none of",
    }
    for what, kinds in (("both contrasts", both), ("one", both[:1])):
        times: dict[Any, list[float]] = {}
        for _ in range(7):
            for work in (study, *told_as):
                count = tried if work is study else features
                times.setdefault(work, []).append(seconds(lambda w=work, k=kinds: w(k))[0] / count)
        per = {work: 50_000 * min(found) for work, found in times.items()}
        for work, words in told_as.items():
            name = f"time courses, 50,000 features x {n} stimuli x 50, {what}"
            how = f"(both from a part: {features:,}, {tried}; best of 7)"
            told(words or name, per[work], per[study], 40 if work is score else None, how)


def scores_of_selection(values: np.ndarray, codes: np.ndarray, kinds: Kinds) -> list[np.ndarray]:
    """As `selection` scores features by one or two methods, from all stimuli, without a test."""
    by = {"discriminative_target": "discriminative", "categorical": "categorical"}
    block, parts = Block(values, kinds), [np.arange(len(codes))]
    return [SCORES[by[kind]](block, 1 - codes[None], parts)[0][0] for kind in kinds]


def contrasts_of_rsa(values: np.ndarray, labellings: np.ndarray, kinds: Kinds) -> list[np.ndarray]:
    """As `rsa` with `pattern: positions` does, an entry for each contrast."""
    found = []
    for kind in kinds:
        courses = Courses(values.transpose(2, 0, 1), np.arange(len(values)))
        chunk = Chunk((), course_dissimilarities(courses))
        question = Contrast(kind, labellings, fisher=True, kept=False)
        found.append(question.scores(chunk, question.prepared(chunk.values))[:, 0])
    return found


def study_of_one(course: np.ndarray, kinds: Kinds, *, published: bool = True) -> list[float]:
    """The study's steps for one feature; not as published, of r and without dropped pairs."""
    half = len(course) // 2
    inside = np.triu_indices(half, 1)
    r = np.clip(np.corrcoef(course), -0.999, 0.999)
    z = np.arctanh(1 - r if published else r)
    found = []
    for kind in kinds:
        first = z[:half, :half][inside]
        other = z[:half, half:].ravel() if kind != "categorical" else z[half:, half:][inside]
        if published:
            first, other = first[np.isfinite(first)], other[np.isfinite(other)]
            found.append(float(ttest_ind(first, other).statistic))
        else:
            found.append(float(first.mean() - other.mean()))
    return found


def _equal_courses(values: np.ndarray, codes: np.ndarray, kinds: Kinds) -> None:
    """Hold our contrasts to a loop, to each other, and our study's t to its own steps."""
    exact = values.transpose(2, 0, 1).astype(float)
    loop = np.transpose([study_of_one(one, kinds, published=False) for one in exact])
    equal(scores_of_selection(values, codes, kinds), loop)
    equal(contrasts_of_rsa(values, codes[None], kinds), loop)
    rdms = course_dissimilarities(exact)
    t = [study_t(rdms, codes[None], kind)[:, 0] for kind in kinds]
    np.testing.assert_allclose(
        t, np.transpose([study_of_one(one, kinds) for one in exact]), rtol=1e-6
    )


def largest() -> None:
    n, features = 50, 50_000
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], n // 2)
    labellings = np.concatenate([codes[None], permuted_labels(codes, None, 1000, rng)])
    z = rng.normal(size=(features, n * (n - 1) // 2))

    def ours() -> np.ndarray:
        top, observed = [], []
        for start in range(0, features, 5000):
            scores = contrasts(z[start : start + 5000], labellings, "discriminative")
            observed.append(scores[:, 0])
            top.append(scores[:, 1:].max(axis=0))
        return p_largest(np.concatenate(observed), np.max(top, axis=0))

    mine = float(np.median([seconds(ours)[0] for _ in range(2)]))
    print(f"{f'1,000 permutations, maximum over {features:,} features x {n}':64} {mine:9.4f} s")


PARTS = {
    "rdms": rdms,
    "crossnobis": crossed,
    "null": null,
    "bootstrap": bootstrap,
    "courses": courses,
    "largest": largest,
}


def main() -> None:
    asked = sys.argv[1:] or list(PARTS)
    for name in asked:
        if name not in PARTS:
            sys.exit(f"unknown part {name!r}; known: {', '.join(PARTS)}")
    print(f"{'':64} {'ours':>11} {'theirs':>12} {'ratio':>9}")
    for name in asked:
        PARTS[name]()


if __name__ == "__main__":
    main()
