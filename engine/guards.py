"""Guards: checks on the measurement itself, made in every run; verdicts go into the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from patchclamp.engine.answering import (
    Answers,
    Asking,
    Changes,
    look_at_answers,
    plain_inputs,
)
from patchclamp.engine.batches import Batch
from patchclamp.engine.captures import CapturePlan
from patchclamp.engine.identities import Identity, check_sites, check_some_sites
from patchclamp.engine.passes import Passes
from patchclamp.engine.plan import Plan
from patchclamp.engine.recording import Work, by_objective, gather, prepare
from patchclamp.engine.records import Cache
from patchclamp.engine.sources import entry_of
from patchclamp.engine.steps import read_step
from patchclamp.engine.verdicts import Verdict
from patchclamp.registry.errors import GuardError

TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference that rounding explains, relative to the largest value compared; padded
against alone was measured at 4e-6 in float32, the others follow their shorter mantissas."""

_FEW = 4
"""The same where they come from a server: three layers of a 70B model are then 2 MB."""
_TOKENS = 16
"""Tokens of the stimulus that site identities are checked on: enough, and attention maps of all
layers stay small."""


def check_captures(passes: Passes, captures: Sequence[CapturePlan], cache: Cache) -> list[Verdict]:
    """Hold what has been recorded against a stimulus that runs alone; raises `GuardError`.

    That every number is finite was seen when its batch was kept.
    """
    plan = passes.plan
    verdicts = [Verdict("finite", f"captures/{c.name}", 0.0, 0.0) for c in captures]
    for name in dict.fromkeys(capture.stimuli for capture in captures):
        row, batch, padding = most_padded(plan, name)
        compared: list[float] = []
        alone = Batch((row,), int(plan.sets[name].lengths[row]))
        for part in by_objective([c for c in captures if c.stimuli == name]):
            found = passes.put_through(prepare(plan, Work(name, part, (row,)), alone))
            for capture in part:
                tensors, rows = gather(plan, capture, (row,), found, frozenset((row,)))
                if rows:
                    compared += _recorded_is(plan, capture, (row, tensors), cache)
        if not compared:  # as where all is gathered over stimuli
            compared = [_beside_is_alone(passes, name, (row, batch))]
        verdicts.append(judge_alone(plan, name, (row, padding), max(compared)))
    return verdicts


def check_answers(
    passes: Passes, asked: Asking, answers: Mapping[Changes, Answers], clean: Answers
) -> list[Verdict]:
    """Hold clean answers against a stimulus that runs alone; see that interventions act."""
    plan, name = passes.plan, asked.stimuli
    if asked.conditions != ((),):
        return _interventions_had_effect(passes, asked, answers, clean)
    row, _, padding = most_padded(plan, name)
    found, clean, worst = look_at_answers(passes, asked, row), answers[()], 0.0
    for key in ("logit_correct", "logit_foil", "logsumexp", "cross_entropy"):
        if key in clean:
            together = float(clean[key][row])
            scale = abs(float(clean["logsumexp"][row])) if key != "cross_entropy" else abs(together)
            worst = max(worst, abs(float(found[key][0]) - together) / scale)
    return [judge_alone(plan, name, (row, padding), worst)]


def most_padded(plan: Plan, name: str) -> tuple[int, Batch, int]:
    """Return the stimulus with the most padding, its batch, and how many tokens that is."""
    of_set, tokens = plan.sets[name], plan.loaded.spec.run.batch.tokens
    batches = of_set.batches(range(len(of_set.table)), tokens)
    padding, row, number = max(
        (batch.length - int(of_set.lengths[row]), row, number)
        for number, batch in enumerate(batches)
        for row in batch.rows
    )
    return row, batches[number], padding


def _beside_is_alone(passes: Passes, name: str, what: tuple[int, Batch]) -> float:
    """Compare a stimulus's last layer alone and beside the longest one of its batch."""
    row, batch = what
    plan, of_set = passes.plan, passes.plan.sets[name]
    longest = max(batch.rows, key=lambda other: int(of_set.lengths[other]))
    last = plan.model.shape.layers - 1
    seen = []
    for rows in ([row], [row, longest]):
        lengths = torch.from_numpy(of_set.lengths[rows])
        step = read_step(plan.model, ("resid_post", last), "last", lengths)
        found = passes.forward([of_set.tokens.ids[r] for r in rows], [step])
        seen.append(found["last/activation"][0, : int(lengths[0])].float().numpy())
    return deviation(seen[0], seen[1])


def _recorded_is(
    plan: Plan, capture: CapturePlan, what: tuple[int, Mapping[str, torch.Tensor]], cache: Cache
) -> list[float]:
    """Compare what a stimulus gives alone with what was recorded of it, variable by variable."""
    row, tensors = what
    shards, found = cache.open_shards(plan.record(capture)), []
    for variable in capture.variables():
        if variable.partial or variable.whole:
            continue
        names = capture.stored(variable)
        ((_, kept),) = shards.block(names, (row,))
        alone = torch.stack([tensors[name][0] for name in names]).float().numpy()
        inner = tuple(slice(0, size) for size in alone.shape)
        together = torch.stack([part[0] for part in kept])[inner].float().numpy()
        if np.isfinite(alone).any():
            found.append(deviation(alone, together))
    return found


def judge_alone(plan: Plan, name: str, what: tuple[int, int], worst: float) -> Verdict:
    """Judge how far a stimulus is alone from what it is in its batch."""
    row, padding = what
    return _judge(
        "batched = alone",
        f"{name}, stimulus {plan.sets[name].table.ids[row]!r} with {padding} padding tokens",
        worst,
        TOLERANCE[plan.model.choice.dtype],
        "a stimulus gives other numbers alone than in its batch",
    )


_LOGITS = ("logit_correct", "logit_foil", "logsumexp", "cross_entropy")
"""What is read of a pass that an intervention which reaches the model moves."""


def _interventions_had_effect(
    passes: Passes, asked: Asking, answers: Mapping[Changes, Answers], clean: Answers
) -> list[Verdict]:
    """Every intervention moved some answer's logit: one that moves none never reached the model.

    A difference as small as rounding tells nothing, since conditions run beside one another: it
    is held against a pass of the stimulus alone. Interventions that may move none are counted.
    """
    plan, name = passes.plan, asked.stimuli
    keys = [key for key in _LOGITS if key in clean]
    noise = TOLERANCE[plan.model.choice.dtype] * float(np.abs(clean["logsumexp"]).max())
    verdicts, still = [], 0
    for changes, changed in answers.items():
        read = [key for key in keys if key in changed]
        by_row = np.max([np.abs(changed[key] - clean[key]) for key in read], axis=0)
        moved, where = float(by_row.max()), _describe(changes)
        # An edge may carry nothing; that interventions act is seen of whole nodes.
        allowed = all(c.into or entry_of(plan.loaded, c).allow_no_effect for c in changes)
        if moved <= noise and not allowed:
            moved = _moved_alone(passes, asked, changes, int(by_row.argmax()))
        if moved == 0 and not allowed:
            named = changes[0].intervention
            what = named if isinstance(named, str) else named.kind
            raise GuardError(
                f"guard 'intervention had effect' failed on {name!r}: {what!r} at {where} changes "
                "no logit at all; where that is right, say 'allow_no_effect: true' in the "
                "intervention"
            )
        still += moved <= noise and allowed
        verdicts.append((moved, where))
    least, where = min(verdicts)
    about = f"least: {where}" + (f"; {still} of {len(answers)} have none" if still else "")
    return [Verdict("intervention had effect", about, least, float("inf"))]


def _moved_alone(passes: Passes, asked: Asking, changes: Changes, row: int) -> float:
    """Return how much an intervention moves a stimulus that runs alone, and without savings."""
    found = []
    for of in ((), changes):
        inputs = plain_inputs(passes.plan, asked, of, row)
        found.append(passes.put_through(inputs))
    clean, changed = found
    keys = [f"answers.{key}" for key in _LOGITS if f"answers.{key}" in clean]
    return max(float((changed[key] - clean[key])[:1].abs().max()) for key in keys)


def _judge(guard: str, on: str, value: float, limit: float, why: str) -> Verdict:
    """Return the verdict of a deviation within its limit; raise if it is beyond."""
    if not value <= limit:
        raise GuardError(
            f"guard {guard!r} failed on {on}: {why} (got {value:.3g}, limit {limit:g})"
        )
    return Verdict(guard, on, value, limit)


def deviation(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the largest of `b`; infinite where only one is a number."""
    if (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nanmax(np.abs(a - b))) / (float(np.nanmax(np.abs(b))) or 1.0)


def _describe(changes: Changes) -> str:
    """Return where changes are made, the first few of them."""
    said = []
    for change in changes[:3]:
        head = "" if change.head is None else f"H{change.head}"
        units = f" units {change.units[0]}..{change.units[-1]}" if change.units else ""
        place = "" if change.place is None else f" place {change.place}"
        said.append(f"{change.site} L{change.layer}{head}{units}{place}")
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return ", ".join(said) + more


def check_identities(passes: Passes, module: torch.nn.Module | None) -> list[Verdict]:
    """What the site table promises holds on the longest stimulus, which shows most, at every layer.

    Without a module, the weights are on a server: then what can be checked without them, at some
    layers, and the rest is said not to be.
    """
    plan = passes.plan
    sets = plan.clean_sets() or tuple(plan.sets)
    ids = max((ids for name in sets for ids in plan.sets[name].tokens.ids), key=len)
    if module is None:
        return _check_without_weights(passes, ids[:_FEW])
    ids = ids[:_TOKENS]
    found = check_sites(plan.model, module, passes.backend, ids)
    return [
        note_precision(plan, module),
        *_judge_sites(plan, found),
    ]


def _check_without_weights(passes: Passes, ids: Sequence[int]) -> list[Verdict]:
    found = check_some_sites(passes.plan.model, passes.backend, ids)
    unknown = dict.fromkeys(identity.text for identity in found if identity.unknown)
    weights = "the weights are on the server"
    notes = [
        Verdict("site identity", f"{text}: {weights}", 0.0, 0.0, "not checked") for text in unknown
    ]
    named = f"{passes.plan.weights}: {weights}, and known by the name of their revision alone"
    return [
        Verdict("weights", named, 0.0, 0.0, "not checked"),
        *_judge_sites(passes.plan, (one for one in found if not one.unknown)),
        *notes,
    ]


def note_precision(plan: Plan, module: torch.nn.Module) -> Verdict:
    """Note the share of parameters that are not in the precision that the spec asks for.

    Some models keep norms or routers in float32; it is no error, and it is written down.
    """
    dtype = plan.model.choice.dtype
    wanted = getattr(torch, dtype)
    sizes = {
        kind: sum(p.numel() for p in module.parameters() if p.dtype == kind)
        for kind in sorted({p.dtype for p in module.parameters()}, key=str)
    }
    others = ", ".join(str(kind).removeprefix("torch.") for kind in sizes if kind != wanted)
    share = 1 - sizes.get(wanted, 0) / sum(sizes.values())
    on = f"weights in {dtype}" + (f", some in {others}" if others else "")
    return Verdict("precision", on, share, float("inf"))


def _judge_sites(plan: Plan, found: Iterable[Identity]) -> list[Verdict]:
    return [
        _judge(
            "site identity",
            identity,
            value,
            TOLERANCE[plan.model.choice.dtype],
            "the site table does not fit this model",
        )
        for identity, value in worst(found).items()
    ]


def worst(identities: Iterable[Identity]) -> dict[str, float]:
    """Return the largest deviation of each identity over layers."""
    found: dict[str, float] = {}
    for identity in identities:
        found[identity.text] = max(found.get(identity.text, 0.0), identity.deviation)
    return found
