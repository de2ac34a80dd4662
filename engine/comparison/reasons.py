"""Why two results may differ: only what differs of their specs and provenance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patchclamp.engine.results import StoredResult

SPEC = "resolved"
"""Where provenance keeps the spec with every default spelled out."""

IGNORED = frozenset(
    {"spec", "digest", "resolved.name", "resolved.description", "guards"}
    | {
        "seed",
        "backend",
        "batch_tokens",
        "threads",
        "overrides",
        "at",
        "records",
        "forward_passes",
        "seconds",
        "wire",
        "cells",
        "merged",
    }
)
"""What differs without being a reason of its own: what `resolved` says too, when and in how many
passes things were measured, and the values of guards, unless their verdicts differ."""

HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
"""A commit or a sha256, of which the beginning is enough for people."""

ENTRY = re.compile(rf"{SPEC}\.(stimuli|captures|interventions|analyses)\.[^.]+")
"""A named entry of a spec, which a result has or lacks as a whole."""

LABELLING = (f"{SPEC}.", "model.")
"""What the keys begin with that may name a run among others."""

ABSENT = "—"
"""Stands for a key that one side lacks."""


@dataclass(frozen=True)
class Reason:
    """A key of the provenance or the spec that differs."""

    key: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.key}: {self.a} → {self.b}"


def reasons(a: StoredResult, b: StoredResult) -> tuple[Reason, ...]:
    """Return what differs of the specs, as `spec.…`, and of how the results were made."""
    left, right = _whole_entries([dict(_flat(_known(side), ())) for side in (a, b)])
    found = []
    for key in dict.fromkeys((*left, *right)):
        one, other = left.get(key, ABSENT), right.get(key, ABSENT)
        if one != other:
            found.append(Reason(_named(key), one, other))
    return tuple(sorted(found, key=lambda reason: not reason.key.startswith("spec.")))


def _whole_entries(sides: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the leaves of several sides, with one leaf for each entry that some side lacks."""
    entries = [{m.group(): one.get(f"{m.group()}.kind", "defined") for key in one
                if (m := ENTRY.match(key))} for one in sides]  # fmt: skip
    lacking = {name for one in entries for name in one if any(name not in e for e in entries)}
    found = []
    for one, own in zip(sides, entries, strict=True):
        parts = {key: ENTRY.match(key) for key in one}
        kept = {k: one[k] for k, m in parts.items() if m is None or m.group() not in lacking}
        found.append({**kept, **{name: kind for name, kind in own.items() if name in lacking}})
    return found


def differing(results: Sequence[StoredResult]) -> list[dict[str, str]]:
    """Return, for each of several results, the keys of specs and models that differ among them.

    Entries that a result lacks altogether name none of the others, nor do expectations.
    """
    flat = _whole_entries([dict(_flat(_known(side), ())) for side in results])
    keys = [
        key
        for key in dict.fromkeys(key for one in flat for key in one)
        if key.startswith(LABELLING) and key != f"{SPEC}.expect" and not ENTRY.fullmatch(key)
        and len({one.get(key, ABSENT) for one in flat}) > 1
    ]  # fmt: skip
    # What the spec says names a run better than the hashes that follow from it.
    spec = [key for key in keys if key.startswith(f"{SPEC}.")]
    return [
        {_named(key).removeprefix("spec."): one.get(key, ABSENT) for key in spec or keys}
        for one in flat
    ]


def _known(side: StoredResult) -> dict[str, Any]:
    provenance = dict(side.made)
    failed = [
        f"{guard.get('guard')} on {guard.get('on')}"
        for guard in provenance.get("guards", ())
        if guard.get("verdict", "ok") not in ("ok", "not checked")
    ]
    return {**provenance, **({"failed_guards": failed} if failed else {})}


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested mappings as text, each under its dotted path; None is none."""
    key = ".".join(path)
    if key in IGNORED or value is None:
        return
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, (*path, str(name)))
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    text = str(value).removeprefix("random:")  # which weights are is said beside their hash
    if HASH.fullmatch(text):
        return text[:8]
    return text if len(text) <= 60 else text[:57] + "…"


def _named(key: str) -> str:
    return key.replace(f"{SPEC}.", "spec.", 1) if key.startswith(f"{SPEC}.") else key
