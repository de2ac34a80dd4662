"""Guards: checks on the measurement itself, made in every run; verdicts go into the result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from patchclamp.engine.backend import Backend
from patchclamp.engine.batches import Batch
from patchclamp.engine.identities import Identity, check_sites
from patchclamp.engine.measure import Measured, clean_steps, run_batch
from patchclamp.engine.plan import Plan
from patchclamp.registry.errors import GuardError

TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference that rounding explains, relative to the largest value compared; padded
against alone was measured at 4e-6 in float32, the others follow their shorter mantissas."""


@dataclass(frozen=True)
class Verdict:
    """What a guard found: the largest deviation, the limit, and on what."""

    guard: str
    on: str
    value: float
    limit: float

    def as_dict(self) -> dict[str, object]:
        """Return the verdict as plain data, for the provenance."""
        return {**asdict(self), "verdict": "ok"}


def check_measurement(
    plan: Plan, module: torch.nn.Module, backend: Backend, measured: Measured
) -> list[Verdict]:
    """Run every guard; raises `GuardError` at the first that fails."""
    verdicts = [*_finite(plan, measured), *_interventions_had_effect(plan, measured)]
    for name in plan.clean_sets():
        verdicts.append(_batched_is_alone(plan, name, backend, measured))
    verdicts += _site_identities(plan, module, backend)
    return verdicts


def _judge(guard: str, on: str, value: float, limit: float, why: str) -> Verdict:
    """Return the verdict of a deviation within its limit; raise if it is beyond."""
    if not value <= limit:
        raise GuardError(
            f"guard {guard!r} failed on {on}: {why} (got {value:.3g}, limit {limit:g})"
        )
    return Verdict(guard, on, value, limit)


def _deviation(a: np.ndarray, b: np.ndarray) -> float:
    """Largest absolute difference, relative to the largest absolute value of `b`."""
    scale = float(np.nanmax(np.abs(b)))
    difference = float(np.nanmax(np.abs(a - b)))
    return difference / scale if scale else difference


def _finite(plan: Plan, measured: Measured) -> list[Verdict]:
    """Every activation and every logit at a real token is a finite number."""
    verdicts = []
    for capture in plan.captures:
        values = measured.captures[capture.name]
        table = plan.sets[capture.stimuli]
        bad = ~np.isfinite(values)
        if capture.positions == "all":
            real = np.zeros((len(values), values.shape[-2]), dtype=bool)
            for row, ids in enumerate(table.tokens.ids):
                real[row, : len(ids)] = True
            bad &= real.reshape(len(values), *[1] * (values.ndim - 3), values.shape[-2], 1)
        if bad.any():
            row, layer = (int(i) for i in np.argwhere(bad)[0][:2])
            raise GuardError(
                f"guard 'finite' failed on capture {capture.name!r}: stimulus "
                f"{table.table.ids[row]!r} at layer {capture.layers[layer]} holds NaN or infinity"
            )
        verdicts.append(Verdict("finite", f"captures/{capture.name}", 0.0, 0.0))
    for name, answers in measured.clean.items():
        for reading, values in answers.items():
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise GuardError(
                    f"guard 'finite' failed on {reading} of {name!r}: stimulus "
                    f"{plan.sets[name].table.ids[row]!r} gives NaN or infinity"
                )
    return verdicts


def _interventions_had_effect(plan: Plan, measured: Measured) -> list[Verdict]:
    """Every intervention moved some answer's logit: one that moves none never reached the model."""
    verdicts = []
    for (name, changes), answers in measured.changed.items():
        clean = measured.clean[name]
        moved = max(
            float(np.abs(answers[key] - clean[key]).max())
            for key in ("logit_correct", "logsumexp", "cross_entropy")
            if key in clean
        )
        where = ", ".join(_describe(change.site, change.layer, change.head) for change in changes)
        if not moved > 0:
            raise GuardError(
                f"guard 'intervention had effect' failed on {name!r}: "
                f"{changes[0].intervention!r} at {where} changes no logit at all"
            )
        verdicts.append((moved, where))
    if not verdicts:
        return []
    least, where = min(verdicts)
    return [Verdict("intervention had effect", f"least: {where}", least, float("inf"))]


def _describe(site: str, layer: int, head: int | None) -> str:
    return f"{site} L{layer}" if head is None else f"{site} L{layer}H{head}"


def _batched_is_alone(plan: Plan, name: str, backend: Backend, measured: Measured) -> Verdict:
    """The stimulus with the most padding gives the same numbers when it runs alone."""
    of_set = plan.sets[name]
    lengths = [len(ids) for ids in of_set.tokens.ids]
    padding, row = max(
        (batch.length - lengths[row], row) for batch in of_set.batches for row in batch.rows
    )
    alone = Batch((row,), lengths[row])
    found = run_batch(plan, name, alone, clean_steps(plan, name, alone), backend)
    worst = 0.0
    for capture in plan.captures:
        if capture.stimuli == name:
            together = measured.captures[capture.name][row]
            for number, layer in enumerate(capture.layers):
                value = found[f"{capture.name}.{layer}"][0].numpy()
                batched = together[number][..., : value.shape[-2], :]
                worst = max(worst, _deviation(value, batched))
    for key in ("logit_correct", "logit_foil", "logsumexp"):
        if f"answers.{key}" in found:
            scale = float(np.abs(measured.clean[name]["logsumexp"][row]))
            single = float(found[f"answers.{key}"][0])
            worst = max(worst, abs(single - float(measured.clean[name][key][row])) / scale)
    return _judge(
        "batched = alone",
        f"{name}, stimulus {of_set.table.ids[row]!r} with {padding} padding tokens",
        worst,
        TOLERANCE[plan.model.choice.dtype],
        "a stimulus gives other numbers alone than in its batch",
    )


def _site_identities(plan: Plan, module: torch.nn.Module, backend: Backend) -> list[Verdict]:
    """What the site table promises holds on one real stimulus, at every layer."""
    name = plan.clean_sets()[0] if plan.clean_sets() else next(iter(plan.sets))
    ids = plan.sets[name].tokens.ids[0]
    limit = TOLERANCE[plan.model.choice.dtype]
    return [
        _judge("site identity", identity, value, limit, "the site table does not fit this model")
        for identity, value in worst(check_sites(plan.model, module, backend, ids)).items()
    ]


def worst(identities: Iterable[Identity]) -> dict[str, float]:
    """Return the largest deviation of each identity over layers."""
    found: dict[str, float] = {}
    for identity in identities:
        found[identity.text] = max(found.get(identity.text, 0.0), identity.deviation)
    return found
