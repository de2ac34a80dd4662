"""The model RDMs of an entry: tables of labels and ratings, and the RDMs of other captures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from patchclamp.analyses.pairs import pairs_of
from patchclamp.analyses.rsa_captures import Where, other_rdms
from patchclamp.analyses.rsa_design import table_of
from patchclamp.analyses.rsa_items import Items
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_rsa import Rsa
from patchclamp.specs.rdms import CaptureModel, ModelRdm

AGAINST = "against."
"""What stands before the name of a model RDM in the name of what it needs measured."""


@dataclass(frozen=True)
class Models:
    """The model RDMs of an entry, for some items; `data` holds what they need, `against.<name>`."""

    entry: Rsa
    items: Items
    data: Mapping[str, xr.Dataset]
    memory: int

    @property
    def given(self) -> Mapping[str, ModelRdm]:
        """The model RDMs by name."""
        return self.entry.against or {}

    def measured(self, name: str) -> tuple[NDArray[np.float64], list[int | str], Where]:
        """Return the RDMs of another capture, its layers, and which of them each place meets."""
        model = self.given[name]
        assert isinstance(model, CaptureModel), "only a capture is measured"
        other = self.data[AGAINST + name]
        return other_rdms(model, other, self.items, self.entry.rdm, self.memory)

    def table(self, name: str, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what a model RDM says of two codes: (code, code)."""
        if isinstance(self.given[name], CaptureModel):
            return np.asarray(squareform(self._only(name), checks=False))
        ratings = {
            part.removeprefix(AGAINST): data
            for part, data in self.data.items()
            if "dissimilarity" in data
        }
        return table_of(name, self.given, (self.items, codes), ratings)

    def controls(self) -> NDArray[np.float64]:
        """Return the model RDMs that are taken out, as they are: (model_rdm, pair)."""
        every = np.arange(len(self.items))
        rows = [pairs_of(self.table(name, every), every) for name in self.entry.partial]
        return np.array(rows).reshape(-1, len(every) * (len(every) - 1) // 2)

    def _only(self, name: str) -> NDArray[np.float64]:
        """Return the RDM of a capture that has one place at the layer asked for."""
        rdms, layers, _ = self.measured(name)
        if rdms.shape[:2] != (1, 1):
            raise AnalysisError(
                f"model RDM {name!r} stands for one RDM here, and its capture gives "
                f"{len(layers)} layers with {rdms.shape[1]} heads or positions: capture one"
            )
        return np.asarray(rdms[0, 0])
