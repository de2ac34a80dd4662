"""Tokens: lines of text coloured by value, and attention from token to token."""

from __future__ import annotations

import numpy as np
import xarray as xr

from patchclamp.engine.figures.curves import capital
from patchclamp.engine.figures.facts import facts, label, scale_of, squeezed
from patchclamp.engine.figures.sketch import Axis, Matrix, Panel, Scale, Sketch, Strip
from patchclamp.engine.figures.variables import are_alike, each, names_along, shown, spread

LINES = 20
"""Texts in a figure."""

LETTERS = 84
"""Letters of a line of tokens; a longer text goes on in the next."""

MAPS = 12
"""Most attention maps of a figure."""

_MISSING = 0.01
"""Attention that a row may lack where it is said to sum to 1: what rounding takes."""

PLACES = ("layer", "head", "kv_head", "feature", "class")
"""Dims each label of which has a panel."""


MEANING = {"activation": "Attention", "mean_over_stimulus": "Attention, mean over stimuli"}
"""Variable of a capture of attention patterns -> what it is; an analysis says so itself."""


def token_strips(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return texts with each token on the colour of its value, a figure for each variable.

    Variables over (stimulus, position), or (feature, rank, position) for the texts that excite a
    feature most, with a panel for each layer or head; the coordinate `token_text` has the same
    tokens. Stimuli come in the order they are stored, at most 20; padding is left out.
    """
    texts = data.coords.get("token_text")
    if texts is None:
        return ()
    if "query" in texts.dims:
        data = data.rename(query="position")
        texts = data.coords["token_text"]
    lines = next((dim for dim in ("stimulus", "rank") if dim in texts.dims), None)
    if lines is None or "position" not in texts.dims:
        return ()
    return tuple(
        _strips(data, str(name), lines)
        for name, values in data.data_vars.items()
        if {lines, "position"} <= set(values.dims) <= {lines, "position", *PLACES}
        and values.dtype.kind == "f"
    )


def _strips(data: xr.Dataset, name: str, lines: str) -> Sketch:
    """Return the strips of one variable, of which no more is read than is drawn."""
    count = min(data.sizes[lines], LINES)
    values = data[name].isel({lines: slice(count)}).load()
    texts = values.coords["token_text"]
    scale = scale_of(values.to_numpy(), label(values), unit=str(values.attrs.get("units")))
    panels = spread(list(each(values, (lines, "position"))))
    there = dict(each(texts.broadcast_like(values), (lines, "position")))
    drawn = tuple(
        Panel(title or name.replace("_", " "), (_strip(one, there[title], scale),))
        for title, one in panels
    )
    sentence = f"{capital(str(values.attrs.get('long_name', name)))}, token by token: {count} of "
    sentence += f"{data.sizes[lines]} texts. Grey tokens have no value."
    return Sketch(f"token_strips-{name}", "Tokens by value", sentence, drawn, facts(data, name))


def _strip(values: xr.DataArray, texts: xr.DataArray, scale: Scale) -> Strip:
    """Return the lines of a panel; a text that is too long for one goes on in a line without name.

    Padding has no text.
    """
    names, tokens, numbers = [], [], []
    for label_, line, row in zip(
        values[values.dims[0]].to_numpy(), texts.to_numpy(), values.to_numpy(), strict=True
    ):
        there = np.flatnonzero(np.array([bool(str(token)) for token in line]))
        words = [shown(str(token)) for token in line[there]]
        ends = np.cumsum([len(word) + 1 for word in words])
        for number in range(int(ends[-1] // LETTERS) + 1 if len(ends) else 0):
            here = np.flatnonzero((ends - 1) // LETTERS == number)
            if here.size:
                names.append("" if number else str(label_))
                tokens.append(tuple(words[i] for i in here))
                numbers.append(row[there[here]].astype(np.float64))
    return Strip(tuple(names), tuple(tokens), tuple(numbers), scale)


def attention_maps(data: xr.Dataset) -> tuple[Sketch, ...]:
    """Return attention from query to key, a panel for each head or layer that was kept.

    `pattern`, or what a capture of attention patterns holds, over (query, key) and small dims; of
    several stimuli the first. Where no query looks ahead, later keys are gaps. All panels share
    their colours, from 0 to 1.
    """
    found = _patterns(data)
    if found is None:
        return ()
    name, values, of = found
    panels = []
    ahead = values["key"] > values["query"]
    if are_alike(values) and not bool((values.where(ahead, 0.0) > 0).any()):
        values = values.where(~ahead)
    values = _one_dim(values.transpose(..., "query", "key"))
    scale = Scale(0.0, 1.0, "attention")
    for title, one in each(values, ("query", "key")):
        matrix = one.to_numpy().astype(np.float64)
        drawn = Matrix(matrix, names_along(one, "query"), names_along(one, "key"), scale)
        panels.append(Panel(title.removeprefix("place "), (drawn,), Axis("key"), Axis("query")))
    sentence = (
        f"{MEANING.get(name) or capital(str(values.attrs.get('long_name', 'attention')))}{of}"
    )
    sentence += ": each row is where one token looks"
    missing = abs(values.sum("key") - 1).where(values.notnull().any("key"), 0.0)
    sentence += ", and sums to 1." if float(missing.max()) < _MISSING else "."
    few = spread(panels, MAPS)
    if len(panels) > len(few):
        sentence += f" {len(few)} of {len(panels)} maps."
    return (Sketch("attention_maps", "Attention", sentence, few, facts(data, name)),)


def _patterns(data: xr.Dataset) -> tuple[str, xr.DataArray, str] | None:
    """Return the variable that holds attention, its values of one text or mean, and of which."""
    names: tuple[str, ...] = ("pattern",)
    if data.attrs.get("site") == "attn_pattern":
        names = ("mean_over_stimulus", "activation")
    name = next((n for n in names if n in data and {"query", "key"} <= set(data[n].dims)), None)
    if name is None:
        return None
    values, of = squeezed(data[name], keep=("query", "key", "stimulus")), ""
    if "stimulus" in values.dims:
        values = values.isel(stimulus=0)
        of = f" in the text {values['stimulus'].item()!r}, the first of {data.sizes['stimulus']}"
        if "mask" in values.coords:  # a shorter text has fewer tokens
            there = np.flatnonzero(values["mask"].to_numpy())
            values = values.isel(query=there)
            if are_alike(values):
                values = values.sel(
                    key=[k for k in values["key"].values if k in values["query"].values]
                )
    return name, values.load(), of


def _one_dim(values: xr.DataArray) -> xr.DataArray:
    """Return attention with all dims beside query and key as one, such as L4H10."""
    others = [str(dim) for dim in values.dims if dim not in ("query", "key")]
    if len(others) < 2:
        return values
    values = values.stack(place=others)
    names = [_place(others, label) for label in values["place"].to_numpy()]
    return values.drop_vars(["place", *others]).assign_coords(place=names)


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
