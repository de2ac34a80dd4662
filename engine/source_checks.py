"""What stands in is there: partners with answers, and a value for every token that is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from patchclamp.analyses.readings import Aside, Change, MetricReading
from patchclamp.engine.partners import check_mean
from patchclamp.engine.positions import choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.sets import SetPlan
from patchclamp.engine.sources import Source, entry_of, partners_of, source_of, stand_ins
from patchclamp.registry import SITES
from patchclamp.specs.interventions import Add, Intervention, Replace


def add_asked(
    analysis: str, reading: MetricReading, sets: dict[str, SetPlan], problems: Problems
) -> None:
    """Add a set's stimuli with the answers of their partners, or P422 where they are none."""
    answers = reading.answers
    if answers is None or answers == reading.stimuli or reading.asked in sets:
        return
    rows = partners_of(problems.loaded, sets, answers, reading.stimuli)
    if rows is None:
        problems.add(
            ("analyses", analysis),
            "P422",
            f"{reading.stimuli!r} is no version of {answers!r}, by whose answers it is scored: "
            f"say 'partners: {{of: {answers}}}' there",
        )
        return
    own, others = sets[reading.stimuli], sets[answers]
    texts = tuple(own.table.texts[row] for row in rows)
    ids = tuple(own.tokens.ids[row] for row in rows)
    sets[reading.asked] = SetPlan(
        replace(others.table, name=reading.asked, texts=texts),
        replace(others.tokens, ids=ids),
        own.stimuli and tuple(own.stimuli[row] for row in rows),
    )


def check_sources(
    analysis: str, reading: MetricReading, sets: Mapping[str, SetPlan], problems: Problems
) -> None:
    """P414, P422: there is a value for every token that is changed."""
    if reading.asked not in sets:
        return
    kinds: dict[tuple[Source, Intervention | Aside], Change] = {}
    for change in dict.fromkeys(c for of in reading.conditions for c in of.changes):
        why = _no_place(entry_of(problems.loaded, change), change.site)
        if why is not None:
            problems.add(("analyses", analysis), "P421", why)
            return
        source = source_of(problems.loaded, change)
        if source is not None and source.stimuli in sets:
            kinds.setdefault((source, entry_of(problems.loaded, change)), change)
    for (source, _), change in kinds.items():
        if source.mean is not None:
            check_mean(analysis, source.mean, (reading.asked, sets), problems)
        elif not source.summed:
            _check_stand_ins(analysis, (source, change), (reading.asked, sets), problems)


def _no_place(entry: Intervention | Aside, site: str) -> str | None:
    """Return why an intervention cannot act on a site, None where it can."""
    dims = SITES[site].dims
    if isinstance(entry, Add) and dims[-1] != "unit":
        return (
            f"a direction of analyses.{entry.vector.of} is in the residual stream, and cannot be "
            f"added to {site!r}: take a site with units, such as resid_post"
        )
    if isinstance(entry, Replace) and "key" in dims:
        return (
            f"noise of equal norm stands in for a vector, and {site!r} has none: take z, or q and k"
        )
    return None


def _check_stand_ins(
    analysis: str,
    what: tuple[Source, Change],
    context: tuple[str, Mapping[str, SetPlan]],
    problems: Problems,
) -> None:
    (source, change), (name, sets) = what, context
    here = ("analyses", analysis)
    rows = stand_ins(problems.loaded, sets, name, change)
    if rows is None:
        problems.add(
            here,
            "P422",
            f"nothing in {source.stimuli!r} stands in for the stimuli of {name!r}: they are no "
            "partners, or no other stimulus has as many tokens",
        )
        return
    own = choose(source.positions, sets[name], (), problems)
    other = choose(source.positions, sets[source.stimuli], (), problems)
    if own is None or other is None:
        return
    counts = [
        dict(zip(chosen.rows, chosen.mask.sum(axis=1).tolist(), strict=True))
        for chosen in (own, other)
    ]
    for row, stand_in in enumerate(rows):
        here_, there = counts[0].get(row, 0), counts[1].get(stand_in, 0)
        if here_ != there:
            id_ = sets[name].table.ids[row]
            problems.add(
                here,
                "P422",
                f"stimulus {id_!r} has {here_} tokens to change, and what stands in for it in "
                f"{source.stimuli!r} has {there}: change single positions or spans of one length",
            )
            return
