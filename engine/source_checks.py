"""What stands in is there: partners with answers, and a value for every token that is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from patchclamp.analyses.readings import (
    Aside,
    Change,
    Changing,
    GenerationReading,
    MetricReading,
    Reading,
)
from patchclamp.engine.model import ModelSource
from patchclamp.engine.partners import check_mean
from patchclamp.engine.positions import choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.ragged import Ragged, Texts
from patchclamp.engine.sets import SetPlan
from patchclamp.engine.sources import Source, entry_of, partners_of, source_of, stand_ins
from patchclamp.registry import SITES
from patchclamp.specs.interventions import Acting, Add, Replace, Together, vector_of
from patchclamp.specs.load import Loaded


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
    texts = Texts(own.table.texts[row] for row in rows)
    ids = Ragged(own.tokens.ids[row] for row in rows)
    sets[reading.asked] = SetPlan(
        replace(others.table, name=reading.asked, texts=texts),
        replace(others.tokens, ids=ids),
        own.stimuli and own.stimuli.only(rows),
    )


def check_room(
    analysis: str,
    readings: Iterable[Reading],
    context: tuple[ModelSource, Mapping[str, SetPlan]],
    problems: Problems,
) -> None:
    """P407: the model reads a text with all that is written after it."""
    model, sets = context
    for reading in readings:
        if not isinstance(reading, GenerationReading) or reading.stimuli not in sets:
            continue
        longest = sets[reading.stimuli].tokens.longest
        if longest + reading.tokens > model.context:
            problems.add(
                ("analyses", analysis),
                "P407",
                f"{reading.stimuli!r} reaches {longest} tokens, and with {reading.tokens} more it "
                f"is longer than the {model.context} that the model reads: generate at most "
                f"{model.context - longest}",
            )
            return


def check_sources(
    analysis: str, reading: Changing, sets: Mapping[str, SetPlan], problems: Problems
) -> None:
    """P414, P422: there is a value for every token that is changed."""
    if reading.asked not in sets:
        return
    kinds: dict[tuple[Source, Acting | Aside], Change] = {}
    for change in dict.fromkeys(c for of in reading.conditions for c in of.changes):
        why, code = _no_place(change, problems.loaded), "P421"
        if why is None and isinstance(reading, GenerationReading):
            why, code = _no_value(change, problems.loaded), "P414"
        if why is not None:
            problems.add(("analyses", analysis), code, why)
            return
        source = source_of(problems.loaded, change)
        if source is not None and source.stimuli in sets:
            kinds.setdefault((source, entry_of(problems.loaded, change)), change)
    for (source, _), change in kinds.items():
        if source.mean is not None:
            check_mean(analysis, source.mean, (reading.asked, sets), problems)
        elif not source.summed:
            _check_stand_ins(analysis, (source, change), (reading.asked, sets), problems)


def _no_place(change: Change, loaded: Loaded) -> str | None:
    """Return why an intervention cannot act on a site, None where it can."""
    named = change.intervention
    if isinstance(named, str) and isinstance(loaded.spec.interventions[named], Together):
        return (
            f"interventions.{named} is several at once, each where it says itself, "
            "and here the analysis says where: name one of them, or use steering"
        )
    entry, site = entry_of(loaded, change), change.site
    if isinstance(entry, Aside):
        return None
    dims = SITES[site].dims
    vector = vector_of(entry)
    if vector is not None and dims[-1] != "unit":
        does = "added to" if isinstance(entry, Add) else "taken from"
        return (
            f"a direction of analyses.{vector.of} is in the residual stream, and cannot be "
            f"{does} {site!r}: take a site with units, such as resid_post"
        )
    if isinstance(entry, Add) and entry.vector.normalise == "residual":
        of = getattr(loaded.spec.analyses[entry.vector.of], "of", None)
        if not isinstance(of, str):
            return (
                f"analyses.{entry.vector.of} is not of one capture, so that no residual stream has "
                "a mean length there: say 'normalise: unit'"
            )
    if isinstance(entry, Replace) and "key" in dims:
        return (
            f"noise of equal norm stands in for a vector, and {site!r} has none: take z, or q and k"
        )
    return None


def _no_value(change: Change, loaded: Loaded) -> str | None:
    """Return why generated tokens have no value to be put in place, None where they have."""
    source = source_of(loaded, change)
    if change.during == "prompt" or source is None or source.size:
        return None
    if source.mean is not None and source.mean.per == "all":
        return None
    what = "a mean" if source.mean is not None else "activations"
    return (
        f"interventions.{change.intervention} puts in {what} of {source.stimuli!r} token by token, "
        "and generated tokens have none there: say 'during: prompt'"
        + (", or 'per: all'" if source.mean is not None else "")
    )


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
