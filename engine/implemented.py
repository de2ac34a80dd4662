"""What the engine does of the grammar so far; the rest is valid, and refused by name before a run.

A model that is not in `DONE` is not implemented at all. One that is does every value of the keys
listed there, as far as the models in it are done, those values of a key that `VALUES` lists, and
of any other key only the default: so what is added to the grammar is refused until it is added
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

from pydantic import BaseModel

from patchclamp.engine.problems import Problems
from patchclamp.registry import ANALYSES, BACKENDS, METRICS
from patchclamp.specs import analyses_causal as causal
from patchclamp.specs import analyses_circuits as circuits
from patchclamp.specs import analyses_descriptive as descriptive
from patchclamp.specs import analyses_representation as representation
from patchclamp.specs import (
    analyses_rsa,
    captures,
    estimators,
    inference,
    interventions,
    model,
    positions,
    rdms,
    spec,
    stimuli,
)
from patchclamp.specs import analyses_steering as steering
from patchclamp.specs.walk import models_in

_ROWS = frozenset(
    {
        "kind",
        "text",
        "id",
        "columns",
        "labels",
        "groups",
        "answer",
        "slots",
        "where",
        "take",
        "keep_if",
        "split",
        "partners",
        "spans",
    }
)

_PLACE = frozenset({"site", "layers", "heads", "positions", "units", "during"})

_RUNS = frozenset({"kind", "clean", "corrupt", "direction", "metric"})

DONE: Mapping[type[BaseModel], frozenset[str]] = {
    model.ModelChoice: frozenset({"id", "revision", "dtype", "weights", "tokenizer"}),
    model.TokenizerChoice: frozenset({"bos", "chat"}),
    stimuli.Builtin: _ROWS | {"set"},
    stimuli.Csv: _ROWS | {"path"},
    stimuli.Jsonl: _ROWS | {"path"},
    stimuli.Hub: _ROWS | {"dataset", "config", "split_name", "revision"},
    stimuli.Items: _ROWS | {"items"},
    stimuli.Template: _ROWS | {"vocabularies", "words", "for", "draw"},
    stimuli.WordList: frozenset({"words", "path", "keep", "exclude", "first"}),
    stimuli.Draw: frozenset({"source", "n", "replace", "share"}),
    stimuli.Take: frozenset({"n", "by", "draw", "fewer"}),
    stimuli.KeepIf: frozenset({"holds", "together"}),
    stimuli.Partners: frozenset({"of", "by", "equal_length"}),
    stimuli.Span: frozenset({"text", "occurrence"}),
    stimuli.Split: frozenset({"parts", "by"}),
    stimuli.Corrupt: frozenset({"kind", "of", "slots", "within", "reject_if", "equal_length"}),
    stimuli.Answer: frozenset({"correct", "foil", "options", "variants", "combine", "tokens"}),
    captures.Capture: frozenset(
        {"of", "site", "layers", "heads", "positions", "keys", "reduce", "gradient"}
    ),
    captures.Reduction: frozenset({"kind", "over", "by", "k"}),
    captures.Gradient: frozenset({"of", "at", "wrt"}),
    positions.Named: frozenset({"kind", "at"}),
    positions.Window: frozenset(
        {"kind", "align", "size", "before", "after", "skip", "short", "at_least"}
    ),
    interventions.Ablate: _PLACE | frozenset({"kind", "value", "allow_no_effect"}),
    interventions.Zero: frozenset({"kind"}),
    interventions.Mean: frozenset({"kind", "mean_over", "per"}),
    interventions.Resample: frozenset({"kind", "resample"}),
    interventions.Along: frozenset({"kind", "along", "toward"}),
    interventions.Patch: _PLACE | frozenset({"kind", "source", "allow_no_effect"}),
    interventions.Add: _PLACE | frozenset({"kind", "vector", "scale", "allow_no_effect"}),
    interventions.Vector: frozenset({"of", "toward", "normalise"}),
    interventions.Clamp: _PLACE | frozenset({"kind", "units", "value", "allow_no_effect"}),
    interventions.Replace: _PLACE | frozenset({"kind", "allow_no_effect"}),
    interventions.Together: frozenset({"kind", "of"}),
    analyses_rsa.Rsa: frozenset(
        {
            "kind",
            "of",
            "rdm",
            "pattern",
            "features",
            "against",
            "compare",
            "folds",
            "partial",
            "contrast",
            "test",
            "bootstrap",
            "noise_ceiling",
            "store_rdm",
            "compat",
        }
    ),
    analyses_rsa.StimulusPermutation: frozenset({"permute", "n"}),
    rdms.Rdm: frozenset({"metric", "average_by", "folds", "noise", "missing"}),
    rdms.CategoryModel: frozenset({"kind", "column"}),
    rdms.OrdinalModel: frozenset({"kind", "column", "order"}),
    rdms.ContinuousModel: frozenset({"kind", "column", "ratings", "missing"}),
    rdms.Ratings: frozenset({"path", "first", "second", "value", "scale", "where"}),
    rdms.InteractionModel: frozenset({"kind", "of"}),
    rdms.CaptureModel: frozenset({"kind", "of", "layer"}),
    analyses_rsa.Discriminative: frozenset({"kind", "column", "target"}),
    analyses_rsa.Categorical: frozenset({"kind", "column", "classes"}),
    representation.Probe: frozenset(
        {
            "kind",
            "of",
            "target",
            "estimator",
            "features",
            "cv",
            "test_on",
            "controls",
            "shuffles",
            "erase",
        }
    ),
    representation.LabelTarget: frozenset({"kind", "column"}),
    representation.Contrast: frozenset(
        {"kind", "of", "column", "classes", "factors", "correct", "test"}
    ),
    representation.Selection: frozenset({"kind", "column", "target", "methods", "k", "cv", "test"}),
    representation.Method: frozenset({"kind", "of", "pattern"}),
    descriptive.Choice: frozenset({"kind", "stimuli", "by", "bins"}),
    representation.LayerTarget: frozenset({"kind", "layers"}),
    representation.PositionTarget: frozenset({"kind"}),
    representation.CorrectTarget: frozenset({"kind"}),
    estimators.Logistic: frozenset({"kind", "C", "penalty"}),
    estimators.Ridge: frozenset({"kind", "alpha"}),
    estimators.LinearSvm: frozenset({"kind", "C"}),
    estimators.Centroid: frozenset({"kind"}),
    estimators.Difference: frozenset({"kind"}),
    causal.Ablation: frozenset(
        {
            "kind",
            "stimuli",
            "with",
            "units",
            "remove",
            "metric",
            "share",
            "bootstrap",
            "correct",
        }
    ),
    causal.Patching: _RUNS | {"units", "grid", "path", "normalise"},
    circuits.Attribution: _RUNS
    | {"of", "units", "gradient_at", "along", "quadrature", "steps"}
    | {"verify", "faithfulness"},
    circuits.Circuit: frozenset(
        {
            "kind",
            "stimuli",
            "with",
            "circuits",
            "units",
            "metric",
            "transfer",
            "random",
            "members",
            "faithfulness",
            "edges",
        }
    ),
    circuits.PruneEdges: frozenset({"keep_above"}),
    steering.Steering: frozenset(
        {
            "kind",
            "stimuli",
            "with",
            "metric",
            "generate",
            "score",
            "by",
            "repeats",
        }
    ),
    steering.Generation: frozenset({"max_new_tokens", "temperature"}),
    steering.Score: frozenset({"kind", "after"}),
    circuits.Prune: frozenset({"kind", "keep_above", "passes", "until", "protect"}),
    circuits.Pass: frozenset({"layers", "within"}),
    circuits.Given: frozenset({"kind", "nodes", "path"}),
    causal.Path: frozenset({"senders", "receivers", "freeze", "norms"}),
    causal.Units: frozenset({"site", "layers", "heads", "positions", "group"}),
    inference.LabelPermutation: frozenset({"permute", "n"}),
    inference.CrossValidation: frozenset({"folds", "inner", "stratify"}),
    inference.Bootstrap: frozenset({"n", "level"}),
    inference.MetricChoice: frozenset({"kind"}),
    spec.Run: frozenset(
        {"backend", "device", "batch", "threads", "budget", "optimise", "on_error", "retry"}
    ),
    spec.Batch: frozenset({"tokens", "result"}),
    spec.Budget: frozenset({"time", "memory", "disk", "download"}),
    spec.Retry: frozenset({"attempts", "backoff", "patience"}),
}
"""Model -> the keys of which every value is implemented."""

VALUES: Mapping[tuple[type[BaseModel], str], tuple[Any, ...]] = {
    (steering.Steering, "controls"): tuple(
        some for n in range(3) for some in permutations(("random_direction", "random_heads"), n)
    ),
    (interventions.Replace, "by"): ("noise",),
}
"""Model and key -> the values that are implemented, beside the default."""


def check_implemented(problems: Problems) -> None:
    """Report everything that a spec asks for and the engine does not do yet."""
    loaded = problems.loaded
    for section in ("model", "stimuli", "captures", "interventions", "analyses", "run"):
        value = getattr(loaded.spec, section)
        for path, what in _missing(value, (section,)):
            problems.add(path, "P415", f"not implemented yet: {what}")


def _missing(
    value: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the places of what is not implemented, outermost only, with its name."""
    told: list[tuple[str | int, ...]] = []
    for here, entry in models_in(value, path):
        if any(here[: len(parent)] == parent for parent in told):
            continue
        plugin = _is_of_plugin(entry)
        name = _unknown(entry)
        if name is not None or plugin:
            told.append(here)  # a plugin answers for all of its keys
            yield from [(here, name)] if name is not None else ()
            continue
        for key, what in _keys(entry):
            told.append((*here, key))
            yield (*here, key), what


def _is_of_plugin(entry: BaseModel) -> bool:
    """Return whether a model is that of an analysis which a plugin brought."""
    return not type(entry).__module__.startswith("patchclamp.")


def _unknown(entry: BaseModel) -> str | None:
    """Return the name of a model that is not implemented at all."""
    kind = getattr(entry, "kind", None)
    if type(entry) not in DONE and not _is_of_plugin(entry):
        return f"kind {kind!r}" if kind else type(entry).__name__.lower()
    if kind is not None and kind in ANALYSES and not ANALYSES[kind].implemented:
        return f"kind {kind!r}"
    return None


def _keys(entry: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield the keys of a model whose value is not implemented."""
    done = DONE[type(entry)]
    for attribute, field in type(entry).model_fields.items():
        key, value = field.alias or attribute, getattr(entry, attribute)
        if key in done or value == field.get_default(call_default_factory=True):
            continue
        if value in VALUES.get((type(entry), key), ()):
            continue
        yield key, f"this value of {key!r}"
    yield from _names(entry)


def _names(entry: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield keys whose value names something of the registry that has no function yet."""
    if isinstance(entry, inference.MetricChoice) and METRICS[entry.kind].function is None:
        yield "kind", f"the metric {entry.kind!r}"
    if isinstance(entry, spec.Run) and BACKENDS[entry.backend].factory is None:
        yield "backend", f"the backend {entry.backend!r}"
