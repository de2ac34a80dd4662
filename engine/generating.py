"""Generating: what the model writes after the texts of a set, clean and under interventions.

1. A batch runs under each condition: first its texts, then a token at a time.
2. The next token is the most probable one or, at a temperature, drawn by the stimulus's own random
   numbers: the same ones under every condition, so that what differs is what was done.
3. The keys and values of what is there already are kept, unless a condition changes attention
   scores or patterns, which are made of all of them; `run: {optimise: false}` runs every text
   whole for each token, and is what this is compared with.

A stimulus is done with a token that ends texts, or when it has as many as are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from patchclamp.analyses.readings import CLEAN, Change, GenerationReading
from patchclamp.analyses.seeds import Seeds
from patchclamp.engine.backend import Prefix, Step
from patchclamp.engine.batches import pad
from patchclamp.engine.passes import Found, Inputs, Passes, is_out_of_memory
from patchclamp.engine.plan import Plan
from patchclamp.engine.records import Cache, Record, digest_of
from patchclamp.engine.shards import write_shard
from patchclamp.engine.steps import in_order, narrow_step, place, write_steps
from patchclamp.engine.values import Edit, Values

Changes = tuple[Change, ...]


@dataclass(frozen=True)
class Writing:
    """What is to be written after the texts of a set under some conditions, the clean one first."""

    plan: Plan
    reading: GenerationReading
    conditions: tuple[Changes, ...]
    values: Values
    record: Record

    @property
    def name(self) -> str:
        """The stimulus set."""
        return self.reading.stimuli

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end a text."""
        return ends_of(self.plan)


def writing(plan: Plan, reading: GenerationReading, values: Values) -> Writing:
    """Return what is to be written, with the record that it is kept as."""
    conditions = tuple(dict.fromkeys((CLEAN.changes, *(c.changes for c in reading.conditions))))
    name = reading.stimuli
    parts: dict[str, Any] = {
        **plan.identity(name),
        "tokens": reading.tokens,
        "texts_tokens": digest_of(tuple(plan.sets[name].tokens.ids)),
        "temperature": reading.temperature,
        "ends": list(ends_of(plan)),
        "seed": [plan.loaded.spec.seed, list(plan.sets[name].table.ids)]
        if reading.temperature
        else None,
        "conditions": digest_of(
            [[(values.identity(c, name), c.during) for c in of] for of in conditions]
        ),
    }
    record = Record("texts", f"what is written after {name}", parts)
    return Writing(plan, reading, conditions, values, record)


def ends_of(plan: Plan) -> tuple[int, ...]:
    """Return the tokens that end a text, by the model's config and its tokenizer."""
    said = getattr(plan.model.config, "eos_token_id", None)
    found = {plan.model.tokenizer.eos_token_id}
    found |= set(said) if isinstance(said, list | tuple) else {said}
    return tuple(sorted(int(token) for token in found if token is not None))


def write_all(passes: Passes, asked: Writing, cache: Cache) -> None:
    """Write what is left to be written, batch by batch under each condition."""
    count = len(asked.plan.sets[asked.name].table)
    folder, done = cache.shards(asked.record), cache.open_shards(asked.record).done
    for number, changes in enumerate(asked.conditions):
        left = [row for row in range(count) if number * count + row not in done]
        for batch in passes.batches(asked.name, left):
            for rows, found in _in_parts(passes, asked, changes, batch.rows):
                write_shard(folder, [number * count + row for row in rows], found)
                passes.done += asked.reading.tokens
                passes.advance(asked.name)


def _in_parts(
    passes: Passes, asked: Writing, changes: Changes, rows: Sequence[int]
) -> list[tuple[tuple[int, ...], dict[str, torch.Tensor]]]:
    """Continue some stimuli, in halves where memory does not suffice."""
    try:
        with torch.no_grad():
            return [(tuple(rows), Continuing(passes, asked, changes, tuple(rows)).whole())]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(rows) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (len(rows) + 1) // 2
    return [
        part
        for some in (rows[:half], rows[half:])
        for part in _in_parts(passes, asked, changes, some)
    ]


@dataclass
class Continuing:
    """Some stimuli, `rows` of their set, as they are continued under changes."""

    passes: Passes
    asked: Writing
    changes: Changes
    rows: tuple[int, ...]
    past: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """Keys and values of what has run; the tokens of a row stand at its end."""
    seen: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """Which of them are tokens of the row, (row, token)."""

    def whole(self) -> dict[str, torch.Tensor]:
        """Return the tokens that are written, (row, token), and what they were taken from."""
        reading, ends = self.asked.reading, self.asked.ends
        prompts = [self.asked.plan.sets[self.asked.name].tokens.ids[row] for row in self.rows]
        ids = torch.full((len(prompts), reading.tokens), -1, dtype=torch.int32)
        total = torch.full((len(prompts), reading.tokens), float("nan"), dtype=torch.float64)
        uniform = self._uniform()
        open_ = torch.ones(len(prompts), dtype=torch.bool)
        for number in range(reading.tokens):
            found = self._next(prompts, ids[:, :number].clamp(min=0))
            logits = found["answers.distribution"].double()
            chosen = choose(logits, reading.temperature, uniform[:, number])
            ids[:, number] = torch.where(open_, chosen, -1)
            total[:, number] = torch.where(open_, found["answers.logsumexp"], float("nan"))
            open_ &= ~torch.isin(chosen, torch.tensor(ends, dtype=torch.long))
            if not open_.any():
                break
        return {"ids": ids, "logsumexp": total}

    def _uniform(self) -> torch.Tensor:
        """Return the random numbers of each stimulus, (row, token)."""
        plan, tokens = self.asked.plan, self.asked.reading.tokens
        seeds = Seeds(plan.loaded.spec.seed, "generation")
        ids = [plan.sets[self.asked.name].table.ids[row] for row in self.rows]
        return torch.from_numpy(np.stack([seeds.generator(id_).random(tokens) for id_ in ids]))

    def _next(self, prompts: Sequence[Sequence[int]], written: torch.Tensor) -> Found:
        """Run what has not run yet, and return the logits behind it."""
        plan = self.asked.plan
        # Keys and values of a model elsewhere would be activations on the wire.
        kept = plan.loaded.spec.run.optimise and not plan.remote
        kept &= all(c.site not in ("attn_scores", "attn_pattern") for c in self.changes)
        if kept and written.shape[1]:
            return self._run_last(written)
        texts = [[*text, *more] for text, more in zip(prompts, written.tolist(), strict=True)]
        inputs = pad(texts, pad_id=0)
        lengths = torch.tensor([len(text) for text in prompts])
        edits = [
            edit
            for change in self.changes
            for edit in self._edits(change, lengths, written.shape[1])
        ]
        last = lengths + written.shape[1] - 1
        prefix: Prefix | None = {"keep": True} if kept else None
        found = self._forward(Inputs(inputs, self._steps(edits, last), prefix))
        if kept:
            self._keep(found, inputs["attention_mask"])
        return found

    def _run_last(self, written: torch.Tensor) -> Found:
        """Run the last token of each row behind what is kept."""
        number = written.shape[1] - 1
        edits = [
            (change, {**edit, "index": torch.zeros(len(self.rows), 1, dtype=torch.long)})
            for change in self.changes
            if change.during != "prompt"
            for edit in [self._generated(change, number)]
        ]
        position = self.seen.sum(1, keepdim=True)
        inputs = {
            "input_ids": written[:, -1:].long(),
            "attention_mask": torch.cat([self.seen, torch.ones(len(self.rows), 1).long()], 1),
            "position_ids": position,
        }
        prefix: Prefix = {"past": self.past, "keep": True}
        last = torch.zeros(len(self.rows), dtype=torch.long)
        found = self._forward(Inputs(inputs, self._steps(edits, last), prefix))
        layers = range(self.asked.plan.model.shape.layers)
        self.past = [(found[f"past.keys.{n}"], found[f"past.values.{n}"]) for n in layers]
        self.seen = inputs["attention_mask"]
        return found

    def _forward(self, inputs: Inputs) -> Found:
        return self.passes.put_through(inputs)

    def _keep(self, found: Found, mask: torch.Tensor) -> None:
        """Keep keys and values with the padding moved before them, so that distances are right."""
        length = mask.shape[1]
        shift = (torch.arange(length) - (length - mask.sum(1, keepdim=True))).clamp(min=0)
        self.past = []
        for layer in range(self.asked.plan.model.shape.layers):
            pair = (found[f"past.keys.{layer}"], found[f"past.values.{layer}"])
            where = shift.to(pair[0].device)[:, None, :, None]
            keys, values = (t.gather(2, where.expand(-1, t.shape[1], -1, t.shape[3])) for t in pair)
            self.past.append((keys, values))
        self.seen = mask.flip(1)

    def _edits(
        self, change: Change, lengths: torch.Tensor, written: int
    ) -> list[tuple[Change, Edit]]:
        """Return what a change does to whole texts, so many tokens of which were written."""
        edits = []
        if change.during != "generation":
            edit = self.asked.values.of(change, self.asked.name, self.rows)
            if edit["index"] is None:
                at = torch.arange(int(lengths.max())).expand(len(lengths), -1)
                value = edit["value"]
                if value.ndim > 1 and value.shape[-2] > 1:
                    edit["value"] = value[..., : at.shape[1], :]
                edit["index"] = torch.where(at < lengths[:, None], at, -1)
            edits.append((change, edit))
        if change.during != "prompt" and written:
            edit = self._generated(change, None)
            value = edit["value"]
            if value.ndim > 1 and value.shape[-2] > 1:
                edit["value"] = value[..., :written, :]
            edit["index"] = lengths[:, None] + torch.arange(written)
            edits.append((change, edit))
        return edits

    def _generated(self, change: Change, number: int | None) -> Edit:
        """Return what a change does to generated tokens, to one of them where it is numbered."""
        tokens = self.asked.reading.tokens
        edit = self.asked.values.of_generated(change, self.asked.name, self.rows, tokens)
        value = edit["value"]
        if number is not None and value.ndim > 1 and value.shape[-2] > 1:
            edit["value"] = value[..., number : number + 1, :]
        return edit

    def _steps(self, edits: Sequence[tuple[Change, Edit]], last: torch.Tensor) -> list[Step]:
        """Return the steps of a pass: what is changed, and the logits behind the last token."""
        model, rows = self.asked.plan.model, torch.arange(len(self.rows))
        answers: Step = {
            "do": "answers",
            "key": "answers",
            "place": place(model, "logits", 0),
            "rows": rows,
            "positions": last,
            "first": rows,
            "reads": ("distribution",),
            "text": None,
            "clean": None,
            "columns": None,
            "tokens": None,
        }
        writes = any(change.site == "logits" for change, _ in edits)
        reads = [answers] if writes else list(narrow_step(model, answers))
        return in_order([*write_steps(model, edits), *reads])


def choose(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """Return the next token of each row, from logits (row, token) and random numbers (row,).

    The most probable one at temperature 0; otherwise the first at which the cumulated probability
    softmax(logits / temperature) exceeds the row's number.
    """
    if not temperature:
        return logits.argmax(1)
    cumulated = (logits / temperature).softmax(1).cumsum(1)
    reached = (cumulated > (uniform[:, None] * cumulated[:, -1:])).int()
    return reached.argmax(1)
