"""Written: the texts that a model wrote, put together, checked, and as a labelled dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from patchclamp.analyses.readings import CLEAN, GenerationReading
from patchclamp.engine.datasets import stimulus_coords
from patchclamp.engine.generating import Changes, Continuing, Writing, ends_of
from patchclamp.engine.guards import deviation, judge_alone, most_padded
from patchclamp.engine.metric_datasets import condition_coords
from patchclamp.engine.passes import Passes
from patchclamp.engine.plan import Plan
from patchclamp.engine.records import Cache
from patchclamp.engine.sources import entry_of
from patchclamp.engine.tokens import TokenTable
from patchclamp.engine.verdicts import Verdict
from patchclamp.engine.whole import write_whole
from patchclamp.registry.errors import GuardError

Written = dict[str, NDArray[Any]]
"""What was written, (stimulus, token): `ids`, -1 behind the last one, and the `logsumexp` of the
logits that each was taken from."""


def collect_written(asked: Writing, cache: Cache) -> dict[Changes, Written]:
    """Put the shards of what was written together, by condition."""
    count = len(asked.plan.sets[asked.name].table)
    shape = (count * len(asked.conditions), asked.reading.tokens)
    whole: Written = {"ids": np.full(shape, -1, np.int32), "logsumexp": np.full(shape, np.nan)}
    for units, tensors in cache.open_shards(asked.record).tensors():
        for name, value in tensors.items():
            whole[name][units] = value.numpy()
    return {
        changes: {name: values[i * count : (i + 1) * count] for name, values in whole.items()}
        for i, changes in enumerate(asked.conditions)
    }


def check_written(asked: Writing, found: Mapping[Changes, Written]) -> list[Verdict]:
    """Every condition moved a logit, as far as its texts are those of the clean run.

    A batch runs alike under every condition, so that one that changes nothing gives the same bits.
    """
    clean, moved = found[CLEAN.changes], {}
    for changes, texts in found.items():
        bad = ~np.isfinite(texts["logsumexp"]) & (texts["ids"] >= 0)
        if bad.any():
            row = int(np.flatnonzero(bad.any(axis=1))[0])
            id_ = asked.plan.sets[asked.name].table.ids[row]
            raise GuardError(
                f"guard 'finite' failed on what is written after {asked.name!r}: stimulus {id_!r} "
                "gives NaN or infinity"
            )
        if not changes or all(entry_of(asked.plan.loaded, c).allow_no_effect for c in changes):
            continue
        if (texts["ids"] != clean["ids"]).any():
            moved[changes] = np.inf
        else:
            moved[changes] = np.nanmax(np.abs(texts["logsumexp"] - clean["logsumexp"]))
        if moved[changes] == 0:
            raise GuardError(
                f"guard 'intervention had effect' failed on what is written after {asked.name!r}: "
                f"{changes[0].intervention!r} changes no logit at all; where that is right, say "
                "'allow_no_effect: true' in the intervention"
            )
    least = float(min(moved.values(), default=np.inf))
    return [Verdict("intervention had effect", f"texts after {asked.name}", least, np.inf)]


_FEW = 8
"""Tokens that are written once more to compare them, at most."""


def check_alone(passes: Passes, asked: Writing, found: Mapping[Changes, Written]) -> Verdict:
    """Hold what was written, clean and under the first condition, against a stimulus alone.

    Compared are the logits' logsumexp, up to and with the first token that is another one: as far
    as that, both followed the same text. Near ties may be broken by rounding.
    """
    plan, name = asked.plan, asked.name
    row, _, padding = most_padded(plan, name)
    few = replace(asked, reading=replace(asked.reading, tokens=min(_FEW, asked.reading.tokens)))
    worst = 0.0
    for changes in asked.conditions[:2]:
        with torch.no_grad():
            alone = Continuing(passes, few, changes, (row,)).whole()
        count = few.reading.tokens
        other = found[changes]["ids"][row, :count] != alone["ids"][0].numpy()
        same = int(other.argmax()) + 1 if other.any() else count
        ours, theirs = alone["logsumexp"][0, :same].numpy(), found[changes]["logsumexp"][row, :same]
        worst = max(worst, deviation(ours, theirs))
    return judge_alone(plan, name, (row, padding), worst)


def finish_written(asked: Writing, cache: Cache, found: Mapping[Changes, Written]) -> Any:
    """Write what was written as one file, and return its path."""
    flat = {
        f"{number}/{name}": array
        for number, changes in enumerate(asked.conditions)
        for name, array in found[changes].items()
    }
    path = cache.folder(asked.record) / "data.safetensors"
    write_whole(path, save(flat))
    return path


def read_written(asked: Writing, file: Any) -> dict[Changes, Written]:
    """Return what was written, from its file."""
    arrays = load_file(file)
    return {
        changes: {name: arrays[f"{number}/{name}"] for name in ("ids", "logsumexp")}
        for number, changes in enumerate(asked.conditions)
    }


def written_dataset(
    plan: Plan, reading: GenerationReading, written: Mapping[Changes, Written]
) -> xr.Dataset:
    """Label what was written, clean (stimulus) and under each condition (condition, stimulus)."""
    of_set = plan.sets[reading.stimuli]
    clean = written[CLEAN.changes]["ids"]
    changed = [written[c.changes]["ids"] for c in reading.conditions]
    dims = ("condition", "stimulus")
    shape = (len(changed), len(clean))
    data = xr.Dataset(
        {
            "prompt": ("stimulus", np.asarray(of_set.table.texts)),
            "clean": ("stimulus", _texts(plan, reading.stimuli, clean)),
            "clean_length": ("stimulus", (clean >= 0).sum(axis=1)),
            "value": (dims, np.stack([_texts(plan, reading.stimuli, ids) for ids in changed])),
            "value_length": (dims, np.stack([(ids >= 0).sum(axis=1) for ids in changed])),
            "applied": (dims, np.ones(shape, dtype=bool)),
        },
        coords={**stimulus_coords(of_set), **condition_coords(reading.conditions)},
    )
    answers = _answers(of_set.tokens)
    if answers:
        data["answer"] = (("stimulus", "variant"), np.asarray(answers).T)
    return data


def _answers(tokens: TokenTable) -> list[Sequence[str]]:
    """Return every spelling of the right answer of each stimulus, none without answers."""
    if not tokens.are_options:
        return [spelled.texts for spelled in tokens.spellings if spelled.part == "correct"]
    right = [tokens.parts[number] for number in tokens.key]
    spelled = {
        part: [one.texts for one in tokens.spellings if one.part == part] for part in tokens.parts
    }
    return [
        tuple(spelled[part][variant][row] for row, part in enumerate(right))
        for variant in range(len(tokens.variants))
    ]


def _texts(plan: Plan, name: str, ids: NDArray[np.int32]) -> NDArray[np.str_]:
    """Return token ids (stimulus, token) as texts that netCDF can hold, which NUL is not.

    They are decoded behind the prompt: some tokenizers drop the space that a text begins with.
    """
    tokenizer, ends = plan.model.tokenizer, ends_of(plan)
    found = []
    for prompt, row in zip(plan.sets[name].tokens.ids, ids, strict=True):
        kept = [int(token) for token in row if token >= 0 and token not in ends]
        before, whole = tokenizer.decode(list(prompt)), tokenizer.decode([*prompt, *kept])
        said = whole[len(before) :] if whole.startswith(before) else tokenizer.decode(kept)
        found.append(said.replace("\0", "\\0"))
    return np.asarray(found)
