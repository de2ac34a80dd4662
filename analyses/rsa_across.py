"""RSA over the cells of a matrix: how far seeds or models agree, and what that bounds.

Each repetition's result holds its RDMs; here they meet. They need the same stimuli, which a
result checks by their ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.comparators import COMPARATORS, score
from patchclamp.analyses.noise_ceilings import ceiling_draws, noise_ceiling
from patchclamp.analyses.pair_bootstrap import drawn_counts, interval
from patchclamp.analyses.patterns import meaning
from patchclamp.analyses.seeds import Seeds
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_rsa import Rsa

SAME = 1e-9
"""RDMs that differ by less, as a share of the largest value, are those of one measurement."""

REPEATED = {"seeds": ("seed",), "models": ("model", "revision")}
"""What repeats, as the spec says it -> the dims of a result that hold the repetitions."""


def across(entry: Rsa, data: xr.Dataset, seeds: Seeds) -> xr.Dataset:
    """Return the result of all cells with what their RDMs say together.

    `data`: `rdm(repetition, ..., stimulus, other)` and the analysis' own variables, along the dims
    of the matrix. Adds, for each place and each value of other dims of the matrix,

    * `ceiling_low`, `ceiling_high`: what a model RDM can expect at best (`noise_ceilings`);
    * `agreement(repetition, versus, layer, model_layer, ...)`: the comparison of every two
      repetitions' RDMs, of every layer with every layer;
    * with a bootstrap and `pearson` or `cosine`, `below_ceiling` of each model RDM: the lower
      ceiling minus the mean comparison over repetitions, with its interval over stimuli.

    Repetitions of which stimuli differ, and such as are copies, raise `AnalysisError`.
    """
    if entry.noise_ceiling == "none":
        return data
    repeated = [dim for dim in REPEATED.get(entry.noise_ceiling, ()) if dim in data["rdm"].dims]
    if len(repeated) != 1 or data.sizes[repeated[0]] < 2:
        among = " or ".join(REPEATED.get(entry.noise_ceiling, ()))
        raise AnalysisError(
            f"a noise ceiling over {entry.noise_ceiling} needs one axis of the matrix along {among}"
            f", with 2 values or more; the result has ({', '.join(map(str, data['rdm'].dims))})"
        )
    (dim,) = repeated
    rdm = data["rdm"].transpose(..., dim, "stimulus", "other")
    _need_same_stimuli(rdm, dim)
    _refuse_copies(rdm, dim)
    found = {**_ceilings(entry, rdm, dim), "agreement": _agreement(entry, rdm, dim)}
    if entry.bootstrap is not None and entry.compare in ("pearson", "cosine"):
        found |= _below(entry, data, rdm, dim, seeds)
    return data.assign(found)


def _need_same_stimuli(rdm: xr.DataArray, dim: str) -> None:
    others = [d for d in rdm.dims if d not in (dim, "stimulus")]
    missing = rdm.isnull().all(others).transpose(dim, "stimulus").values
    wrong = np.argwhere(missing)
    if wrong.size:
        label, name = rdm[dim].values[wrong[0, 0]], str(rdm["stimulus"].values[wrong[0, 1]])
        raise AnalysisError(
            f"{dim} {label} has no stimulus {name!r}, which others have: a noise ceiling "
            "compares RDMs of the same stimuli"
        )


def _refuse_copies(rdm: xr.DataArray, dim: str) -> None:
    """Refuse repetitions that are one measurement, as seeds are that change nothing measured.

    Copies agree perfectly, so that the ceiling would be 1 whatever the model RDMs explain.
    """
    values = rdm.transpose(dim, ...).values
    same = SAME * np.nanmax(np.abs(values), initial=0.0)
    for i, j in combinations(range(len(values)), 2):
        if np.allclose(values[i], values[j], rtol=0, atol=same, equal_nan=True):
            raise AnalysisError(
                f"{dim}s {rdm[dim].values[i]} and {rdm[dim].values[j]} have the same RDM at every "
                "place: they are one measurement, and a noise ceiling needs independent ones, such "
                "as models trained from different seeds"
            )


def _places(rdm: xr.DataArray, dim: str) -> Iterator[tuple[dict[str, int], NDArray[np.float64]]]:
    """Yield every place, and the RDMs of all repetitions there that have it: (repetition, pair)."""
    dims = [str(d) for d in rdm.dims if d not in (dim, "stimulus", "other")]
    first, second = np.triu_indices(rdm.sizes["stimulus"], 1)
    for index in np.ndindex(*(rdm.sizes[d] for d in dims)):
        at = dict(zip(dims, index, strict=True))
        values = rdm.isel(at).transpose(dim, "stimulus", "other").values[:, first, second]
        yield at, np.asarray(values[~np.isnan(values).all(axis=1)], dtype=np.float64)


def _ceilings(entry: Rsa, rdm: xr.DataArray, dim: str) -> dict[str, xr.DataArray]:
    compare = str(entry.compare)
    empty = rdm.isel({dim: 0, "stimulus": 0, "other": 0}, drop=True) * np.nan
    low, high = empty.copy(), empty.copy()
    for at, rdms in _places(rdm, dim):
        if len(rdms) >= 2:
            low[at], high[at] = noise_ceiling(rdms, compare)
    words = f"{COMPARATORS[compare].words} that a model RDM can expect at best, from {dim}s"
    low.attrs = meaning("1", f"lower bound of the {words}", f"rsa_{compare}_ceiling_low/1")
    high.attrs = meaning("1", f"upper bound of the {words}", f"rsa_{compare}_ceiling_high/1")
    return {"ceiling_low": low, "ceiling_high": high}


def _agreement(entry: Rsa, rdm: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the comparison of every repetition and layer with every other: second-order RSA."""
    compare, n = str(entry.compare), rdm.sizes["stimulus"]
    layered = "layer" in rdm.dims
    wide = rdm if layered else rdm.expand_dims("layer")
    rows = wide.stack(row=(dim, "layer"), create_index=False).transpose(
        ..., "row", "stimulus", "other"
    )
    first, second = np.triu_indices(n, 1)
    others = [str(d) for d in rows.dims if d not in ("row", "stimulus", "other")]
    shape = tuple(rows.sizes[d] for d in others)
    count = rows.sizes["row"]
    values = np.empty((*shape, count, count))
    for index in np.ndindex(*shape):
        vectors = rows.isel(dict(zip(others, index, strict=True))).values[:, first, second]
        values[index] = _compared(compare, np.asarray(vectors, dtype=np.float64))
    r, layers = rdm.sizes[dim], wide.sizes["layer"]
    values = values.reshape(*shape, r, layers, r, layers)
    labels = {dim: rdm[dim].values, "versus": rdm[dim].values}
    dims = (*others, dim, "layer", "versus", "model_layer")
    if layered:
        labels |= {"layer": rdm["layer"].values, "model_layer": rdm["layer"].values}
    else:
        values, dims = values[..., :, 0, :, 0], (*others, dim, "versus")
    words = f"{COMPARATORS[compare].words} of the RDMs of two {dim}s"
    attrs = meaning("1", words, f"rsa_{compare}_agreement/1")
    coords = {**labels, **{d: rdm[d] for d in others if d in rdm.coords}}
    return xr.DataArray(values, dims=dims, coords=coords, attrs=attrs)


def _compared(compare: str, rdms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every comparison of two RDMs, NaN where one is missing: (rdm, rdm)."""
    there = ~np.isnan(rdms).all(axis=1)
    result = np.full((len(rdms), len(rdms)), np.nan)
    whole = not np.isnan(rdms[there]).any()
    form = COMPARATORS[compare]
    if whole and compare != "kendall_tau_a":
        data, model = (
            np.stack([side(rdm) for rdm in rdms[there]]) for side in (form.data, form.model)
        )
        result[np.ix_(there, there)] = data @ model.T
        return result
    none = np.empty((0, rdms.shape[1]))
    for i in np.flatnonzero(there):
        for j in np.flatnonzero(there):
            result[i, j] = score(compare, rdms[i], rdms[j], none)
    return result


def _below(
    entry: Rsa, data: xr.Dataset, rdm: xr.DataArray, dim: str, seeds: Seeds
) -> dict[str, xr.DataArray]:
    """Return how far each model RDM stays below the lower ceiling, with an interval."""
    assert entry.bootstrap is not None, "asked by the caller"
    if "model_rdms" not in data:
        return {}
    models, first_of = data["model_rdms"], [d for d in data["model_rdms"].dims if d == dim]
    models = models.isel(dict.fromkeys(first_of, 0)).transpose("model_rdm", "stimulus", "other")
    n = rdm.sizes["stimulus"]
    pair = np.triu_indices(n, 1)
    groups = np.arange(n)
    if "group" in data.coords:
        groups = np.unique(data["group"].values, return_inverse=True)[1]
    counts = drawn_counts(groups, entry.bootstrap.n, seeds.generator("bootstrap"))
    once = np.ones((1, n), dtype=np.int64)
    place = rdm.isel({dim: 0, "stimulus": 0, "other": 0}, drop=True) * np.nan
    empty = place.expand_dims(model_rdm=data["model_rdm"].values).copy()
    value, low, high = empty.copy(), empty.copy(), empty.copy()
    predicted = models.values[:, pair[0], pair[1]]
    for at, rdms in _places(rdm, dim):
        if len(rdms) < 2 or np.isnan(rdms).any():
            continue
        compared, lower, _ = ceiling_draws(
            rdms, predicted, np.concatenate([once, counts]), str(entry.compare)
        )
        below = (lower[:, None] - compared).T
        value[at] = below[:, 0]
        low[at], high[at] = interval(below[:, 1:], entry.bootstrap.level)
    estimand = f"rsa_{entry.compare}_below_ceiling/1"
    words = f"lower noise ceiling minus the mean comparison over {dim}s"
    value.attrs = meaning("1", words, estimand)
    for end, array in (("low", low), ("high", high)):
        level = f"{entry.bootstrap.level:.0%}"
        array.attrs = meaning("1", f"{end} end of the {level} bootstrap interval", estimand)
    return {"below_ceiling": value, "below_ceiling_low": low, "below_ceiling_high": high}
