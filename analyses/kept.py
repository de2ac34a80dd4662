"""Faithfulness of what scores rank first: a curve over the share that is kept, and its areas.

Source: Mueller et al. 2025, MIB: a mechanistic interpretability benchmark (CPR and CMD).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from patchclamp.analyses.circuit_tables import SIZES, areas
from patchclamp.analyses.effects import Inference, groups_of, recovered
from patchclamp.analyses.readings import Change, Condition, MetricReading, Readings

Changes = Mapping[tuple[str, ...], Change]


def kept_curve(
    scored: tuple[NDArray[np.float64], Changes],
    reading: Callable[[tuple[Condition, ...]], MetricReading],
    how: Inference,
) -> Generator[Readings, Mapping[str, xr.Dataset], xr.Dataset]:
    """Keep those that matter most by score and patch all others, a growing share of them.

    `scored` are the scores, (node or edge,), of patching into the clean run, and the change that
    each of them estimates. With m(C) the mean metric when all but C are patched, and N all:

        curve          f(k) = (m(C) - m({})) / (m(N) - m({})), C the share k of the lowest scores,
                       which patching is estimated to lower the metric by
        curve_by_size  the same for the share of the largest scores of either sign
        cpr, cmd       area under `curve`; area between `curve_by_size` and 1

    Intervals are over groups. Raises `AnalysisError` where m(N) - m({}) is not reliably of one
    sign.
    """
    scores, changes = scored
    every = list(changes)
    conditions = [_patched(changes, every, "none", 0.0)]
    for name, order in (("curve", scores), ("curve_by_size", -np.abs(scores))):
        ranked = [every[i] for i in np.argsort(order, kind="stable")]
        for share in SIZES:
            others = ranked[round(share * len(ranked)) :]
            conditions.append(_patched(changes, others, name, share))
    found = (yield {"kept": reading(tuple(conditions))})["kept"]
    value = found["value"].drop_vars(["ranking", "share"])
    nothing, whole = value[0], found["clean"] - value[0]
    groups, result = groups_of(found), xr.Dataset(coords={"kept": np.asarray(SIZES)})
    words = "metric, where 0 is nothing kept and 1 all, by share kept"
    curves = {}
    for number, name in enumerate(("curve", "curve_by_size")):
        some = value[1 + number * len(SIZES) :][: len(SIZES)].rename(condition="kept")
        for key, column in recovered(some - nothing, whole, groups, how).items():
            part = name + key.removeprefix("recovered")
            about = {"units": "1", "long_name": f"{part.replace('_', ' ')}: {words}", "scale": 1.0}
            result[part] = ("kept", column.to_numpy(), about)
        curves[name] = result[name].to_numpy()
    cpr, cmd = areas(SIZES, curves["curve"])[0], areas(SIZES, curves["curve_by_size"])[1]
    result["cpr"] = ((), cpr, {"units": "1", "long_name": "area under curve (CPR)"})
    about = {"units": "1", "long_name": "area between curve_by_size and 1 (CMD)"}
    return result.assign(cmd=((), cmd, about))


def _patched(
    changes: Changes, some: Iterable[tuple[str, ...]], ranking: str, share: float
) -> Condition:
    """Return the condition that patches some; the edges of a sender are one change."""
    together: dict[Change, list[tuple[str, int, int | None]]] = {}
    for name in some:
        change = changes[name]
        together.setdefault(replace(change, into=()), []).extend(change.into)
    labels = (("ranking", ranking), ("share", share))
    return Condition(labels, tuple(replace(one, into=tuple(of)) for one, of in together.items()))
