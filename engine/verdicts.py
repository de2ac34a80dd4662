"""Verdicts: what a guard found, and what is known of a plan before anything is measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from patchclamp.engine.plan import Plan


@dataclass(frozen=True)
class Verdict:
    """What a guard found: the largest deviation, the limit, and on what."""

    guard: str
    on: str
    value: float
    limit: float
    verdict: str = "ok"

    def as_dict(self) -> dict[str, object]:
        """Return the verdict as plain data, for the provenance."""
        return asdict(self)


def of_texts(plan: Plan) -> Iterator[Verdict]:
    """Yield that texts are read whole, and begin with one BOS at most: others were refused (P407).

    What counts are the tokens of the longest stimulus, its answer's among them, and the stimuli
    that begin with two.
    """
    for name, of_set in plan.given.items():
        whole = f"{name}, tokens of the longest stimulus"
        yield Verdict("truncation", whole, float(of_set.tokens.reach), plan.model.context)
        bos = plan.model.tokenizer.bos_token_id
        twice = sum(bos is not None and ids[:2] == (bos, bos) for ids in of_set.tokens.ids)
        yield Verdict("double BOS", f"{name}, stimuli that begin with two", float(twice), 0.0)


def of_revisions(plans: Sequence[Plan]) -> Iterator[Verdict]:
    """Yield that the revisions of each model of a sweep have different weights (else P426).

    What counts are revisions whose weights another one has too.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for plan in plans:
        if plan.model.choice.weights != "random":
            found[plan.model.choice.id][plan.model.revision] = plan.weights
    for model, weights in found.items():
        if len(weights) > 1:
            twice = len(weights) - len(set(weights.values()))
            on = f"{len(weights)} revisions of {model}, those with the weights of another"
            yield Verdict("weights differ", on, float(twice), 0.0)
