"""The labelled result of an RSA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from patchclamp.analyses.bootstrap import interval_words
from patchclamp.analyses.comparators import COMPARATORS
from patchclamp.analyses.feature_study import study_score
from patchclamp.analyses.patterns import Capture, Variables, meaning, p_variables
from patchclamp.analyses.planes import COMPONENTS, classical_mds
from patchclamp.analyses.rsa_design import Design
from patchclamp.analyses.rsa_tally import Answer
from patchclamp.specs.analyses_rsa import Categorical, Discriminative, Rsa

FISHER = ("correlation", "cosine")
"""Metrics that have an r, and so a Fisher z."""


@dataclass(frozen=True)
class Setting:
    """The entry, its capture and design, the dims of places, and what is stored of RDMs.

    `rdms`: (place, pair), None if they are not; `models`: the model RDMs of labels, (pair,).
    """

    entry: Rsa
    capture: Capture
    design: Design
    dims: tuple[str, ...]
    rdms: NDArray[np.float64] | None
    models: Mapping[str, NDArray[np.float64]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of entries of each dim of the places."""
        return tuple(self.capture.data.sizes[dim] for dim in self.dims)


def similarity_result(
    setting: Setting, answers: Mapping[str, Answer], layers: Sequence[int | str] | None
) -> xr.Dataset:
    """Return comparisons with model RDMs along a dim of their names.

    `layers` are those of another capture where it is compared layer with layer.
    """
    entry, given = setting.entry, list(answers.values())
    compare = str(entry.compare)
    coords: dict[str, ArrayLike] = {"model_rdm": list(answers)}
    if entry.compare == "nnls":
        words = "r of the RDM of held-out stimuli and weighted model RDMs, mean over folds"
        variables = _variables(
            setting, given, ("similarity", "1", words, "rsa_nnls/1"), setting.dims
        )
        coords = {"model_rdm": list(entry.against or ())}
        variables["weight"] = _weights(setting, given[0])
        return _result(setting, variables, coords, {"compare": compare, "folds": entry.folds or 0})
    words = f"{COMPARATORS[compare].words} of RDM and model RDM"
    if entry.partial:
        words += f", {', '.join(entry.partial)} taken out"
    extra = () if layers is None else ("model_layer",)
    dims = ("model_rdm", *extra, *setting.dims)
    estimand = f"rsa_{compare}{'_partial' if entry.partial else ''}/1"
    variables = _variables(setting, given, ("similarity", "1", words, estimand), dims)
    if layers is not None:
        coords["model_layer"] = list(layers)
    return _result(setting, variables, coords, {"compare": compare})


def _weights(setting: Setting, answer: Answer) -> tuple[tuple[str, ...], ArrayLike, dict[str, str]]:
    assert answer.weights is not None, "weighted models have weights"
    values = answer.weights.T.reshape(-1, *setting.shape)
    attrs = meaning("dissimilarity", "weight of a model RDM, fitted to all pairs", "rsa_weight/1")
    return ("model_rdm", *setting.dims), values, attrs


def contrast_result(setting: Setting, answer: Answer) -> xr.Dataset:
    """Return a contrast, or what a published study made of it."""
    entry = setting.entry
    assert entry.contrast is not None
    words, estimand = _words(entry.contrast)
    units = "Fisher z" if entry.rdm.metric in FISHER else "dissimilarity"
    name = "contrast"
    attrs: dict[str, str | int | float] = {"contrast": entry.contrast.kind}
    if entry.compat != "none":
        name, units, estimand = "t", "1", f"feature_study_2025_{entry.contrast.kind}/1"
        words = f"t over pairs as published, not a test ({words}, of arctanh(1 - r))"
        attrs["compat"] = entry.compat
    elif units != "Fisher z":
        estimand = estimand.replace("/", f"_{entry.rdm.metric}/")
    variables = _variables(setting, [answer], (name, units, words, estimand), setting.dims)
    if entry.compat != "none":
        published = "t less its mean over units, in their standard deviation, as published"
        score = study_score(answer.observed).reshape(setting.shape)
        told = meaning("1", published, estimand.replace("/", "_score/"))
        variables["score"] = (setting.dims, score, told)
    return _result(setting, variables, {}, attrs)


def _variables(
    setting: Setting,
    answers: Sequence[Answer],
    what: tuple[str, str, str, str],
    dims: tuple[str, ...],
) -> Variables:
    """Return the variables of answers: stacked where the first dim is `model_rdm`."""
    (name, units, words, estimand), entry = what, setting.entry
    layout = _Layout(setting, dims)
    attrs = meaning(units, words, estimand)
    variables: Variables = {name: (dims, layout.shaped([a.observed for a in answers]), attrs)}
    if entry.bootstrap is not None:
        for end, found in (("low", [a.low for a in answers]), ("high", [a.high for a in answers])):
            title = f"{end} end of the {entry.bootstrap.level:.0%} bootstrap interval"
            values = layout.shaped([one for one in found if one is not None])
            variables[f"{name}_{end}"] = (dims, values, meaning(units, title, estimand))
    p, p_max = layout.shaped([a.p for a in answers]), layout.shaped([a.p_max for a in answers])
    variables |= _p_by_model(dims, (p, p_max), layout.stacked, of=name, permutations=entry.test.n)
    variables |= _null(answers, layout, meaning(units, f"{words}, labels permuted", estimand))
    if entry.rdm.missing == "leave_out" or any(map(_may_lack, (entry.against or {}).values())):
        title = "pairs of stimuli that took part; the others have no value"
        counts = layout.shaped([a.given for a in answers], extra=False)
        count_dims = tuple(dim for dim in dims if dim != "model_layer")
        variables["n_pairs"] = (count_dims, counts, meaning("pair", title, "n_pairs/1"))
    return variables


def _null(answers: Sequence[Answer], layout: _Layout, attrs: dict[str, str]) -> Variables:
    """Return the null distribution, or its largest value over all places where these are many."""
    nulls = [a.null for a in answers if a.null is not None]
    if nulls:
        null = np.moveaxis(layout.shaped(nulls), -1, 0)
        return {"null": (("permutation", *layout.dims), null, attrs)}
    largest = np.stack([a.largest for a in answers], axis=1)
    over = ("permutation", *layout.dims[:1]) if layout.stacked else ("permutation",)
    attrs = {**attrs, "long_name": attrs["long_name"] + ", the largest over all places"}
    return {"null_max": (over, largest if layout.stacked else largest[:, 0], attrs)}


@dataclass(frozen=True)
class _Layout:
    """How the values of answers, place after place, become an array with the given dims."""

    setting: Setting
    dims: tuple[str, ...]

    @property
    def stacked(self) -> bool:
        """Whether there is one answer for each entry of the first dim."""
        return self.dims[:1] == ("model_rdm",)

    def shaped(
        self, values: Sequence[NDArray[np.generic]], *, extra: bool = True
    ) -> NDArray[np.generic]:
        """Split the places into their dims, and put a dim that follows them before them."""
        places = len(self.setting.dims)
        arrays = []
        for array in values:
            split = array.reshape(*self.setting.shape, *array.shape[1:])
            if extra and "model_layer" in self.dims:
                split = np.moveaxis(split, places, 0)
            arrays.append(split)
        return np.stack(arrays) if self.stacked else arrays[0]


def _may_lack(model: object) -> bool:
    return getattr(model, "missing", "error") == "leave_out"


def _p_by_model(
    dims: tuple[str, ...], ps: tuple[NDArray[np.generic], NDArray[np.generic]], stacked: bool,
    *, of: str, permutations: int,
) -> Variables:  # fmt: skip
    """Return the p values, of each place alone and corrected; each model RDM is a family."""
    if not stacked:
        return p_variables(dims, *ps, of=of, permutations=permutations)
    each = [
        p_variables(dims[1:], *one, of=of, permutations=permutations)
        for one in zip(*ps, strict=True)
    ]
    return {
        name: (dims, np.stack([np.asarray(one[name][1]) for one in each]), each[0][name][2])
        for name in each[0]
    }


def _result(
    setting: Setting,
    variables: Variables,
    coords: Mapping[str, ArrayLike],
    attrs: Mapping[str, str | int | float],
) -> xr.Dataset:
    entry = setting.entry
    coords = {**coords, "permutation": np.arange(entry.test.n)}
    tail = "two-sided" if isinstance(entry.contrast, Categorical) else "greater"
    every = {"permuted": entry.test.permute, **attrs, **setting.design.attrs, "tail": tail}
    if entry.bootstrap is not None:
        n, level = entry.bootstrap.n, entry.bootstrap.level
        interval = interval_words(setting.design.items.groups, n, level)
        every |= {"n_draws": n, "level": level, "interval": interval}
    result = setting.capture.result(variables, coords, every)
    if setting.rdms is None:
        return result
    setting.capture.refuse_taken({*variables, *coords})
    return result.assign(_squares(setting))


def _squares(setting: Setting) -> xr.Dataset:
    """Return the RDMs and model RDMs as squares, with the labels of the items."""
    entry, items = setting.entry, setting.design.items
    metric, n = entry.rdm.metric, len(items)
    units = "activation" if "euclidean" in metric else "1"
    told = meaning(units, f"{metric} dissimilarity of two stimuli", f"rdm_{metric}/1")
    rdms = np.asarray(setting.rdms)
    dims = (*setting.dims, "stimulus", "other")
    squares = _square(rdms, n)
    variables: Variables = {"rdm": (dims, squares.reshape(*setting.shape, n, n), told)}
    variables |= _plane(setting, squares, units)
    if setting.models:
        told = meaning("1", "dissimilarity that a model RDM predicts", "model_rdm/1")
        values = _square(np.stack(list(setting.models.values())), n)
        variables["model_rdms"] = (("model_rdm", "stimulus", "other"), values, told)
    setting.capture.refuse_taken({*variables, "other", "component"})
    coords: dict[str, tuple[str, ArrayLike]] = {
        "stimulus": ("stimulus", list(items.names)),
        "other": ("other", list(items.names)),
        "component": ("component", np.arange(1, COMPONENTS + 1)),
        **{name: ("stimulus", values) for name, values in items.columns().items()},
    }
    data = setting.capture.data
    given = {dim: data[dim].variable for dim in setting.dims}
    models = {"model_rdm": list(setting.models)} if setting.models else {}
    return xr.Dataset(variables, coords={**coords, **given, **models})


def _plane(setting: Setting, squares: NDArray[np.float64], units: str) -> Variables:
    """Return the stimuli in the plane that shows their RDM best, and how much of it that is."""
    places, share = classical_mds(squares)
    shape = setting.shape
    title = "classical scaling (MDS) of the RDM"
    part = "share of the positive eigenvalues, of the RDM's classical scaling"
    return {
        "mds": (
            (*setting.dims, "stimulus", "component"),
            places.reshape(*shape, *places.shape[1:]),
            meaning(units, title, "classical_mds/1"),
        ),
        "mds_share": (
            (*setting.dims, "component"),
            share.reshape(*shape, *share.shape[1:]),
            meaning("1", part, "classical_mds_share/1"),
        ),
    }


def _square(condensed: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return RDMs (rdm, pair) as squares (rdm, stimulus, stimulus) with zeros between."""
    result = np.zeros((len(condensed), n, n))
    first, second = np.triu_indices(n, 1)
    result[:, first, second] = result[:, second, first] = condensed
    return result


def _words(contrast: Discriminative | Categorical) -> tuple[str, str]:
    """Return what a contrast subtracts from what, and its estimand."""
    if isinstance(contrast, Categorical):
        first, second = contrast.classes
        return f"mean similarity within {first} minus within {second}", "rsa_categorical/1"
    if contrast.target is None:
        return "mean similarity within classes minus across classes", "rsa_discriminative/1"
    target = contrast.target
    words = f"mean similarity within {target} minus between {target} and the others"
    return words, "rsa_discriminative_target/1"
