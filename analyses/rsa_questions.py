"""What an RSA asks of RDMs: comparisons with model RDMs, contrasts, and a published formula.

A question takes RDMs, some places at a time, and returns what each labelling makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from patchclamp.analyses.contrasts import Kind, contrasts, pair_sets
from patchclamp.analyses.feature_study import study_t
from patchclamp.analyses.pair_bootstrap import contrast_draws, similarity_draws
from patchclamp.analyses.pairs import pairs_of
from patchclamp.analyses.rdm import fisher_z
from patchclamp.analyses.rsa_rdms import Chunk
from patchclamp.analyses.similarity import Comparison
from patchclamp.analyses.weighted_models import model_weights, weighted_similarity

Array = NDArray[np.float64]
At = Mapping[str, int | str]


class Question(Protocol):
    """A number that RDMs and labellings give."""

    @property
    def two_sided(self) -> bool:
        """Whether a value of either sign counts."""

    def prepared(self, rdms: Array) -> Array:
        """Return what `scores` needs of each RDM: (rdm, pair) to the same."""

    def scores(self, chunk: Chunk, values: Array) -> Array:
        """Return (rdm, ..., labelling) of a chunk of RDMs, prepared as `values`."""

    def draws(self, chunk: Chunk, values: Array, counts: NDArray[np.int64]) -> Array:
        """Return (rdm, draw), for how often each stimulus is drawn."""

    def given(self, chunk: Chunk) -> NDArray[np.int64]:
        """Return how many pairs take part: (rdm,)."""


@dataclass(frozen=True)
class Similarity:
    """The comparison with one model RDM: a table (code, code)."""

    comparison: Comparison
    table: Array
    labellings: NDArray[np.int64]
    stimuli: NDArray[np.int64] | None = None
    two_sided: bool = False

    @property
    def _model(self) -> Array:
        return pairs_of(self.table, self.labellings[0])

    def prepared(self, rdms: Array) -> Array:
        """Bring each RDM to the form of the comparator."""
        return np.stack([self.comparison.transformed(rdm) for rdm in rdms])

    def scores(self, chunk: Chunk, values: Array) -> Array:
        """Compare with the model RDM of every labelling."""
        rdms, drawn = chunk.values, (self.labellings, self.stimuli)
        return self.comparison.scores(rdms, values, self.table, *drawn)

    def draws(self, chunk: Chunk, values: Array, counts: NDArray[np.int64]) -> Array:
        """Compare in every draw of stimuli."""
        return similarity_draws(chunk.values, self._model, counts, self.comparison.compare)

    def given(self, chunk: Chunk) -> NDArray[np.int64]:
        """Count the pairs that both have."""
        return np.asarray((~np.isnan(chunk.values) & ~np.isnan(self._model)).sum(axis=1))


@dataclass(frozen=True)
class CaptureSimilarity:
    """The comparison with another capture's RDMs, each place with those that `rdms_at` gives.

    `rdms`: (layer, place, pair) of the other capture; `where`: for a place of this one, the
    number of the other's place and layer, None for all layers.
    """

    comparison: Comparison
    rdms: Array
    where: Mapping[frozenset[tuple[str, int | str]], tuple[int, int | None]]
    labellings: NDArray[np.int64]
    two_sided: bool = False

    def prepared(self, rdms: Array) -> Array:
        """Bring each RDM to the form of the comparator."""
        return np.stack([self.comparison.transformed(rdm) for rdm in rdms])

    @property
    def _all(self) -> bool:
        return any(layer is None for _, layer in self.where.values())

    def _layers(self, at: At) -> tuple[int, range]:
        place, layer = self.where[frozenset(at.items())]
        return place, range(len(self.rdms)) if layer is None else range(layer, layer + 1)

    def scores(self, chunk: Chunk, values: Array) -> Array:
        """Compare with the other capture's RDM under every labelling, or with each of them."""
        users: dict[tuple[int, int], list[int]] = {}
        for row, at in enumerate(chunk.at):
            place, layers = self._layers(at)
            for layer in layers:
                users.setdefault((layer, place), []).append(row)
        n_layers, n = len(self.rdms) if self._all else 1, self.labellings.shape[1]
        result = np.empty((len(values), n_layers, len(self.labellings)))
        first, second = np.triu_indices(n, 1)
        table = np.zeros((n, n))
        for (layer, place), rows in users.items():
            table[first, second] = table[second, first] = self.rdms[layer, place]
            drawn = (self.labellings, self.labellings)  # its codes are the stimuli themselves
            found = self.comparison.scores(chunk.values[rows], values[rows], table, *drawn)
            result[rows, layer if self._all else 0] = found
        return result if self._all else result[:, 0]

    def _model(self, at: At) -> Array:
        place, layers = self._layers(at)
        return np.asarray(self.rdms[layers[0], place])

    def draws(self, chunk: Chunk, values: Array, counts: NDArray[np.int64]) -> Array:
        """Compare in every draw of stimuli."""
        compare = self.comparison.compare
        rows = [
            similarity_draws(chunk.values[i : i + 1], self._model(at), counts, compare)
            for i, at in enumerate(chunk.at)
        ]
        return np.concatenate(rows)

    def given(self, chunk: Chunk) -> NDArray[np.int64]:
        """Count the pairs that both have, in all layers where these are compared."""
        shared = []
        for rdm, at in zip(chunk.values, chunk.at, strict=True):
            place, layers = self._layers(at)
            shared.append(~np.isnan(rdm) & ~np.isnan(self.rdms[list(layers), place]).any(axis=0))
        return np.asarray(np.stack(shared).sum(axis=1))


@dataclass(frozen=True)
class Weighted:
    """How well several model RDMs, weighed, predict the RDM of stimuli held out."""

    tables: tuple[Array, ...]
    fold: NDArray[np.int64]
    labellings: NDArray[np.int64]
    two_sided: bool = False

    def prepared(self, rdms: Array) -> Array:
        """Return RDMs as they are."""
        return rdms

    def scores(self, chunk: Chunk, values: Array) -> Array:
        """Predict under every labelling."""
        return weighted_similarity(values, self.tables, self.labellings, self.fold)

    def weights(self, chunk: Chunk) -> Array:
        """Return the weight of each model RDM: (rdm, model_rdm)."""
        return model_weights(chunk.values, self.tables, self.labellings[0])

    def draws(self, chunk: Chunk, values: Array, counts: NDArray[np.int64]) -> Array:
        """Weights are fitted anew for each draw by nobody: the grammar refuses it."""
        raise AssertionError("the grammar refuses a bootstrap of weighted models")

    def given(self, chunk: Chunk) -> NDArray[np.int64]:
        """Count the pairs."""
        return np.full(len(chunk.values), chunk.values.shape[1])


@dataclass(frozen=True)
class Contrast:
    """The difference of the mean similarity in two sets of pairs; `fisher` says in Fisher z.

    `kept`: RDMs are needed afterwards, so that z may not take their place in memory.
    """

    kind: Kind
    labellings: NDArray[np.int64]
    fisher: bool
    published: bool = False
    kept: bool = True

    @property
    def two_sided(self) -> bool:
        """Either class may be the more coherent one, but only one sign means apart."""
        return self.kind == "categorical"

    def prepared(self, rdms: Array) -> Array:
        """Turn dissimilarities into similarities."""
        if self.published:
            return rdms
        if not self.fisher:
            return -rdms
        return fisher_z(dissimilarity=rdms, out=None if self.kept else rdms)

    def scores(self, chunk: Chunk, values: Array) -> Array:
        """Contrast the classes of every labelling."""
        if self.published:
            return study_t(values, self.labellings, self.kind)
        return contrasts(values, self.labellings, self.kind)

    def draws(self, chunk: Chunk, values: Array, counts: NDArray[np.int64]) -> Array:
        """Contrast in every draw of stimuli."""
        return contrast_draws(values, pair_sets(self.labellings[0], self.kind), counts)

    def given(self, chunk: Chunk) -> NDArray[np.int64]:
        """Count the pairs of either set."""
        first, second = pair_sets(self.labellings[0], self.kind)
        return np.asarray((~np.isnan(chunk.values) & (first | second)).sum(axis=1))
