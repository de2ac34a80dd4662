"""Kills at random moments: what a killed run loses, pass by pass. Tried by `survive.py kill`.

Every pass whose result is kept is noted when it begins, by what goes through the model in it. From
the notes of a run that was killed, and of those that went on from there, two things are seen:

1. Together they made the passes of a run that was never killed, these and no other.
2. Of the passes that a killed run had begun, one at the most was made again: the one in flight. A
   pass under conditions may begin with what a clean pass of the same batch left in memory; this
   clean pass is then made again with it.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchclamp.engine import generating
from patchclamp.engine.passes import Inputs, Passes, Relay
from patchclamp.engine.savings import Pack

CLEAN, BEGUN, CHANGED, SCORED, WRITTEN = "clean", "begun with", "changed", "scored", "written"
"""Sorts of passes: of captures and clean answers; what others begin with; under conditions; of
attributions; and the passes, one for each token, that continue texts."""

SPEC = """\
patchclamp: 1
name: survive
model: {id: PLACE/llama}
stimuli:
  words:
    kind: csv
    path: slots.csv
    text: "{a} w1 {b} {text}"
    slots: [a, b]
    labels: [sort]
    groups: none
    answer: {correct: " w40", foil: " w41"}
    keep_if: p > p_foil
  others: {kind: corrupt, of: words, slots: shuffle}
captures:
  whole: {of: words, site: resid_post, positions: all}
  heads: {of: words, site: z, positions: last}
  mean: {of: words, site: mlp_out, positions: all, reduce: {kind: mean, over: stimulus}}
  slope: {of: words, site: resid_pre, positions: last, gradient: {of: logit_diff}}
interventions:
  mean: {kind: ablate, value: {mean_over: others, per: position}, allow_no_effect: true}
  cut: {kind: ablate, value: zero, site: z, heads: [L1H0, L2H3]}
  zero: {kind: ablate, value: zero, allow_no_effect: true}
analyses:
  decode: {kind: probe, of: heads, target: sort, controls: [random_twin], cv: {folds: 2}}
  heads: {kind: ablation, stimuli: words, with: mean, units: {site: z}, metric: {kind: logit_diff}}
  spread: {kind: ablation, stimuli: words, with: zero, units: {site: mlp_out}, metric: kl}
  places:
    kind: patching
    clean: words
    corrupt: others
    direction: noising
    units: {site: resid_pre, positions: {align: left, size: 4, short: drop}}
    metric: logit_diff
    normalise: false
  slopes:
    kind: attribution
    clean: words
    corrupt: others
    metric: logit_diff
    direction: noising
    gradient_at: clean
  found:
    kind: circuit
    stimuli: words
    with: mean
    units: {site: z, layers: 1}
    metric: logit_diff
    circuits: {pruned: {kind: prune, keep_above: 0.8}}
    random: 3
  texts: {kind: steering, stimuli: words, with: [cut], generate: {max_new_tokens: 3}, controls: []}
matrix: {grid: {model.id: [PLACE/llama, PLACE/gpt2]}}
run: {device: cpu, threads: 1, batch: {tokens: 192}}
"""
"""Every sort of pass, screening, and an analysis that asks for more by what it finds, twice."""


def write(folder: Path, *, stimuli: int = 60) -> None:
    """Write the spec and its stimuli, of 6 to 17 tokens; the models are in the folder."""
    rng = np.random.default_rng(0)
    lines = ["id,text,a,b,sort"]
    for number in range(stimuli):
        words = " ".join(f"w{i}" for i in rng.integers(0, 60, size=rng.integers(3, 15)))
        a, b = rng.choice(60, size=2, replace=False)
        lines.append(f"s{number},{words},w{a},w{b},{'xy'[number % 2]}")
    (folder / "slots.csv").write_text("\n".join(lines) + "\n")
    (folder / "t.yaml").write_text(SPEC.replace("PLACE", str(folder)))


def note(file: Path) -> None:
    """From here on, note every pass of this process whose result is kept, when it begins."""
    log = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def noted(sort: str, *what: Any) -> None:
        digest = hashlib.sha256(repr([_plain(one) for one in what]).encode()).hexdigest()
        os.write(log, f"{sort} {digest[:16]}\n".encode())

    once, in_parts = Passes._run, generating._in_parts

    def run(passes: Passes, name: str, one: Any, prepare: Any, *given: Any) -> Iterator[Any]:
        asks = prepare.__qualname__.partition(".")[0]
        if isinstance(one, Pack):
            sort = CHANGED
        else:
            sort = {"_here": BEGUN, "attribute_all": SCORED}.get(asks, CLEAN)

        def prepared(one: Any) -> Inputs | Relay:
            inputs = prepare(one)
            # What is captured is not told: some of it may be there already.
            told = [step for step in inputs.steps if sort == CHANGED or step["do"] == "objective"]
            noted(sort, passes.plan.weights, name, inputs.tensors, inputs.begins, told)
            return inputs

        yield from once(passes, name, one, prepared, *given)

    def write_some(passes: Passes, asked: Any, changes: Any, rows: Sequence[int]) -> Any:
        noted(WRITTEN, passes.plan.weights, asked.name, changes, tuple(rows))
        return in_parts(passes, asked, changes, rows)

    Passes._run = run
    generating._in_parts = write_some


def _plain(value: Any) -> Any:
    """Return a value with its tensors as digests, of which equal ones are written alike."""
    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), hashlib.sha256(value.float().numpy().tobytes()).hexdigest())
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def notes(file: Path) -> list[str]:
    """Return the passes that a process has noted, in order."""
    return file.read_text().splitlines() if file.exists() else []


UNKNOWN = "of an unknown batch"
"""What is added to a clean pass after which a run was killed before it put what follows through."""


def told_apart(notes: Sequence[str], due: Sequence[str]) -> list[str]:
    """Return notes with clean passes that others begin with named by their batch, as all that is
    asked of a batch begins with the same one; `due` are the notes of a whole run."""
    last, batch = 0, {}
    for number, one in enumerate(due):
        last = number if one.startswith(BEGUN) else last
        batch[one] = last
    return [
        f"{one} {batch.get(after, UNKNOWN)}" if one.startswith(BEGUN) else one
        for one, after in zip(notes, [*notes[1:], ""], strict=False)
    ]


def lost(killed: Sequence[str], later: Sequence[str]) -> Counter[str]:
    """Return how many passes of each sort a killed run had begun and later ones made again."""
    again = {*killed} & {*later} | {one for one in killed if one.endswith(UNKNOWN)}
    sorts = (CLEAN, BEGUN, CHANGED, SCORED, WRITTEN)
    return Counter(next(sort for sort in sorts if one.startswith(sort)) for one in again)


def in_flight(again: Counter[str]) -> bool:
    """Return whether no more was lost than what can have been in flight at one moment."""
    begun, changed = again[BEGUN], again[CHANGED]
    others = again.total() - begun - changed
    return others + max(begun, changed) <= 1


def kill(
    start: Callable[[str, Path], int],
    folder: Path,
    *,
    times: int,
    seed: int,
) -> tuple[list[str], list[Counter[str]], int]:
    """Kill runs at random moments and run again, until one is through.

    `start` begins a run with the cache and results of a name, noting its passes in a file, and
    returns the process. Returns the names of the runs that came through in the end, what each kill
    has lost, and how many passes a run has. Raises `AssertionError` where it is more than may be.
    """
    begun = time.monotonic()
    assert _finished(start("never", folder / "never.0")), "a run failed"
    seconds, due = time.monotonic() - begun, notes(folder / "never.0")
    whole = told_apart(due, due)
    assert len(set(whole)) == len(due), "passes that cannot be told apart"
    rng, names, found = random.Random(seed), [], []
    while len(found) < times:
        name, tries = f"killed{len(names)}", 0
        files: list[Path] = []
        while True:
            files.append(folder / f"{name}.{tries}")
            child = start(name, files[-1])
            if len(found) + tries < times:
                time.sleep(rng.uniform(0.05, 1) * seconds)
                os.kill(child, signal.SIGKILL)
            if _finished(child):
                break
            tries += 1
        parts = [told_apart(notes(file), due) for file in files]
        made = {one for part in parts for one in part}
        odd = {one for one in made ^ set(whole) if not one.endswith(UNKNOWN)}
        assert not odd, f"these are not the passes of a whole run: {sorted(odd)}"
        for number, killed in enumerate(parts[:-1]):
            found.append(lost(killed, [one for part in parts[number + 1 :] for one in part]))
            assert in_flight(found[-1]), f"lost by one kill: {dict(found[-1])}"
        names.append(name)
    return names, found, len(due)


def _finished(child: int) -> bool:
    """Return whether a process came to its end; it was killed else."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), f"a run ended with {code}"
    return code == 0
