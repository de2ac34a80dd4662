"""Descriptions: what analyses and interventions of a spec do, as a methods section says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from patchclamp.registry import ANALYSES

Entry = Mapping[str, Any]


def described(kind: str, entry: Entry, data: xr.Dataset) -> str:
    """Return what an analysis did, in a sentence; a kind without one is told by its summary."""
    if kind in DESCRIBED:
        return DESCRIBED[kind](entry, data)
    return f"{ANALYSES[kind].summary if kind in ANALYSES else kind}."


def field(entry: Entry, *path: str) -> Any:
    """Return a value deep in an entry, None where there is none."""
    value: Any = entry
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def positions(value: Any) -> str:
    """Return positions in words.

    >>> positions({"kind": "named", "at": ["last"]}), positions({"kind": "window", "align": "left"})
    ('the last token', 'a window aligned at left')
    """
    if isinstance(value, Mapping) and value.get("kind") == "window":
        return f"a window aligned at {value.get('align')}"
    where = value.get("at") if isinstance(value, Mapping) else value
    where = where[0] if isinstance(where, list) and len(where) == 1 else where
    known = {"last": "the last token", "first": "the first token", "all": "all tokens"}
    if isinstance(where, list):
        return f"the positions {', '.join(map(str, where))}"
    return known.get(str(where), f"the positions {where}")


PER = {"position": ", position by position", "group": ", group by group"}
"""What a mean is taken over separately -> in words; else it is over all positions."""


def put(entry: Entry) -> str:
    """Return what an intervention puts in place, in words."""
    value = entry.get("value")
    instead = "activations are replaced by"
    match entry.get("kind"), field(entry, "value", "kind"):
        case "ablate", "zero":
            return "activations are set to 0"
        case "ablate", "mean":
            per = PER.get(str(field(entry, "value", "per")), ", over all positions")
            return f"{instead} their mean over {field(entry, 'value', 'mean_over')!r}{per}"
        case "ablate", "resample":
            return f"{instead} those of stimuli drawn from {field(entry, 'value', 'resample')!r}"
        case "ablate", "along":
            return f"what lies along the direction of {field(entry, 'value', 'along')} is removed"
        case "patch", _:
            return f"{instead} those of the partner in {entry.get('source')!r}"
        case "add", _:
            vector = field(entry, "vector", "of") or "a vector"
            return f"{vector} is added, times {entry.get('scale')}"
        case "clamp", _:
            return f"units {entry.get('units')} are held at {value}"
        case "replace", _:
            return f"{instead} {entry.get('by')}"
        case "together", _:
            return f"{', '.join(entry.get('of') or [])} at once"
    return f"kind {entry.get('kind')}"


def _sites(entry: Entry) -> str:
    units = entry.get("units") or []
    units = units if isinstance(units, list) else [units]
    return " and ".join(str(one.get("site")) for one in units) or "every head and MLP"


def _metric(entry: Entry) -> str:
    metric = entry.get("metric")
    return str(metric.get("kind") if isinstance(metric, Mapping) else metric or "a metric")


def _of_chosen(entry: Entry, data: xr.Dataset) -> str:
    """Return of which units an analysis is, where a selection chose them, in words."""
    if entry.get("features") is None:
        return ""
    ways = ", ".join(map(str, data["chosen_by"].values.tolist()))
    again = ", chosen anew inside each training part"
    if "n_stimuli_chosen_on" in data.attrs:
        again = f", chosen on {data.attrs['n_stimuli_chosen_on']} of the same stimuli"
    return f" of the units that {entry['features']} chose by {ways}{again}"


def _rsa(entry: Entry, data: xr.Dataset) -> str:
    metric = field(entry, "rdm", "metric")
    distance = f"{metric} distance" if metric else "distance"
    contrast = entry.get("contrast") or {}
    over = " of the time course of each unit" if entry.get("pattern") == "positions" else ""
    head = f"representational similarity analysis{_of_chosen(entry, data)}"
    if contrast:
        alike = metric in ("correlation", "cosine", None)
        what = "Fisher z of the similarity" if alike else "dissimilarity"
        mean = f"{head}{over}; mean {what}"
        if contrast.get("kind") == "categorical":
            one, other = contrast["classes"]
            return f"{mean} of pairs within {one} against that within {other} ({distance})."
        of = f" {contrast['target']}" if contrast.get("target") else f" a {contrast.get('column')}"
        return f"{mean} of pairs within{of} against that across ({distance})."
    models = ", ".join(entry.get("against") or {})
    how = str(entry.get("compare", "")).replace("_", " ")
    taken = f", with {', '.join(entry['partial'])} taken out" if entry.get("partial") else ""
    return (
        f"{head}{over}; RDMs by {distance} were compared with the model RDMs {models} ({how}) over "
        f"pairs of stimuli{taken}."
    )


def _probe(entry: Entry, data: xr.Dataset) -> str:
    estimator = field(entry, "estimator", "kind") or "linear"
    target = field(entry, "target", "column") or field(entry, "target", "kind")
    folds = data.attrs.get("n_folds", field(entry, "cv", "folds"))
    grouped = " that never divide a group" if data.attrs.get("n_groups") else ""
    controls = ", ".join(str(c).replace("_", " ") for c in entry.get("controls") or ())
    against = f"; controls: {controls}" if controls else ""
    how = f"by cross-validation over {folds} folds{grouped}{against}"
    units = _of_chosen(entry, data).replace(" of", " from", 1)
    return f"{estimator} read-out of {target}{units} {how}."


def _contrast(entry: Entry, data: xr.Dataset) -> str:
    test = data.attrs.get("test", "t test")
    if entry.get("factors"):
        factors = " and ".join(entry["factors"])
        return f"{test} of main effects and interaction of {factors}, per unit."
    first, second = entry.get("classes") or ("one class", "another")
    return f"{test} of {first} against {second} ({entry.get('column')}) and Cohen's d, per unit."


def _selection(entry: Entry, data: xr.Dataset) -> str:
    methods = ", ".join(f"{n} ({m.get('kind')})" for n, m in (entry.get("methods") or {}).items())
    how, folds = data.attrs.get("estimator", "a linear model"), data.attrs.get("n_folds")
    return (
        f"{entry.get('k')} units for {entry.get('target')} ({entry.get('column')}) were chosen by "
        f"each of {methods}, and compared by what {how} reads out of held-out stimuli; units were "
        f"chosen anew inside each of {folds} training parts."
    )


def _ablation(entry: Entry, data: xr.Dataset) -> str:
    alone = entry.get("remove") != "all_but_each"
    how = "was ablated alone" if alone else "was kept alone and all others were ablated"
    return (
        f"each unit ({field(entry, 'units', 'site') or 'units'}) {how} by the "
        f"intervention {entry.get('with')!r}; the effect is the mean change of {_metric(entry)} "
        f"over {data.attrs.get('n_stimuli', 'all')} stimuli."
    )


def _steering(entry: Entry, data: xr.Dataset) -> str:
    names = ", ".join(entry.get("with") or [])
    against = ", ".join(str(c).replace("_", " ") for c in entry.get("controls") or [])
    tokens = field(entry, "generate", "max_new_tokens")
    if tokens is None:
        outcome = f"the effect is the mean change of {_metric(entry)}"
    else:
        right = field(entry, "score", "kind")
        what = f"right texts ({right})" if right else "texts that changed"
        outcome = f"texts were continued by at most {tokens} tokens, and the effect is in {what}"
    beside = f", beside {against} ({entry.get('repeats')} of each)" if against else ""
    stimuli = data.attrs.get("n_stimuli", "all")
    return f"under the interventions {names}, {outcome}, over {stimuli} stimuli{beside}."


def _patching(entry: Entry, data: xr.Dataset) -> str:
    into, source = (data.attrs.get(key, "one run") for key in ("patched", "source"))
    what = f"activations ({_sites(entry)})"
    if entry.get("path"):
        senders, receivers = (
            ", ".join(str(one.get("site")) for one in field(entry, "path", end) or ())
            for end in ("senders", "receivers")
        )
        what = f"paths from {senders} to {receivers}"
    return (
        f"activation patching, {entry.get('direction')}: {what} of {source!r} were put into "
        f"{into!r}; the effect is the mean change of {_metric(entry)}, and what is recovered is 0 "
        f"at {into!r} and 1 at {source!r}."
    )


def _attribution(entry: Entry, data: xr.Dataset) -> str:
    source, into = data.attrs.get("source"), data.attrs.get("into")
    verified, of = entry.get("verify"), entry.get("of")
    how = f"the gradient at the {entry.get('gradient_at')} run"
    if entry.get("gradient_at") == "integrated":
        rule = str(entry.get("quadrature")).replace("_", "-")
        how = (
            f"gradients integrated along the {entry.get('along')} from {into!r} to {source!r} "
            f"({rule}, {entry.get('steps')} points)"
        )
    return (
        f"effects on {_metric(entry)} of putting {of} of {source!r} into {into!r} were estimated "
        f"from {how}"
        + (f"; the {verified} largest and as many random {of} were patched." if verified else ".")
    )


def _circuit(entry: Entry, data: xr.Dataset) -> str:
    named = []
    for name, how in (entry.get("circuits") or {}).items():
        kept = f"pruned to keep {how.get('keep_above')} of the metric"
        named.append(f"{name} ({kept if how.get('kind') == 'prune' else 'given'})")
    kept = field(entry, "edges", "keep_above")
    edges = f" Edges were cut while a circuit kept {kept} of its own." if kept else ""
    return (
        f"circuits {', '.join(named)} of {_sites(entry)}, all other nodes ablated by "
        f"{entry.get('with')!r}; faithfulness is {_metric(entry)} of the circuit over that of the "
        f"model, beside {entry.get('random')} random circuits of the same size.{edges}"
    )


def _choice(entry: Entry, data: xr.Dataset) -> str:
    by = f", by {entry['by']}" if entry.get("by") else ""
    return f"multiple choice among the answers of {entry.get('stimuli')!r}{by}."


DESCRIBED: Mapping[str, Callable[[Entry, xr.Dataset], str]] = {
    "rsa": _rsa,
    "probe": _probe,
    "contrast": _contrast,
    "selection": _selection,
    "ablation": _ablation,
    "patching": _patching,
    "attribution": _attribution,
    "circuit": _circuit,
    "choice": _choice,
    "steering": _steering,
}
"""Kind of analysis -> what it did, in a sentence."""
