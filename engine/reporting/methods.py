"""The methods paragraph: what was done, with exact versions and numbers, as a paper says it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

import numpy as np
import xarray as xr

from patchclamp.engine.figures.curves import capital
from patchclamp.engine.figures.facts import CHOSEN, TAILS, p_of
from patchclamp.engine.reporting.described import Entry, described, field, positions, put
from patchclamp.engine.results import StoredResult
from patchclamp.registry import ANALYSES
from patchclamp.specs.formats import count

PACKAGES = ("nnsight", "torch", "transformers", "numpy", "scipy", "scikit-learn", "xarray")


def methods(result: StoredResult) -> str:
    """Return a paragraph for each part of the methods: model and stimuli, analyses, software."""
    parts = [_model(result)]
    parts += [" ".join(part(result)) for part in (_sets, _captures, _interventions)]
    parts += [" ".join(_analysis(name, result)) for name in result.analyses]
    parts.append(_software(result))
    return "\n\n".join(part for part in parts if part)


def _model(result: StoredResult) -> str:
    made = result.made
    model = made.get("model", {})
    weights = "randomly initialised weights" if model.get("weights") == "random" else "weights"
    sha = str(model.get("weights_sha256", "")).removeprefix("random:")[:12]
    if not model:
        return "The model is not stated."
    differ = f"{weights} that differ by cell"
    told = differ if result.cells and not sha else f"{weights} with sha256 {sha or 'not stated'}"
    about = [str(model.get("dtype", "several dtypes")), told]
    about = [f"revision {model['revision']}", *about] if "revision" in model else about
    seed = f" with seed {made['seed']}" if "seed" in made else ""
    text = f"We studied {model.get('id', 'several models')} ({', '.join(about)})"
    text += f", run on {made.get('device', 'a device')}{seed}."
    return f"{text} {_cells(result)}" if result.cells else text


def _cells(result: StoredResult) -> str:
    """Return what a matrix varied, and whether all of its cells have a result."""
    labels = [cell.get("label", {}) for cell in result.cells]
    paths = dict.fromkeys(path for label in labels for path in label)
    parts = [
        f"{path} ({', '.join(dict.fromkeys(str(label.get(path)) for label in labels))})"
        for path in paths
    ]
    failed = sum("failed" in cell for cell in result.cells)
    text = f"A matrix of {count(len(labels), 'cell')} varied {' and '.join(parts)}"
    return f"{text}; {failed} of them failed." if failed else f"{text}."


def _sets(result: StoredResult) -> Iterator[str]:
    """Yield a sentence for each stimulus set."""
    for path, data in result.groups.items():
        if not path.startswith("/stimuli/") or "stimulus" not in data.dims:
            continue
        name, n = path.rpartition("/")[2], data.sizes["stimulus"]
        entry = result.spec.get("stimuli", {}).get(name, {})
        groups = f" in {len(np.unique(data['group']))} groups" if "group" in data.coords else ""
        origin = _origin(entry)
        sha = str(result.made.get("stimuli_sha256", {}).get(name, ""))[:12]
        hashed = f"; sha256 {sha}" if sha else ""
        yield f"Set {name!r} has {n} stimuli{groups} ({origin}{hashed})."


def _origin(entry: Entry) -> str:
    """Return where stimuli come from, and which of them are taken."""
    return "; ".join([_source(entry), *_chosen(entry)])


def _source(entry: Entry) -> str:
    match entry.get("kind"):
        case "builtin":
            return f"the bundled set {entry['set']}"
        case "corrupt":
            return f"those of {entry.get('of')!r} with their slots changed: {entry.get('slots')}"
        case "csv" | "jsonl":
            return f"the file {entry['path']}"
        case "hub":
            return f"the dataset {entry['dataset']}"
        case "template":
            return f"made from the template {entry.get('text')!r}"
        case "items":
            return "listed in the spec"
        case None:
            return "source not stated"
    return f"kind {entry['kind']}"


def _chosen(entry: Entry) -> Iterator[str]:
    if entry.get("where"):
        yield f"where {entry['where']}"
    if field(entry, "keep_if", "holds"):
        yield f"kept if the model's answer to each meets: {entry['keep_if']['holds']}"
    take = entry.get("take")
    if take:
        by = f" of each {take['by']}" if take.get("by") else ""
        yield f"{take.get('n')}{by} taken ({take.get('draw')})"


def _captures(result: StoredResult) -> Iterator[str]:
    """Yield a sentence for each capture."""
    for name, entry in result.spec.get("captures", {}).items():
        of = field(entry, "gradient", "of")
        what = f"the gradient of {of} with respect to " if of else ""
        chosen = entry.get("layers")
        layers = "all layers" if chosen == "all" else f"layers {chosen}"
        reduced = ", ".join(
            f"{how.get('kind')}{' over ' + how['over'] if how.get('over') else ''}"
            for how in entry.get("reduce") or ()
        ).replace("_", " ")
        yield (
            f"Capture {name!r} recorded {what}{entry.get('site')} for {entry.get('of')!r}, "
            f"{layers}, at {positions(entry.get('positions'))} of each stimulus"
            + (f", reduced to {reduced}." if reduced else ".")
        )


def _interventions(result: StoredResult) -> Iterator[str]:
    """Yield a sentence for each intervention."""
    for name, entry in result.spec.get("interventions", {}).items():
        yield f"Intervention {name!r}: {put(entry)}."


def _analysis(name: str, result: StoredResult) -> Iterator[str]:
    """Yield what an analysis did, what it was tested against, and what it found."""
    data, entry = result.analyses[name], result.spec.get("analyses", {}).get(name, {})
    kind = str(data.attrs.get("kind"))
    yield f"{name}: {described(kind, entry, data)}"
    yield from _inference(data)
    yield from _found(data)


def _inference(data: xr.Dataset) -> Iterator[str]:
    """Yield how it was tested, and what intervals are."""
    attrs = data.attrs
    if "inference" in attrs:
        yield f"Inference: {attrs['inference']}."
    if "n_permutations" in attrs:
        tail = f", {TAILS.get(attrs['tail'], attrs['tail'])}" if attrs.get("tail") else ""
        corrected = "; p_max corrected over all places by the maximum" if "p_max" in data else ""
        what = attrs.get("permuted") or attrs.get("target") or "labels"
        yield (
            f"Inference: {count(int(attrs['n_permutations']), 'permutation')} of {what} "
            f"{attrs.get('permutation', '')}{tail}, p = (k + 1)/(n + 1){corrected}."
        )
    elif any(str(name).startswith("p_") for name in data.data_vars) and "test" in attrs:
        tested = next(str(name) for name in data.data_vars if str(name).startswith("p_"))
        yield f"Inference: {attrs['test']}; {data[tested].attrs.get('long_name', tested)}."
    if "interval" in attrs:
        yield f"Intervals: {attrs['interval']}."


def _found(data: xr.Dataset) -> Iterator[str]:
    """Yield the largest headline number, with its interval and p.

    Of many accuracies the largest says little by itself: where no p knows of the choice (`p_max`,
    `p_fdr`), it is told from where to where they go.
    """
    kind = str(data.attrs.get("kind"))
    names = [n for n in (ANALYSES[kind].headline if kind in ANALYSES else ()) if n in data]
    if kind in CHOSEN:
        names.sort(key=lambda name: p_of(data, name) is None)  # what was tested comes first
    if not names or data[names[0]].dtype.kind != "f":
        return
    name = names[0]
    values = data[name].to_numpy()
    if not np.isfinite(values).any():
        return
    if kind in CHOSEN and values.size > 1 and p_of(data, name) in (None, "p"):
        low, high = np.nanmin(values), np.nanmax(values)
        yield (
            f"{capital(_said(name))}: {low:.4g} to {high:.4g} over {count(values.size, 'place')}"
            f"{_bracketed(_beside(data))}; no test knows of a choice among them, so none is named."
        )
        return
    at = np.unravel_index(int(np.nanargmax(np.abs(values))), values.shape)
    place = dict(zip(data[name].dims, map(int, at), strict=True))
    yield f"Largest {_said(name)}: {_at_place(data, name, place)}."


def _at_place(data: xr.Dataset, name: str, place: Mapping[Hashable, int]) -> str:
    """Return a number at a place, with its interval and p."""
    there = data.isel({dim: [index] for dim, index in place.items()})
    labels = [f"{d} {data[d].to_numpy()[i]}" for d, i in place.items() if data.sizes[d] > 1]
    units = str(data[name].attrs.get("units", "1"))
    text = f"{there[name].item():.4g}{'' if units == '1' else ' ' + units}"
    bounds = [there.get(f"{name}_{end}") for end in ("low", "high")]
    if all(bound is not None and bound.size == 1 for bound in bounds):
        low, high = (float(bound.to_numpy().item()) for bound in bounds if bound is not None)
        text += f" [{low:.4g}, {high:.4g}]"
    text += f" at {', '.join(labels)}" if labels else ""
    p = p_of(there, name)
    # There is one for each control, and none for what no control stands beside.
    ps = there[p].to_numpy().ravel() if p is not None else np.array([])
    facts = [f"{p} = {ps[0]:.3g}"] if ps.size == 1 and np.isfinite(ps[0]) else []
    return text + _bracketed([*facts, *_beside(data)])


def _said(name: str) -> str:
    return name.replace("_", " ")


def _beside(data: xr.Dataset) -> list[str]:
    """Return what an accuracy is held against, and of how many independent items it is."""
    if "base_rate" not in data or data["base_rate"].ndim:
        return []
    groups = [count(int(data.attrs["n_groups"]), "group")] if "n_groups" in data.attrs else []
    return [f"base rate {data['base_rate'].item():.3g}", *groups]


def _bracketed(facts: list[str]) -> str:
    return f" ({', '.join(facts)})" if facts else ""


def _software(result: StoredResult) -> str:
    made = result.made
    versions = made.get("versions", {})
    used = ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions)
    ours = versions.get("patchclamp", result.attrs.get("creation_library_version", "unknown"))
    verdicts = [guard.get("verdict", "ok") for guard in made.get("guards", [])]
    passed = verdicts.count("ok")
    checks = f" {count(passed, 'check')} of the measurement passed" if verdicts else ""
    for verdict in dict.fromkeys(v for v in verdicts if v != "ok"):
        checks += f", {verdicts.count(verdict)} {verdict}"
    backend = f" through its backend {made['backend']}" if made.get("backend") else ""
    return (
        f"Software: patchclamp {ours}{backend}; {used or 'versions not stated'}; Python "
        f"{made.get('python', 'not stated')}. Spec digest "
        f"{str(made.get('digest', 'not stated'))[:16]}.{checks}{'.' if checks else ''}"
    )
