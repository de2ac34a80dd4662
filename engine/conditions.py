"""Sweeps: a batch under its conditions, from what its clean pass left, as tensors and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from patchclamp.analyses.readings import HELD, Change
from patchclamp.engine.answers import Asked, ask
from patchclamp.engine.backend import Prefix, Step
from patchclamp.engine.batches import Batch, pad
from patchclamp.engine.beginning import Clean, begun
from patchclamp.engine.edge_steps import change_steps
from patchclamp.engine.model import ModelSource
from patchclamp.engine.passes import Found, Inputs, Relay
from patchclamp.engine.plan import VOCABULARY, Plan
from patchclamp.engine.savings import Pack, Sweep, Wanted, plain, sweep_of
from patchclamp.engine.steps import (
    in_order,
    keep_step,
    read_answers_at,
    read_answers_of,
    unread_step,
)
from patchclamp.engine.values import Edit, Values
from patchclamp.registry import BACKENDS

Changes = tuple[Change, ...]


@dataclass(frozen=True)
class Sweeping:
    """What all passes of a sweep share; `reads` is what is read of the logits beyond answers."""

    plan: Plan
    name: str
    conditions: tuple[Changes, ...]
    reads: tuple[str, ...]
    values: Values
    optimise: bool

    @property
    def model(self) -> ModelSource:
        """The model."""
        return self.plan.model


def wanted(sweeping: Sweeping, number: int, rows: tuple[int, ...]) -> Wanted:
    """Return what is known of a condition before it runs."""
    changes = sweeping.conditions[number]
    start = min((start_of(change, sweeping.model.shape.layers) for change in changes), default=0)
    firsts = first_tokens(sweeping, changes)
    tokens = None
    if firsts is not None:
        lengths = sweeping.plan.sets[sweeping.name].lengths
        tokens = int((lengths - firsts)[list(rows)].max())
    return Wanted(number, rows, start, tokens)


def batch_sweep(sweeping: Sweeping, batch: Batch) -> Sweep:
    """Return how a batch runs under all its conditions.

    What is left of it after a kill runs in the same passes, or it would take other ones, whose
    numbers are others in their last digits (`Sweep.only`).
    """
    some = [wanted(sweeping, number, batch.rows) for number in range(len(sweeping.conditions))]
    if not sweeping.optimise:
        return plain(some)
    run = sweeping.plan.loaded.spec.run
    return sweep_of(
        some,
        layers=sweeping.model.shape.layers,
        length=batch.length,
        budget=run.batch.tokens,
        past=BACKENDS[run.backend].past,
    )


def start_of(change: Change, layers: int) -> int:
    """Return the first block that must run when a change is made."""
    if change.site == "embed":
        return 0
    return layers - 1 if change.site == "logits" else moved(change, layers).layer


def moved(change: Change, layers: int) -> Change:
    """Return a change of what a block gives as one of what the next is given, which is the same."""
    if change.site == "resid_post" and change.layer + 1 < layers:
        return replace(change, site="resid_pre", layer=change.layer + 1)
    return change


def first_tokens(sweeping: Sweeping, changes: Changes) -> NDArray[np.int64] | None:
    """Return the first token of each stimulus that changes touch; None where they may touch any.

    A stimulus that they do not touch counts as touched at its last token, where answers are read.
    """
    firsts = sweeping.plan.sets[sweeping.name].lengths - 1
    for change in changes:
        index = sweeping.values.index(change, sweeping.name)
        if (
            index is None
            or change.aside
            or change.site in ("attn_scores", "attn_pattern", "logits")
        ):
            return None
        large = np.where(index >= 0, index, np.iinfo(np.int32).max).min(axis=1)
        firsts = np.minimum(firsts, large)
    return None if "text" in sweeping.reads else firsts


def needs_clean(sweeping: Sweeping, sweep: Sweep) -> bool:
    """Return whether a batch goes through the model clean before it does under its conditions."""
    return sweep.clean or "distribution" in sweeping.reads


def clean_inputs(sweeping: Sweeping, sweep: Sweep, batch: Batch) -> Inputs:
    """Return the clean pass of a batch, which leaves what its conditions begin with."""
    tokens = sweeping.plan.sets[sweeping.name].tokens
    said = ask(tokens, batch.rows, reads=sweeping.reads)
    steps = [keep_step(sweeping.model, layer) for layer in sweep.streams]
    if "distribution" in sweeping.reads:
        steps += answered(sweeping, said)
    elif sweep.past or sweeping.plan.remote:
        steps.append(unread_step(sweeping.model))
    prefix: Prefix | None = {"keep": True} if sweep.past else None
    return Inputs(pad(said.ids, pad_id=0), in_order(steps), prefix)


def clean_of(sweeping: Sweeping, batch: Batch, left: Found | None = None) -> Clean:
    """Return what is known of the clean pass of a batch, and what it left if it has run."""
    said = ask(sweeping.plan.sets[sweeping.name].tokens, batch.rows)
    numbers = {row: number for number, row in enumerate(batch.rows)}
    return Clean(numbers, dict(zip(batch.rows, said.first, strict=True)), left)


def relay_inputs(sweeping: Sweeping, session: Sweep) -> Relay:
    """Return the passes of a session: its packs, behind a clean one of their stimuli if needed."""
    rows = sorted({row for pack in session.packs for part in pack.parts for row in part.rows})
    of_set = sweeping.plan.sets[sweeping.name]
    batch = Batch(tuple(rows), int(of_set.lengths[rows].max()))
    clean = clean_of(sweeping, batch)
    return Relay(
        clean_inputs(sweeping, session, batch) if needs_clean(sweeping, session) else None,
        tuple(pack_inputs(sweeping, pack, clean) for pack in session.packs),
    )


def pack_inputs(sweeping: Sweeping, pack: Pack, clean: Clean) -> Inputs:
    """Return the pass of a pack: its stimuli once for each condition, from its layer on."""
    tokens, model = sweeping.plan.sets[sweeping.name].tokens, sweeping.model
    blocks = blocks_of(sweeping, pack)
    rows = [row for block in blocks for row in block.rows]
    reads, distribution = sweeping.reads, None
    if "distribution" in reads:
        reads = tuple(read for read in reads if read != "distribution")
        distribution = torch.tensor([clean.numbers[row] for row in rows])
    said = ask(tokens, rows, reads=reads, clean=distribution)
    stimulus = _stimulus_of(said)
    cut = torch.zeros(len(said.ids), dtype=torch.long)
    if pack.past:
        cut = torch.cat([torch.from_numpy(_firsts(sweeping, block)) for block in blocks])[stimulus]
    edits = _edits(sweeping, blocks, (stimulus, cut))
    ids = [row[int(at) :] for row, at in zip(said.ids, cut, strict=True)]
    step = {**said.step, "positions": said.step["positions"] - cut[said.step["rows"]]}
    said = replace(said, ids=tuple(ids), step=step)
    steps = in_order([*change_steps(model, edits), *answered(sweeping, said)])
    inputs = pad(said.ids, pad_id=0)
    if not pack.start and not pack.past:
        return Inputs(inputs, steps, begins={} if distribution is not None else None)
    offset = torch.arange(len(ids)) - torch.tensor(said.first)[stimulus]
    source = torch.tensor([clean.first[row] for row in rows])[stimulus] + offset
    return begun(model, pack, (Inputs(inputs, steps), source, cut))


def answered(sweeping: Sweeping, said: Asked) -> list[Step]:
    """Return the steps that read answers; all logits are there where one of them is changed."""
    writes = any(change.site == "logits" for of in sweeping.conditions for change in of)
    narrow = sweeping.optimise and not writes
    # A server computes all columns, and sends the answers' alone in either case.
    if narrow and VOCABULARY not in sweeping.reads and not sweeping.plan.remote:
        return read_answers_of(sweeping.model, said)
    return read_answers_at(sweeping.model, said, narrow=narrow)


@dataclass(frozen=True)
class Block:
    """Stimuli under changes, side by side with others in a pass; `aside` is the number of the block
    that it takes values from, `clean` that of the block whose norms it holds on to."""

    changes: Changes
    rows: tuple[int, ...]
    aside: int | None = None
    clean: int | None = None


def blocks_of(sweeping: Sweeping, pack: Pack) -> list[Block]:
    """Return the blocks of a pack: its conditions, and behind them the runs aside, each once."""
    asides: dict[tuple[Changes, tuple[int, ...]], int] = {}
    blocks = []
    for part in pack.parts:
        changes = sweeping.conditions[part.number]
        aside = tuple(change for change in changes if change.aside)
        number = None
        if aside:
            number = asides.setdefault((aside, part.rows), len(pack.parts) + len(asides))
        measured = tuple(change for change in changes if not change.aside)
        blocks.append(Block(measured, part.rows, number))
    count = len(blocks) + len(asides)
    held = {rows: None for changes, rows in asides if any(c.intervention == HELD for c in changes)}
    clean = {rows: count + number for number, rows in enumerate(held)}
    beside = [Block(changes, rows, clean=clean.get(rows)) for changes, rows in asides]
    return [*blocks, *beside, *(Block((), rows) for rows in clean)]


def _firsts(sweeping: Sweeping, block: Block) -> NDArray[np.int64]:
    firsts = first_tokens(sweeping, block.changes)
    assert firsts is not None, "only these have a past"
    return firsts[list(block.rows)].astype(np.int64)


def _stimulus_of(said: Asked) -> torch.Tensor:
    """Return which of the stimuli each input row is of: its text with one of its answers after."""
    starts = torch.zeros(len(said.ids), dtype=torch.long)
    starts[torch.tensor(said.first[1:], dtype=torch.long)] = 1
    return starts.cumsum(0)


def _edits(
    sweeping: Sweeping, blocks: Sequence[Block], rows: tuple[torch.Tensor, torch.Tensor]
) -> list[tuple[Change, Edit]]:
    """Return what is changed in the input rows of each block, counted from their first token."""
    (stimulus, cut), edits = rows, []
    layers = sweeping.model.shape.layers
    sizes = [0, *np.cumsum([len(block.rows) for block in blocks]).tolist()]
    ends = torch.searchsorted(stimulus, torch.tensor(sizes)).tolist()
    for number, block in enumerate(blocks):
        at = (ends[number], ends[number + 1])
        of, offset = stimulus[slice(*at)] - sizes[number], cut[slice(*at)]
        for change in block.changes:
            edit = sweeping.values.of(change, sweeping.name, block.rows)
            value, index = edit["value"], edit["index"]
            dims = 4 if change.head is None and change.site in FOUR else 3
            if value.ndim == dims and len(value) == len(block.rows):
                value = value[of]
            if index is not None:
                index = index[of]
                index = torch.where(index >= 0, index - offset[:, None], -1)
            where = moved(change, layers) if sweeping.optimise else change
            edit = {**edit, "value": value, "index": index, "rows": at}
            other = block.clean if change.intervention == HELD else block.aside
            if other is not None:
                edit |= {"of": (ends[other], ends[other + 1]), "count": ends[-1]}
            edits.append((where, edit))
    return edits


FOUR = ("q", "k", "v", "z", "attn_scores", "attn_pattern")
"""Sites whose tensors have four dims, one of them heads."""
