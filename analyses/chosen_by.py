"""Results of units chosen in several ways, side by side, as one family of tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from patchclamp.analyses.patterns import units_of
from patchclamp.analyses.permutation import p_fdr, p_largest
from patchclamp.analyses.scores import Array
from patchclamp.registry.errors import AnalysisError


def ways_on(selection: xr.Dataset, data: xr.Dataset, names: tuple[str, str]) -> list[str]:
    """Return the ways of a selection that chose units of a capture, or of the same site.

    `selection`: its result, with the coordinates `capture` and `units_of` of each way; `names`:
    of the selection and of the capture. A selection that chose none of them raises
    `AnalysisError`.
    """
    name, of = names
    same = (selection["capture"].values == of) | (selection["units_of"].values == units_of(data))
    ways: list[str] = selection["chosen_by"].values[same].tolist()
    if not ways:
        others = ", ".join(sorted(set(selection["capture"].values.tolist())))
        raise AnalysisError(
            f"{name!r} chose units of {others}, and none of {of!r}: give this analysis the same "
            "capture, or one of the same site"
        )
    return ways


def side_by_side(
    results: Mapping[str, xr.Dataset], selection: xr.Dataset, tested: tuple[str, str] | None
) -> xr.Dataset:
    """Return results along the dim `chosen_by`, with `p_max` and `p_fdr` over all of them.

    `results`: by way of a `selection`; `tested`: the names of what is tested and of its null,
    with the same permutations in all results; None where nothing is. Each model RDM stays a
    family of its own.
    """
    ways = list(results)
    kinds = selection["kind_of_method"].sel(chosen_by=ways).values
    joined = xr.concat(
        list(results.values()), dim="chosen_by", join="exact", combine_attrs="override"
    ).assign_coords(chosen_by=ways, kind_of_method=("chosen_by", kinds))
    if tested is None:
        return joined
    families: list[dict[str, list[str]]] = [{}]
    if "model_rdm" in joined["p"].dims:
        families = [{"model_rdm": [name]} for name in joined["model_rdm"].values.tolist()]
    for family in families:
        one = joined.sel(family)
        found = p_fdr(one["p"].values), p_largest(*_observed(one, tested))
        for name, corrected in zip(("p_fdr", "p_max"), found, strict=True):
            joined[name].loc[family] = one[name].copy(data=corrected)
    return joined


def _observed(joined: xr.Dataset, tested: tuple[str, str]) -> tuple[Array, Array]:
    """Return what is tested, with the dims of its p, and the largest null value of each draw."""
    two_sided = joined.attrs["tail"] == "two-sided"
    observed = joined[tested[0]].transpose(*joined["p"].dims).values
    if tested[1] in joined:
        null = joined[tested[1]].transpose("permutation", ...).values
        null = np.abs(null) if two_sided else null
    else:
        null = joined["null_max"].transpose("permutation", ...).values
    largest = np.fmax.reduce(null.reshape(len(null), -1), axis=1)
    return np.abs(observed) if two_sided else observed, largest
