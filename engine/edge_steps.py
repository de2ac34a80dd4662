"""The steps of changes: written where they are made, or seen by some receivers only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from patchclamp.analyses.readings import Change
from patchclamp.engine.backend import Step
from patchclamp.engine.cuts import union
from patchclamp.engine.model import ModelSource
from patchclamp.engine.steps import place, write_steps

Place = tuple[str, int]
Rows = tuple[int, int]

HEADS = ("q", "k", "v")
"""Receivers that are heads' own."""


def change_steps(model: ModelSource, edits: Iterable[tuple[Change, Step]]) -> list[Step]:
    """Return the steps of changes, with what is done to each; see `engine.body.write`."""
    whole = [(change, edit) for change, edit in edits if not change.into]
    cut = [(change, edit) for change, edit in edits if change.into]
    return [*write_steps(model, whole), *(cut_steps(model, cut) if cut else ())]


def cut_steps(model: ModelSource, edits: Sequence[tuple[Change, Step]]) -> list[Step]:
    """Return the steps that keep what senders would give, and let it into receivers."""
    withheld = write_steps(model, edits)
    steps: list[Step] = []
    for step in withheld:
        where = step["place"]["site"], step["place"]["layer"]
        steps.append({**step, "do": "withhold", "key": key_of(where)})
    cuts: dict[Place, dict[Rows, dict[int, list[tuple[str, int]]]]] = {}
    for change, edit in edits:
        sender = key_of((change.site, change.layer)), -1 if change.head is None else change.head
        for site, layer, head in change.into:
            by_rows = cuts.setdefault((site, layer), {}).setdefault(edit["rows"], {})
            by_rows.setdefault(head or 0, []).append(sender)
    outs = {
        key_of((change.site, change.layer)): _path(model, change.site, change.layer)
        for change, _ in edits
        if change.site == "z"
    }
    return [*steps, *(_receive_step(model, where, of, outs) for where, of in cuts.items())]


def key_of(where: Place) -> str:
    """Return what is kept of a sender is called."""
    return f"{where[0]}.{where[1]}"


def stream_of(model: ModelSource, site: str, layer: int) -> Place | None:
    """Return the stream that a receiver reads through a norm; None for the last, read as it is."""
    if site == "resid_post":
        return None
    between = site == "mlp_in" and not model.architecture.parallel
    return "resid_mid" if between else "resid_pre", layer


def norm_of(model: ModelSource, site: str, layer: int) -> str | None:
    """Return the path of the norm through which a receiver reads the stream, if there is one."""
    path = model.architecture.reads.get("attn_in" if site in HEADS else site)
    return None if path is None else path.format(layer=layer)


def _path(model: ModelSource, site: str, layer: int) -> str:
    path: str = place(model, site, layer)["parts"][-1]["path"]
    return path


def _receive_step(
    model: ModelSource, where: Place, cuts: dict[Rows, dict[int, Any]], outs: dict[str, str]
) -> Step:
    site, layer = where
    stream, norm = stream_of(model, site, layer), norm_of(model, site, layer)
    own = place(model, site, layer, write=True)
    into = _path(model, site, layer) if site in HEADS else None
    read = None if stream is None else place(model, *stream)
    parts = [*(read["parts"] if read is not None else ()), *own["parts"]]
    return {
        "do": "receive",
        "place": {**own, "parts": parts},
        "stream": read,
        "norm": norm,
        "into": into,
        "outs": outs,
        "units": model.shape.units,
        "cuts": [{"rows": rows, **union(of)} for rows, of in cuts.items()],
        "modules": [path for path in (norm, into, *outs.values()) if path],
    }
