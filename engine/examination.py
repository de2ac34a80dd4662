"""Examination: which sites of a model can be trusted, whether anybody has tried it before or not.

1. Each place must be in the module tree.
2. Plain hooks read every site; its sizes must be those of the config.
3. nnsight must read the same numbers.
4. The identities of the site table must hold, with the model's own weights.
5. A stimulus must give the same numbers in a padded batch.
6. What is written must be read again, and reach what the model gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from patchclamp.engine.backend import Backend, Step, open_backend
from patchclamp.engine.guards import TOLERANCE
from patchclamp.engine.identities import (
    Identity,
    Weights,
    identities_of,
    read_sites,
    read_whole,
)
from patchclamp.engine.model import ModelSource
from patchclamp.engine.steps import Place, place, whole_step
from patchclamp.registry import SITES

Verdict = Literal["OK", "DEGRADED", "UNSUPPORTED", "WRONG"]

SAME = 1e-6
"""Largest difference between the backends, which run the same computation."""

_NAMES = {"Hooks": "plain hooks", "Nnsight": "nnsight"}

MOVED = 1e-6
"""Least change of the model's output, relative to its largest value, that a write must make."""


@dataclass
class Finding:
    """What is known of one site; the worst that is said of it stands."""

    site: str
    place: str
    verdict: Verdict = "OK"
    reason: str = ""
    deviation: float | None = None
    """Largest deviation of an identity that shows the site to be right."""

    def say(self, verdict: Verdict, reason: str) -> None:
        """Note a verdict, unless one as bad was given before."""
        if _RANK[verdict] > _RANK[self.verdict]:
            self.verdict, self.reason = verdict, reason

    @property
    def readable(self) -> bool:
        """Whether the site gives a tensor that means something."""
        return self.verdict in ("OK", "DEGRADED")


_RANK: Mapping[Verdict, int] = {"OK": 0, "DEGRADED": 1, "UNSUPPORTED": 2, "WRONG": 3}


@dataclass
class Examination:
    """A model under examination, and what is found at each site."""

    model: ModelSource
    module: torch.nn.Module
    ids: Sequence[int]
    findings: dict[str, Finding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        row = self.model.architecture
        for site in SITES:
            where = row.places.get(site)
            self.findings[site] = Finding(site, "" if where is None else str(where))
            if where is None:
                self.findings[site].say("UNSUPPORTED", row.lacks.get(site, row.summary))

    @property
    def limit(self) -> float:
        """Largest deviation that rounding explains."""
        return TOLERANCE[self.model.choice.dtype]

    def readable(self) -> list[str]:
        """Return the sites that give a tensor that means something, so far."""
        return [site for site, finding in self.findings.items() if finding.readable]

    def unreadable(self) -> set[str]:
        """Return the other sites, and what is between sites and is not there."""
        between = {
            name
            for name, where in self.model.architecture.places.items()
            if name not in SITES and not self.has(where.path.format(layer=0))
        }
        return set(SITES) - set(self.readable()) | between

    def has(self, path: str) -> bool:
        """Return whether a module is there."""
        try:
            self.module.get_submodule(path)
        except AttributeError:
            return False
        return True


def examine(model: ModelSource, module: torch.nn.Module, ids: Sequence[int]) -> list[Finding]:
    """Examine every site of the table in a model; `ids` are some different tokens."""
    under = Examination(model, module, ids)
    _look_for_places(under)
    hooks = open_backend("hooks", module, model.tokenizer)
    found = _read(under, hooks, "UNSUPPORTED")
    _measure_sizes(under, found)
    backends = [hooks]
    try:
        backends.append(open_backend("nnsight", module, model.tokenizer))
    except Exception as error:  # whatever a library makes of a model that it does not know
        for site in under.readable():
            under.findings[site].say("DEGRADED", f"nnsight cannot hold it: {_brief(error)}")
    else:
        _compare_backends(under, found, _read(under, backends[1], "DEGRADED"))
    if under.readable():
        _check_identities(under, hooks)
        _check_padding(under, hooks)
        _check_writes(under, backends)
    return list(under.findings.values())


def _look_for_places(under: Examination) -> None:
    for site in under.readable():
        for write in (False, True):
            if write and not SITES[site].written:
                continue
            for layer in (0, under.model.shape.layers - 1):
                for part in place(under.model, site, layer, write=write)["parts"]:
                    if not under.has(part["path"]):
                        reason = f"the model has no module {part['path']!r}"
                        under.findings[site].say("UNSUPPORTED", reason)


def _read(under: Examination, backend: Backend, otherwise: Verdict) -> dict[Place, torch.Tensor]:
    """Read each site at every layer; those that cannot be read get the other verdict."""
    layers = range(under.model.shape.layers)
    places = {
        site: [(site, layer) for layer in layers if layer == 0 or "layer" in SITES[site].dims]
        for site in under.readable()
    }
    try:
        return _whole(under, backend, [where for of_site in places.values() for where in of_site])
    except Exception:  # a model that nobody has tried may do anything; which site is it?
        found: dict[Place, torch.Tensor] = {}
        for site, of_site in places.items():
            try:
                found |= _whole(under, backend, of_site)
            except Exception as error:
                reason = f"{_NAMES[backend.__class__.__name__]} cannot read it: {_brief(error)}"
                under.findings[site].say(otherwise, reason)
        return found


def _whole(
    under: Examination, backend: Backend, places: Sequence[Place], first: Sequence[Step] = ()
) -> dict[Place, torch.Tensor]:
    return read_whole((under.model, backend), [under.ids], places, first=first)


def _measure_sizes(under: Examination, found: Mapping[Place, torch.Tensor]) -> None:
    config, shape, length = under.model.config, under.model.shape, len(under.ids)
    sizes = {
        **dict.fromkeys(("position", "query", "key"), length),
        "unit": int(config.hidden_size),
        "head": shape.heads,
        "kv_head": int(getattr(config, "num_key_value_heads", None) or shape.heads),
    }
    for (site, _), tensor in found.items():
        dims = [dim for dim in SITES[site].dims if dim not in ("stimulus", "layer")]
        if len(dims) != tensor.ndim - 1:
            reason = f"it has {tensor.ndim - 1} dims, and not ({', '.join(dims)})"
            under.findings[site].say("WRONG", reason)
            continue
        for dim, size in zip(dims, tensor.shape[1:], strict=True):
            if sizes.get(dim, size) != size:
                reason = f"the size of {dim} is {size}, and not {sizes[dim]}"
                under.findings[site].say("WRONG", reason)


def _compare_backends(
    under: Examination, plain: Mapping[Place, torch.Tensor], ours: Mapping[Place, torch.Tensor]
) -> None:
    for where, tensor in plain.items():
        if where in ours and not (deviation := _deviation(ours[where], tensor)) <= SAME:
            reason = f"nnsight and plain hooks differ by {deviation:.1e}"
            under.findings[where[0]].say("WRONG", reason)


def _check_identities(under: Examination, backend: Backend) -> None:
    """Judge sites by their identities.

    A site is wrong if every identity that would show it to be right fails. Where an identity
    fails and each of its sites is shown right by another one, all of them are in doubt.
    """
    found = read_sites(under.model, backend, under.ids, without=under.unreadable())
    worst: dict[str, Identity] = {}
    for identity in identities_of(Weights(under.model, under.module), found, under.ids):
        known = worst.setdefault(identity.text, identity)
        if identity.deviation > known.deviation:
            worst[identity.text] = identity
    failed = [i for i in worst.values() if not i.deviation <= under.limit]
    held = [i for i in worst.values() if i.deviation <= under.limit and i.evidence]
    shown = {site: [i for i in held if site in i.sites] for site in under.readable()}
    wrong = {site for identity in failed for site in identity.sites if not shown.get(site)}
    for identity in failed:
        for site in (wrong & set(identity.sites) or set(identity.sites)) & shown.keys():
            reason = f"not {identity.text} ({identity.deviation:.1e} off)"
            under.findings[site].say("WRONG" if site in wrong else "DEGRADED", reason)
    for site, by in shown.items():
        if by:
            under.findings[site].deviation = max(identity.deviation for identity in by)
        else:
            under.findings[site].say("DEGRADED", "nothing could be checked that shows it right")


def _check_padding(under: Examination, backend: Backend) -> None:
    layer, sites = under.model.shape.layers - 1, under.readable()
    short, places = under.ids[: max(1, len(under.ids) // 3)], [(site, layer) for site in sites]
    batch = read_whole((under.model, backend), [under.ids, short], places)
    alone = read_whole((under.model, backend), [short], places)
    for site in sites:
        single = alone[site, layer][0]
        together = batch[site, layer][1][tuple(slice(size) for size in single.shape)]
        deviation = _deviation(together, single)
        if not deviation <= under.limit:
            reason = f"a stimulus gives other numbers in a padded batch ({deviation:.1e} off)"
            under.findings[site].say("WRONG", reason)


def _check_writes(under: Examination, backends: Sequence[Backend]) -> None:
    """Put each position's or head's values in another one's place, in the middle of the model."""
    layer, last = under.model.shape.layers // 2, under.model.shape.layers - 1
    readable = under.readable()
    end = next(((s, last) for s in ("logits", "resid_post") if s in readable), None)
    for site in (site for site in readable if SITES[site].written):
        places = [(site, layer), *([end] if end is not None and end != (site, layer) else [])]
        clean = _whole(under, backends[0], places)
        value = clean[site, layer]
        value = value.roll(1, 1 if value.shape[1] > 1 else 2)
        write = whole_step(under.model, (site, layer), value)
        for backend in backends:
            try:
                found = _whole(under, backend, places, [write])
            except Exception as error:  # as above
                under.findings[site].say("DEGRADED", f"it cannot be written: {_brief(error)}")
                break
            deviation = _deviation(found[site, layer], value)
            if not deviation <= under.limit:
                reason = f"what is written there is not read again ({deviation:.1e} off)"
                under.findings[site].say("WRONG", reason)
            if len(places) > 1 and not _deviation(found[places[1]], clean[places[1]]) > MOVED:
                reason = "what is written there does not reach what the model gives"
                under.findings[site].say("DEGRADED", reason)


def _deviation(left: torch.Tensor, right: torch.Tensor) -> float:
    """Compare what is finite; what is not must stand at the same places."""
    if left.shape != right.shape or not torch.equal(left.isfinite(), right.isfinite()):
        return float("inf")
    finite = right.isfinite()
    return Identity("", (), left[finite], right[finite]).deviation if finite.any() else 0.0


def _brief(error: Exception) -> str:
    """Return the first line of an error of another library, with its kind."""
    text = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {text[:120]}"
