"""Measure: run the passes of a plan and keep what they give, in stimulus order.

1. Every set that is needed runs clean once: captures, answers and sums come from one pass.
2. Sums become means.
3. Every distinct intervention runs once over its set and gives answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from patchclamp.analyses.readings import Change
from patchclamp.engine.answers import ask
from patchclamp.engine.backend import Backend, Step
from patchclamp.engine.batches import Batch, pad
from patchclamp.engine.plan import CapturePlan, MeanPlan, Plan, SetPlan
from patchclamp.engine.steps import answers_step, in_order, read_step, sum_step, write_steps

Array = npt.NDArray[np.floating]
Answers = dict[str, npt.NDArray[np.float64]]
"""What metrics are computed from, each (stimulus,): see `engine.scoring`."""
Progress = Callable[[str, int, int], None]
"""Called with what is running, passes done and passes in all."""


@dataclass(frozen=True)
class Measured:
    """Raw measurements: activations by capture, answers by set and by (set, changes)."""

    captures: Mapping[str, Array]
    clean: Mapping[str, Answers]
    changed: Mapping[tuple[str, tuple[Change, ...]], Answers]


@dataclass
class _Clean:
    """Collects what the clean pass of one set gives."""

    captures: dict[str, Array] = field(default_factory=dict)
    answers: Answers = field(default_factory=dict)
    distribution: torch.Tensor | None = None
    """Logits at the answer, (stimulus, token), where a divergence is measured from them."""
    sums: dict[str, torch.Tensor] = field(default_factory=dict)


def measure(plan: Plan, backend: Backend, progress: Progress) -> Measured:
    """Run all passes of a plan on a backend."""
    total, done = plan.passes(), 0

    def advance(what: str) -> None:
        nonlocal done
        done += 1
        progress(what, done, total)

    captures: dict[str, Array] = {}
    answers: dict[str, Answers] = {}
    distributions: dict[str, torch.Tensor | None] = {}
    values: dict[tuple[str, str, int], torch.Tensor] = {}
    for name in plan.clean_sets():
        clean = _run_clean(plan, name, backend, advance)
        captures.update(clean.captures)
        answers[name], distributions[name] = clean.answers, clean.distribution
        for mean in plan.means:
            if mean.stimuli == name:
                values.update(_means(mean, clean.sums, plan.sets[name]))
    values.update(_zeros(plan))
    changed = {
        (name, changes): _run_changed(
            plan, name, (backend, changes, values, distributions[name]), advance
        )
        for name, all_changes in plan.conditions().items()
        for changes in all_changes
    }
    return Measured(captures, answers, changed)


def clean_steps(plan: Plan, name: str, batch: Batch) -> list[Step]:
    """Return all that is read in the clean pass of a batch: captures, sums and answers."""
    of_set = plan.sets[name]
    lengths = torch.tensor([len(of_set.tokens.ids[row]) for row in batch.rows])
    mask = torch.arange(batch.length)[None] < lengths[:, None]
    steps = []
    for capture in plan.captures:
        if capture.stimuli == name:
            positions = position_index(capture.positions, lengths)
            for layer in capture.layers:
                key = f"{capture.name}.{layer}"
                steps.append(read_step(plan.model, (capture.site, layer), key, positions))
    for mean in plan.means:
        if mean.stimuli == name:
            for layer in mean.layers:
                steps.append(sum_step(plan.model, (mean.site, layer), _sum_key(mean, layer), mask))
    if any(reading.stimuli == name for reading in plan.metric_readings().values()):
        asked = ask(of_set.tokens, batch.rows, reads=plan.reads(name))
        steps.append(answers_step(plan.model, asked))
    return in_order(steps)


def position_index(positions: str, lengths: torch.Tensor) -> torch.Tensor | None:
    """Return the index (row, chosen) of named positions in right-padded rows; None for all.

    >>> position_index("last", torch.tensor([3, 5])).tolist()
    [[2], [4]]
    """
    match positions:
        case "first":
            return torch.zeros_like(lengths)[:, None]
        case "last":
            return (lengths - 1)[:, None]
        case _:
            return None


def run_batch(
    plan: Plan, name: str, batch: Batch, steps: list[Step], backend: Backend
) -> dict[str, torch.Tensor]:
    """Run one batch of a set through the model; stops early where no logits are read."""
    tokens = plan.sets[name].tokens
    # Any id may pad: the mask hides it, and not every tokenizer has a padding token.
    inputs = pad([tokens.ids[row] for row in batch.rows], pad_id=0)
    stop = all(step["do"] != "answers" for step in steps)
    return backend.forward(inputs, steps, stop=stop)


def _sum_key(mean: MeanPlan, layer: int) -> str:
    return f"sum.{mean.intervention}.{mean.site}.{layer}"


def _run_clean(plan: Plan, name: str, backend: Backend, advance: Callable[[str], None]) -> _Clean:
    """Run the clean pass of a set, batch by batch."""
    clean = _Clean()
    of_set = plan.sets[name]
    for batch in of_set.batches:
        found = run_batch(plan, name, batch, clean_steps(plan, name, batch), backend)
        for capture in plan.captures:
            if capture.stimuli == name:
                _store_capture(clean, capture, of_set, (batch, found))
        logits = found.pop("answers.distribution", None)
        if logits is not None:
            if clean.distribution is None:
                clean.distribution = logits.new_empty(len(of_set.table), logits.shape[1])
            clean.distribution[list(batch.rows)] = logits
            # A run does not diverge from itself.
            zero = torch.zeros(len(batch.rows), dtype=torch.float64)
            found.update({"answers.kl": zero, "answers.js": zero})
        _store_answers(clean.answers, batch, found, len(of_set.table))
        for key, value in found.items():
            if key.startswith("sum."):
                longest = of_set.tokens.longest
                total = clean.sums.setdefault(key, value.new_zeros(longest, *value.shape[1:]))
                total[: len(value)] += value
        advance(f"{name}, clean")
    return clean


def _store_capture(
    clean: _Clean,
    capture: CapturePlan,
    of_set: SetPlan,
    part: tuple[Batch, dict[str, torch.Tensor]],
) -> None:
    """Put a batch's activations into their rows; dims as in the site table, padding NaN."""
    batch, found = part
    lengths = [len(of_set.tokens.ids[row]) for row in batch.rows]
    for number, layer in enumerate(capture.layers):
        value = found[f"{capture.name}.{layer}"].numpy()  # (row, [head,] position, unit)
        width = value.shape[-2]
        if capture.positions == "all":
            real = np.arange(width) < np.asarray(lengths)[:, None]
            value = np.where(
                real.reshape(len(real), *[1] * (value.ndim - 3), width, 1), value, np.nan
            )
            longest = of_set.tokens.longest
        else:
            longest = width
        if capture.name not in clean.captures:
            shape = (*value.shape[1:-2], longest, value.shape[-1])
            clean.captures[capture.name] = np.full(
                (len(of_set.table), len(capture.layers), *shape), np.nan, dtype=np.float32
            )
        clean.captures[capture.name][list(batch.rows), number, ..., :width, :] = value


def _store_answers(
    answers: Answers, batch: Batch, found: dict[str, torch.Tensor], count: int
) -> None:
    for key, value in found.items():
        if key.startswith("answers."):
            empty = np.full((count, *value.shape[1:]), np.nan)
            answers.setdefault(key.removeprefix("answers."), empty)[list(batch.rows)] = value


def _means(
    mean: MeanPlan, sums: Mapping[str, torch.Tensor], of_set: SetPlan
) -> dict[tuple[str, str, int], torch.Tensor]:
    """Divide sums by how many stimuli reach each position, in float64."""
    lengths = torch.tensor([len(ids) for ids in of_set.tokens.ids])
    counts = (torch.arange(of_set.tokens.longest)[None] < lengths[:, None]).sum(0).double()
    values = {}
    for layer in mean.layers:
        total = sums[_sum_key(mean, layer)]
        if mean.per == "all":
            value = total.sum(0, keepdim=True) / counts.sum()
        else:
            value = total / counts.view(-1, *[1] * (total.ndim - 1))
        values[mean.intervention, mean.site, layer] = value
    return values


def _zeros(plan: Plan) -> dict[tuple[str, str, int], torch.Tensor]:
    """Values of the interventions that put zeros in place; one number, broadcast by `write`."""
    from_means = {(m.intervention, m.site, layer) for m in plan.means for layer in m.layers}
    places = {
        (change.intervention, change.site, change.layer): change.head
        for all_changes in plan.conditions().values()
        for changes in all_changes
        for change in changes
    }
    heads = plan.model.shape.heads
    return {
        where: torch.zeros((1, 1) if head is None else (1, heads, 1), dtype=torch.float64)
        for where, head in places.items()
        if where not in from_means
    }


def _run_changed(
    plan: Plan,
    name: str,
    what: tuple[
        Backend,
        tuple[Change, ...],
        Mapping[tuple[str, str, int], torch.Tensor],
        torch.Tensor | None,
    ],
    advance: Callable[[str], None],
) -> Answers:
    """Run a set under an intervention and return its answers."""
    backend, changes, values, clean = what
    answers: Answers = {}
    reads = tuple(read for read in plan.reads(name) if read != "distribution")
    tokens = plan.sets[name].tokens
    for batch in plan.sets[name].batches:
        of_batch = None if clean is None else clean[list(batch.rows)]
        asked = ask(tokens, batch.rows, reads=reads, clean=of_batch)
        steps = [*write_steps(plan.model, changes, values), answers_step(plan.model, asked)]
        found = run_batch(plan, name, batch, in_order(steps), backend)
        _store_answers(answers, batch, found, len(plan.sets[name].table))
        advance(f"{name}, {changes[0].intervention}")
    return answers
