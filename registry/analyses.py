"""The analysis table: what can be computed from captures and readings."""

from __future__ import annotations

from dataclasses import dataclass

from patchclamp.registry.table import Table


@dataclass(frozen=True)
class Analysis:
    """An analysis kind: the model of its parameters and the functions that do it.

    `readings(entry, shape)` says what must be measured; `analyse(entry, data, seeds=...)`
    turns the measured, labelled dataset into a labelled result; `headline` names the result
    variables that a summary table shows.
    """

    name: str
    summary: str
    spec: str
    readings: str
    analyse: str
    headline: tuple[str, ...]


def _entry(name: str, summary: str, spec: str, headline: tuple[str, ...]) -> Analysis:
    module = f"patchclamp.analyses.{name}"
    return Analysis(
        name,
        summary,
        f"patchclamp.specs.analyses:{spec}",
        f"{module}:readings",
        f"{module}:analyse",
        headline,
    )


ANALYSES: Table[Analysis] = Table(
    "analysis",
    [
        _entry(
            "rsa",
            "representational similarity: model RDMs and contrasts, with label permutation",
            "Rsa",
            ("similarity", "contrast", "p", "p_max"),
        ),
        _entry(
            "probe",
            "cross-validated linear read-out of a label, with controls",
            "Probe",
            ("accuracy", "balanced_accuracy", "p"),
        ),
        _entry(
            "ablation",
            "effect of removing each unit on a metric, per stimulus",
            "Ablation",
            ("effect", "share"),
        ),
    ],
)
