"""Lints over the entries of a spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from patchclamp.specs.analyses_representation import Probe, Selection
from patchclamp.specs.analyses_rsa import Rsa
from patchclamp.specs.diagnostics import Path, Problem
from patchclamp.specs.fields import Ref
from patchclamp.specs.rdms import CategoryModel
from patchclamp.specs.references import Sections
from patchclamp.specs.stimuli import Hub
from patchclamp.specs.subject import Subject
from patchclamp.specs.walk import Named, models_in

HALF: Mapping[str, str] = {"float16": "3 digits", "bfloat16": "2 digits"}
"""Precision -> how many decimal digits it keeps: 11 and 8 bits."""

FISHER = ("discriminative", "categorical")
"""Contrasts and methods in Fisher z, which grows without bound where r comes near 1."""


def averages(subject: Subject) -> Iterator[Problem]:
    """P601: an RDM between classes has no two members of one class left to compare."""
    for path, rsa in subject.of(Rsa):
        column = rsa.rdm.average_by
        for name, model in (rsa.against or {}).items():
            if column is not None and isinstance(model, CategoryModel) and model.column == column:
                message = (
                    f"patterns are averaged by {column!r}, so no two are of one {column}, and the "
                    f"model RDM {name!r} is the same for every pair; leave 'average_by' out"
                )
                yield Problem((*path, "rdm", "average_by"), "P601", message)
        if column is not None and rsa.contrast is not None and rsa.contrast.column == column:
            message = (
                f"patterns are averaged by {column!r}, so no two are of one {column}, and the "
                "contrast has no pair within a class; leave 'average_by' out"
            )
            yield Problem((*path, "rdm", "average_by"), "P601", message)


def heads(subject: Subject) -> Iterator[Problem]:
    """P602: head 3 of one layer, or of one model, has nothing to do with head 3 of another."""
    several = sorted({"model", "model.id"} & subject.swept)
    for path, entry in subject.entries.items():
        for here, part in models_in(entry, path, _has_heads):
            layers, heads = vars(part).get("layers", "all"), vars(part).get("heads", "all")
            if heads == "all":
                continue
            if several:
                message = f"the matrix sets {several[0]!r}, and these heads are those of one model"
                yield Problem((*here, "heads"), "P602", f"{message}; take 'all'")
            elif any("%" in str(layer) for layer in layers):
                message = (
                    "which layers these are in depends on the size of the model, and heads are "
                    "numbered anew in each layer; give layers by number, or take all heads"
                )
                yield Problem((*here, "heads"), "P602", message)


def _has_heads(model: type[BaseModel]) -> bool:
    return "heads" in model.model_fields


def choice_of_units(subject: Subject) -> Iterator[Problem]:
    """P603: units chosen by a label separate it even in noise, where they were chosen.

    The analysis then gives no p (`analyses.rsa_chosen`).
    """
    yield from _chosen_to_act_on(subject)
    for path, rsa in subject.of(Rsa):
        selection = subject.sections.get("analyses", rsa.features)
        if not isinstance(selection, Selection):
            continue
        asked = {getattr(model, "column", None) for model in (rsa.against or {}).values()}
        asked |= {rsa.contrast.column} if rsa.contrast else set()
        shared = _sets(subject.sections, rsa) & _sets(subject.sections, selection)
        if selection.column in asked and shared:
            message = (
                f"{rsa.features!r} chose these units by {selection.column!r} on "
                f"stimuli.{min(shared)}: chosen from noise they would do well there too, so that "
                "no p is given; test on other stimuli, or with a probe, which chooses in each fold"
            )
            yield Problem((*path, "features"), "P603", message)


def _chosen_to_act_on(subject: Subject) -> Iterator[Problem]:
    """P603: units that move these stimuli by accident were chosen for it, and will do so again."""
    for path, entry in subject.entries.items():
        named = subject.sections.named(entry, path, Ref) if path[0] == "analyses" else ()
        for reference in named:
            if _section(reference) != "interventions":
                continue
            acting = subject.sections.get("interventions", reference.name)
            selection = subject.sections.get("analyses", getattr(acting, "chosen_by", None))
            if not isinstance(selection, Selection):
                continue
            sources = [subject.sections.source(r.name) for r in named if _section(r) == "stimuli"]
            measured = {source[0] for source in sources if source}
            shared = measured & _sets(subject.sections, selection)
            if shared:
                message = (
                    f"interventions.{reference.name} acts on units that were chosen on "
                    f"stimuli.{min(shared)}, where its effect is measured now: what they do by "
                    "accident there, they were chosen for; measure it on other stimuli"
                )
                yield Problem(reference.path, "P603", message)


def _section(reference: Named) -> str:
    return reference.mark.section if isinstance(reference.mark, Ref) else ""


def _sets(sections: Sections, entry: BaseModel) -> set[str]:
    """Return the sets with rows of their own whose captures an analysis names."""
    found = set()
    for reference in sections.named(entry, (), Ref):
        capture = sections.get("captures", reference.name)
        if _section(reference) == "captures" and capture:
            source = sections.source(getattr(capture, "of", None))
            found |= {source[0]} if source else set()
    return found


def precision(subject: Subject) -> Iterator[Problem]:
    """P605: half precision keeps too few digits of what is a small difference of large numbers."""
    dtype = subject.model.dtype if subject.model else ""
    if dtype not in HALF:
        return
    for path, what in _delicate(subject):
        message = (
            f"{what} hangs on small differences of large numbers, of which model.dtype "
            f"{dtype} keeps {HALF[dtype]}; use float32"
        )
        yield Problem(path, "P605", message)


def _delicate(subject: Subject) -> Iterator[tuple[Path, str]]:
    """Yield what loses most to rounding, with its place."""
    for path, rsa in subject.of(Rsa):
        if rsa.rdm.metric == "crossnobis":
            yield (*path, "rdm", "metric"), "crossnobis"
        elif rsa.contrast is not None:
            yield (*path, "contrast"), "Fisher z"
    for path, selection in subject.of(Selection):
        if any(method.kind in FISHER for method in selection.methods.values()):
            yield (*path, "methods"), "Fisher z"


def zero(subject: Subject) -> Iterator[Problem]:
    """P606: a cosine is an angle seen from zero, which only crossvalidated distances have."""
    for path, rsa in subject.of(Rsa):
        metric = rsa.rdm.metric
        if rsa.compare in ("cosine", "whitened_cosine") and metric != "crossnobis":
            message = (
                f"{rsa.compare!r} is measured from zero, and noise alone makes {metric!r} larger "
                "than zero, so that unrelated RDMs look alike; use the metric 'crossnobis', or "
                "compare by 'spearman'"
            )
            yield Problem((*path, "compare"), "P606", message)


def ties(subject: Subject) -> Iterator[Problem]:
    """P611: with ties, a rank correlation does not compare what it is compared with.

    H. Nili and others, A toolbox for representational similarity analysis, PLoS Comput. Biol.
    10(4), 2014: of two model RDMs it prefers the coarser, even where the finer one is true.
    """
    for path, rsa in subject.of(Rsa):
        models = {n: m for n, m in (rsa.against or {}).items() if n not in rsa.partial}
        coarse = [name for name, model in models.items() if model.kind == "category"]
        fine = [name for name, model in models.items() if model.kind in ("continuous", "capture")]
        if rsa.compare == "spearman" and coarse and fine:
            message = (
                f"'spearman' prefers a model RDM of two values, such as {coarse[0]!r}, to one of "
                f"many, such as {fine[0]!r}, even where that one is right; to compare them take "
                "'rho_a' or 'kendall_tau_a'"
            )
            yield Problem((*path, "compare"), "P611", message)


def controls(subject: Subject) -> Iterator[Problem]:
    """P607: a number that nothing is compared with."""
    for path, probe in subject.of(Probe):
        if not probe.controls:
            message = (
                "an accuracy without a control does not say what the model knows and what the "
                "probe learnt; leave 'controls' out for 'majority' and 'shuffled_labels'"
            )
            yield Problem((*path, "controls"), "P607", message)
    for path, steering in subject.of_kind("steering"):
        if not steering.controls:
            message = (
                "any push of this size may do the same; leave 'controls' out for "
                "'random_direction', or name what is as large and has no meaning"
            )
            yield Problem((*path, "controls"), "P607", message)
    for path, circuit in subject.of_kind("circuit"):
        if not circuit.random:
            message = "random circuits of this size may do as well; leave 'random' out for 50"
            yield Problem((*path, "random"), "P607", message)


def ceilings(subject: Subject) -> Iterator[Problem]:
    """P608: one measurement has no noise ceiling."""
    several = {
        "seeds": ("seed",),
        "models": ("model", "model.id", "model.revision"),
    }
    for path, rsa in subject.of(Rsa):
        paths = several.get(rsa.noise_ceiling, ())
        if paths and not subject.swept & set(paths):
            message = f"a ceiling is how far several {rsa.noise_ceiling} agree, and there is one; "
            message += (
                "give several, 'seed: [0, 1, 2]'"
                if paths == ("seed",)
                else f"give several under 'matrix.grid', at {paths[-1]!r}"
            )
            yield Problem((*path, "noise_ceiling"), "P608", message)


def pins(subject: Subject) -> Iterator[Problem]:
    """P610: a data set of the hub can change under its name."""
    for path, entry in subject.of(Hub):
        if entry.revision is None:
            message = f"{entry.dataset!r} can change under its name; give its commit as 'revision'"
            yield Problem((*path, "dataset"), "P610", message)
