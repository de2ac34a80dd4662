"""Whether every name in a spec refers to something, of the right kind, and never in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from patchclamp.registry.errors import nearest
from patchclamp.specs.analyses_representation import LabelTarget, Probe, Selection
from patchclamp.specs.diagnostics import Path, Problem, dotted
from patchclamp.specs.fields import Ref
from patchclamp.specs.references import Sections, candidates, what
from patchclamp.specs.spec import Expectation
from patchclamp.specs.stimuli import Corrupt
from patchclamp.specs.walk import Named


def check_references(sections: Sections, asked: Mapping[Path, BaseModel]) -> Iterator[Problem]:
    """P301, P302: a name refers to an entry, and one left out to the only candidate."""
    for place, entry in asked.items():
        for reference in sections.named(entry, place, Ref):
            mark = reference.mark
            assert isinstance(mark, Ref)
            named = sections.get(mark.section, reference.name)
            if named is not None:
                yield from _check_kind(sections, reference, mark) if mark.kind else ()
            elif reference.name is not None:
                known = sections.names(mark.section)
                if reference.name not in known:
                    message = f"no entry {reference.name!r} in {mark.section!r}"
                    close = nearest(reference.name, known)
                    yield Problem(reference.path, "P301", message, known, close)
            elif reference.filled and not sections.broken.get(mark.section):
                found = candidates(mark, sections)
                count = f"there are {len(found)}" if found else "there is none"
                message = f"left out, which needs exactly one {what(mark)}; {count}"
                yield Problem(reference.path, "P302", message, found)


def _check_kind(sections: Sections, reference: Named, mark: Ref) -> Iterator[Problem]:
    """P301: where an entry of one kind is needed, it is of that kind."""
    kind = vars(sections.get(mark.section, reference.name)).get("kind")
    if kind != mark.kind:
        fitting = candidates(mark, sections)
        message = f"{mark.section}.{reference.name} is of kind {kind!r}; {mark.kind!r} is needed"
        yield Problem(reference.path, "P301", message, fitting)


def check_features(sections: Sections, asked: Mapping[Path, BaseModel]) -> Iterator[Problem]:
    """P315: a probe's units are chosen for what it reads out."""
    for place, entry in asked.items():
        selection = sections.get("analyses", getattr(entry, "features", None))
        if not isinstance(entry, Probe) or not isinstance(selection, Selection):
            continue
        target = entry.target
        read = target.column if isinstance(target, LabelTarget) else f"the {target.kind}"
        if read != selection.column:
            message = (
                f"{entry.features!r} chooses units for {selection.column!r}, and this probe reads "
                f"out {read!r}: choose units for what is read out"
            )
            yield Problem((*place, "features"), "P315", message)


def check_claims(sections: Sections, expect: Mapping[int, Expectation]) -> Iterator[Problem]:
    """P301: what is expected is expected of an analysis that is there."""
    known = sections.names("analyses")
    for i, claim in expect.items():
        analysis, _, variable = claim.var.partition("/")
        if analysis not in known:
            close = nearest(analysis, known)
            suggestion = f"{close}/{variable}" if close else None
            message = f"no entry {analysis!r} in 'analyses'"
            yield Problem(("expect", i, "var"), "P301", message, known, suggestion)


def check_circles(sections: Sections, asked: Mapping[Path, BaseModel]) -> Iterator[Problem]:
    """P314: no entry needs itself, by way of others."""
    done: set[Path] = set()
    for start in asked:
        if start not in done:
            yield from _circles(sections, (start,), done)


def _circles(sections: Sections, way: tuple[Path, ...], done: set[Path]) -> Iterator[Problem]:
    """Yield the circles that going on leads into; what was gone on from is `done`."""
    for following in _needs(sections, way[-1]):
        if following in way:
            circle = (*way[way.index(following) :], following)
            message = " needs ".join(dotted(place) for place in circle)
            yield Problem(following, "P314", f"a circle: {message}")
        elif following not in done:
            yield from _circles(sections, (*way, following), done)
    done.add(way[-1])


def _needs(sections: Sections, place: Path) -> tuple[Path, ...]:
    """Return the entries that one names; a corrupt set of itself is told as such."""
    section, name = place
    entry = sections.get(str(section), str(name))
    return () if entry is None or isinstance(entry, Corrupt) else sections.walks.needed(entry)
