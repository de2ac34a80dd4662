"""Acting: from interventions that say themselves where they act to changes, and their controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from patchclamp.analyses.readings import ASIDE, Change, ModelShape
from patchclamp.analyses.seeds import Seeds
from patchclamp.analyses.units import parts
from patchclamp.registry import SITES
from patchclamp.registry.errors import AnalysisError
from patchclamp.specs.analyses_causal import Units
from patchclamp.specs.interventions import Together, vector_of


def acting(name: str, shape: ModelShape, dose: int = 0) -> tuple[Change, ...]:
    """Return the changes of an intervention, where it says that it acts."""
    entry = shape.interventions[name]
    if isinstance(entry, Together):
        return tuple(change for member in entry.of for change in _member(name, member, shape))
    if entry.site is None:
        raise AnalysisError(
            f"interventions.{name} does not say where it acts, and steering does not either: give "
            "it a 'site', and 'layers', 'heads' or 'positions' where it is not all of them"
        )
    units = Units(
        site=entry.site, layers=entry.layers, heads=entry.heads, positions=entry.positions
    )
    found = [
        replace(change, intervention=name, units=entry.units, dose=dose, during=entry.during)
        for _, change in parts(units, shape, ASIDE)
    ]
    if entry.heads == "all":
        found = [replace(change, head=None) for change in found]
    return tuple(dict.fromkeys(found))


def _member(name: str, member: str, shape: ModelShape) -> tuple[Change, ...]:
    if isinstance(shape.interventions[member], Together):
        raise AnalysisError(
            f"interventions.{name} puts {member!r} together, which is itself several: name what "
            "is in it"
        )
    if len(shape.doses.get(member, ())) > 1:
        raise AnalysisError(
            f"interventions.{name} puts {member!r} together with others, which has several doses: "
            "give it one"
        )
    return acting(member, shape)


def doses(name: str, shape: ModelShape) -> tuple[float, ...]:
    """Return the doses of an intervention; 1 for one that has none."""
    return shape.doses.get(name, (1.0,))


def random_directions(
    changes: tuple[Change, ...], shape: ModelShape, repeats: int
) -> Iterator[tuple[Change, ...]]:
    """Yield changes along random directions of the same length; nothing if none is along one."""

    def adds(change: Change) -> bool:
        name = change.intervention
        return isinstance(name, str) and vector_of(shape.interventions[name]) is not None

    if any(map(adds, changes)):
        for draw in range(repeats):
            yield tuple(replace(c, draw=draw) if adds(c) else c for c in changes)


def random_heads(
    changes: tuple[Change, ...], shape: ModelShape, repeats: int
) -> Iterator[tuple[Change, ...]]:
    """Yield changes at as many random heads of the same site; nothing if none is at heads."""
    seeds = Seeds(shape.seed, "random heads")
    sites = sorted({change.site for change in changes if change.head is not None})
    for draw in range(repeats if sites else 0):
        drawn = list(changes)
        for site in sites:
            own = [i for i, c in enumerate(changes) if c.site == site and c.head is not None]
            every = _heads(site, shape)
            rng = seeds.generator(f"{site}.{draw}")
            chosen = rng.choice(len(every), size=len(own), replace=False)
            for i, number in zip(own, chosen, strict=True):
                layer, head = every[number]
                drawn[i] = replace(changes[i], layer=layer, head=head)
        yield tuple(drawn)


def _heads(site: str, shape: ModelShape) -> list[tuple[int, int]]:
    count = (shape.kv_heads or shape.heads) if "kv_head" in SITES[site].dims else shape.heads
    return [(layer, head) for layer in range(shape.layers) for head in range(count)]
