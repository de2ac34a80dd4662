"""Comparisons of many RDMs with one model RDM under many labellings.

A model RDM is a table of what it says of two codes. Under a labelling that only exchanges codes,
its transformed vector is the same numbers in another order, so it is transformed once and looked
up: one matrix product gives all labellings for all layers. Where a labelling changes how often a
code occurs (groups of unequal size change places), the model RDM is transformed anew for each;
where pairs lack a value, each comparison is made for itself. Every way gives the same number.

With model RDMs that are taken out, it is what they leave of the model RDM that is permuted, row
and column with each stimulus, and then freed of them again (Dekker, Krackhardt & Snijders 2007,
doi:10.1007/s11336-007-9016-1). Permuted labels would have nothing to do with a confound that the
observed ones go along with: measured on noise, p <= 0.05 was found in 9 of 100 tests where a
length all but told the class apart, and in 5 this way. What is taken out is the linear influence
of a confound (`spearman`: of its ranks); what a bent one leaves is found as an effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import squareform

from patchclamp.analyses.comparators import (
    COMPARATORS,
    Vector,
    control_basis,
    remaining,
    residual,
    score,
)
from patchclamp.analyses.pairs import BLOCK, looked_up, pair_sums, pairs_of, same
from patchclamp.registry.errors import UndefinedError

RANKED = ("spearman", "rho_a", "kendall_tau_a")
"""Comparators that see ranks: of zeros and ones these are linear in the values."""


@dataclass(frozen=True)
class Comparison:
    """A comparator by name, with the model RDMs (model_rdm, pair) that are controlled for."""

    compare: str
    controls: NDArray[np.float64]

    @cached_property
    def basis(self) -> NDArray[np.float64]:
        """What the controls span, transformed: (control, pair)."""
        return control_basis(self.compare, self.controls)

    def transformed(self, rdm: Vector) -> Vector:
        """Return what `scores` needs of an RDM: (pair,), NaN throughout if it lacks pairs.

        `UndefinedError` if the RDM is constant, or made up of what is controlled for.
        """
        if np.isnan(rdm).any() or np.isnan(self.controls).any():
            return np.full(rdm.shape, np.nan)
        data = COMPARATORS[self.compare].data(rdm)
        return residual(data, self.basis) if len(self.controls) else data

    def scores(
        self,
        rdms: NDArray[np.float64],
        values: NDArray[np.float64],
        table: ArrayLike,
        labellings: NDArray[np.int64],
        stimuli: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float64]:
        """Return each RDM's comparison with the model RDM of each labelling.

        `rdms` and `values`, the same `transformed`: (rdm, pair); `table`: (code, code), NaN for
        pairs of codes without a value; `labellings`: (labelling, stimulus), the first of which
        is the observed one; `stimuli`: the one whose place each takes, (labelling, stimulus), if a
        labelling is that; result: (rdm, labelling), dimensionless. NaN where a comparison does
        not exist among the pairs that are left.
        """
        table = np.asarray(table, dtype=np.float64)
        if np.isnan(table).any() or not self._is_product(table):
            return self._one_by_one(rdms, table, labellings)
        result = np.empty((len(rdms), len(labellings)))
        whole = ~np.isnan(values[:, 0])
        if whole.any():
            rows = np.concatenate([values[whole], self.basis])
            if len(self.controls) and stimuli is not None:
                products = self._left_over(rows, table, labellings[0], stimuli)
            elif _exchanged(labellings):
                products = self._looked_up(rows, table, labellings)
            else:
                products = self._transformed_anew(rows, table, labellings)
            some, taken = products[: whole.sum()], products[whole.sum() :]
            if len(taken):
                some = some / np.sqrt(remaining((taken**2).sum(axis=0)))
            result[whole] = some
        if not whole.all():
            result[~whole] = self._one_by_one(rdms[~whole], table, labellings)
        return result

    def _is_product(self, table: NDArray[np.float64]) -> bool:
        return self.compare != "kendall_tau_a" or _is_binary(table)

    def _model(self, vector: Vector, binary: bool) -> Vector:
        if binary and self.compare == "spearman":
            return COMPARATORS["pearson"].model(vector)
        return COMPARATORS[self.compare].model(vector)

    def _looked_up(
        self, rows: NDArray[np.float64], table: NDArray[np.float64], labellings: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Transform the model RDM once: every labelling has its numbers in another order."""
        first, second = np.triu_indices(labellings.shape[1], 1)
        codes = labellings[0]
        model = self._model(table[codes[first], codes[second]], _is_binary(table))
        if np.array_equal(table, 1 - np.eye(len(table))):  # a category model: same or not
            within = codes[first] == codes[second]
            if within.any() and not within.all():
                inside, across = model[within][0], model[~within][0]
                every = across * rows.sum(axis=1)[:, None]
                inside_sums = pair_sums(rows, labellings, same)
                return np.asarray(every + (inside - across) * inside_sums)
        transformed = np.zeros(table.shape)
        transformed[codes[first], codes[second]] = model
        transformed[codes[second], codes[first]] = model
        return pair_sums(rows, labellings, looked_up(transformed))

    def _left_over(
        self,
        rows: NDArray[np.float64],
        table: NDArray[np.float64],
        codes: NDArray[np.int64],
        stimuli: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Permute what the controls leave of the model RDM, as a table of stimuli."""
        model = self._model(pairs_of(table, codes), _is_binary(table))
        remaining((self.basis @ model) @ (self.basis @ model))
        left = squareform(residual(model, self.basis), checks=False)
        return pair_sums(rows, stimuli, looked_up(left))

    def _transformed_anew(
        self, rows: NDArray[np.float64], table: NDArray[np.float64], labellings: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        binary = _is_binary(table)
        step = max(1, BLOCK // rows.shape[1])
        parts = []
        for start in range(0, len(labellings), step):
            models = []
            for number, codes in enumerate(labellings[start : start + step], start):
                try:
                    models.append(self._model(pairs_of(table, codes), binary))
                except UndefinedError as error:
                    raise UndefinedError(
                        f"labelling {number} of {len(labellings)} makes the model RDM constant "
                        "(0 is the observed one, and exchanging whole groups of unequal size can "
                        f"empty a small class): {error}"
                    ) from error
            parts.append(rows @ np.stack(models).T)
        return np.concatenate(parts, axis=1)

    def _one_by_one(
        self, rdms: NDArray[np.float64], table: NDArray[np.float64], labellings: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Make each comparison for itself, over the pairs that have all values.

        An RDM that lacks pairs gets NaN if any labelling leaves it too few to compare.
        """
        result = np.full((len(rdms), len(labellings)), np.nan)
        for row, rdm in enumerate(rdms):
            try:
                for number, codes in enumerate(labellings):
                    model = pairs_of(table, codes)
                    result[row, number] = score(self.compare, rdm, model, self.controls)
            except UndefinedError:
                if not (np.isnan(rdm).any() or np.isnan(table).any()):
                    raise
                result[row] = np.nan
        return result


def _exchanged(labellings: NDArray[np.int64]) -> bool:
    """Return whether every labelling has each code as often as the first."""
    ordered = np.sort(labellings, axis=1)
    return bool((ordered == ordered[0]).all())


def _is_binary(table: NDArray[np.float64]) -> bool:
    return bool(np.isin(table, (0.0, 1.0)).all())
