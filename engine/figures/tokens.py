"""Tokens: lines of text coloured by value, and attention from token to token."""

from __future__ import annotations

import numpy as np
import xarray as xr

from patchclamp.engine.figures.curves import capital
from patchclamp.engine.figures.facts import facts, label, scale_of, squeezed
from patchclamp.engine.figures.sketch import Axis, Matrix, Panel, Scale, Sketch, Strip
from patchclamp.engine.figures.variables import PANELS, each, names_along, shown

LINES = 20
"""Lines of tokens in a figure."""

VALUES = ("token_value", "feature_activation", "logprob")
"""Variables over (stimulus, position) whose tokens are shown, coloured by them."""


def token_strips(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return texts with each token on the colour of its value.

    A variable of `VALUES` over (stimulus, position), or (feature, rank, position) for the texts
    that excite a feature most, with the coordinate `token_text` over the same dims. Stimuli come in
    the order they are stored, at most 20; padding is left out.
    """
    name = next((name for name in VALUES if name in data), None)
    texts = data.coords.get("token_text")
    if name is None or texts is None or "position" not in texts.dims:
        return ()
    values = data[name]
    scale = scale_of(values.to_numpy(), label(values), unit=str(values.attrs.get("units")))
    lines = next((dim for dim in ("stimulus", "rank") if dim in values.dims), None)
    if lines is None or not set(texts.dims) <= set(values.dims):
        return ()
    panels = []
    for title, one in each(values, (lines, "position")):
        here = dict(each(texts.broadcast_like(values), (lines, "position")))[title]
        panels.append(Panel(title or name.replace("_", " "), (_strip(one, here, scale),)))
    count = min(values.sizes[lines], LINES)
    sentence = f"{capital(str(values.attrs.get('long_name', name)))}, token by token: {count} of "
    sentence += f"{values.sizes[lines]} texts. Grey tokens have no value."
    return (Sketch(f"token_strips-{name}", "Tokens by value", sentence, tuple(panels[:PANELS]),
                   facts(data, name)),)  # fmt: skip


def _strip(values: xr.DataArray, texts: xr.DataArray, scale: Scale) -> Strip:
    """Return the lines of a panel."""
    names = [str(label) for label in values[values.dims[0]].to_numpy()[:LINES]]
    tokens, numbers = [], []
    for line, row in zip(texts.to_numpy()[:LINES], values.to_numpy()[:LINES], strict=True):
        there = np.array([bool(str(token)) for token in line])  # padding has no text
        tokens.append(tuple(shown(str(token)) for token in line[there]))
        numbers.append(row[there].astype(np.float64))
    return Strip(tuple(names), tuple(tokens), tuple(numbers), scale)


def attention_maps(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return attention from query to key, a panel for each head or layer that was kept.

    `pattern`, mean over stimuli or of one, over (query, key) and at most two small dims. Keys that
    a query cannot see are gaps. All panels share their colours, from 0 to 1.
    """
    if "pattern" not in data or not {"query", "key"} <= set(data["pattern"].dims):
        return ()
    values = squeezed(data["pattern"], keep=("query", "key"))
    others = [str(dim) for dim in values.dims if dim not in ("query", "key")]
    if len(others) > 1:
        values = values.stack(place=others)
        names = [_place(others, label) for label in values["place"].to_numpy()]
        values = values.drop_vars(["place", *others]).assign_coords(place=names)
    scale = Scale(0.0, 1.0, "attention")
    panels = []
    for title, one in each(values, ("query", "key")):
        matrix = one.to_numpy().astype(np.float64).copy()
        matrix[np.triu(np.ones(matrix.shape, dtype=bool), 1)] = np.nan
        shown_ = Matrix(matrix, names_along(one, "query"), names_along(one, "key"), scale)
        panels.append(Panel(title.removeprefix("place "), (shown_,), Axis("key"), Axis("query")))
    sentence = f"{capital(str(values.attrs.get('long_name', 'attention')))}: each row is where one "
    sentence += "token looks, and sums to 1."
    shown_panels = tuple(panels[:PANELS])
    if len(panels) > PANELS:
        sentence += f" The first {PANELS} of {len(panels)}."
    return (Sketch("attention_maps", "Attention", sentence, shown_panels, facts(data, "pattern")),)


def _place(dims: list[str], labels: tuple[object, ...]) -> str:
    letters = {"layer": "L", "head": "H", "kv_head": "K"}
    return "".join(
        f"{letters.get(d, d + ' ')}{label}" for d, label in zip(dims, labels, strict=True)
    )


def token_grid(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return the most probable token by layer and position, coloured by its probability.

    `top_token` and `top_probability` over (layer, position) of one stimulus or the first.
    """
    if "top_token" not in data or "top_probability" not in data:
        return ()
    data = data.isel({d: 0 for d in ("stimulus", "rank") if d in data["top_token"].dims})
    dims = ("layer", "position")
    probability, token = squeezed(data["top_probability"], dims), squeezed(data["top_token"], dims)
    if set(probability.dims) != set(dims):
        return ()
    probability, token = (
        one.transpose(*dims).sortby("layer", ascending=False) for one in (probability, token)
    )
    text = tuple(tuple(shown(str(t))[:9] for t in row) for row in token.to_numpy())
    matrix = Matrix(
        probability.to_numpy().astype(np.float64), names_along(probability, "layer"),
        names_along(probability, "position"), Scale(0.0, 1.0, "probability"), text=text,
    )  # fmt: skip
    panel = Panel("most probable token", (matrix,), Axis("position"), Axis("layer"))
    sentence = "The token that each layer would say next, at each position, and how sure it is."
    facts_ = facts(data, "top_probability")
    return (Sketch("token_grid", "What each layer would say", sentence, (panel,), facts_),)
