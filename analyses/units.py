"""Units: from a choice of the model's parts to changes, one for each part, with its labels."""

from __future__ import annotations

from collections.abc import Iterator

from patchclamp.analyses.readings import Aside, Change, Label, ModelShape
from patchclamp.registry import SITES
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Units
from patchclamp.specs.interventions import Acting, Together
from patchclamp.specs.positions import ALL
from patchclamp.specs.selections import parse_head_name, resolve_layers

Part = tuple[tuple[Label, ...], Change]
"""The labels of a part of the model, and the change there."""


def parts(units: Units, shape: ModelShape, do: str | Acting | Aside) -> Iterator[Part]:
    """Yield a change for each head, or group of units, of each chosen layer.

    An intervention of the spec may say which units of the site it is for, and not where else it
    acts: raises `AnalysisError` for one that does, or that has units where they are grouped.
    """
    own = _own_units(units, shape, do)
    for layer, head in heads(units, shape):
        labels: tuple[Label, ...] = () if layer is None else (("layer", layer),)
        if head is not None:
            dim = "kv_head" if "kv_head" in SITES[units.site].dims else "head"
            labels = (*labels, (dim, head))
        whole = Change(do, units.site, layer or 0, head, own, units.positions)
        if units.group is None:
            yield labels, whole
            continue
        dim, size = _width(units.site, shape)
        for first in range(0, size, units.group):
            group = tuple(range(first, min(size, first + units.group)))
            change = Change(do, units.site, whole.layer, head, group, units.positions)
            yield (*labels, (dim, first)), change


def _own_units(units: Units, shape: ModelShape, do: str | Acting | Aside) -> tuple[int, ...]:
    """Return the units that an intervention of the spec is for."""
    entry = shape.interventions.get(do) if isinstance(do, str) else None
    if entry is None or isinstance(entry, Together):
        return ()
    said = [key for key, default in _PLACES.items() if getattr(entry, key) != default]
    if entry.site is not None and entry.site != units.site:
        said.insert(0, "site")
    if said:
        raise AnalysisError(
            f"interventions.{do} says where it acts ({', '.join(said)}), and here the analysis "
            "says it: leave that out of the intervention, or use steering"
        )
    if entry.units and units.group is not None:
        raise AnalysisError(
            f"interventions.{do} is for some units, and 'group' takes all of them: leave one out"
        )
    return entry.units


_PLACES = {"layers": "all", "heads": "all", "positions": ALL, "during": "both"}
"""What an intervention may say of where it acts, and what says nothing."""


def heads(units: Units, shape: ModelShape) -> Iterator[tuple[int | None, int | None]]:
    """Yield every chosen layer and head; None where the site has none."""
    dims = SITES[units.site].dims
    if "layer" not in dims:
        yield None, None
        return
    layers = resolve_layers(units.layers, shape.layers)
    if not {"head", "kv_head"} & set(dims):
        yield from ((layer, None) for layer in layers)
    elif isinstance(units.heads, str):
        count = (shape.kv_heads or shape.heads) if "kv_head" in dims else shape.heads
        yield from ((layer, head) for layer in layers for head in range(count))
    elif isinstance(units.heads[0], str):
        yield from (parse_head_name(head) for head in units.heads)
    else:
        yield from ((layer, int(head)) for layer in layers for head in units.heads)


def _width(site: str, shape: ModelShape) -> tuple[str, int]:
    """Return the last dim of a site and its size."""
    dim = SITES[site].dims[-1]
    sizes = {"unit": shape.units, "neuron": shape.neurons}
    if dim not in sizes:
        raise AnalysisError(
            f"'group' takes units of the residual stream or neurons together; {site!r} has "
            f"{dim}s: leave it out"
        )
    return dim, sizes[dim]
