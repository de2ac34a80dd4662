"""What every analysis needs measured, told the sizes and places that its readings depend on."""

from __future__ import annotations

from dataclasses import replace

from patchclamp.analyses.readings import Changing, MetricReading, Place, Readings
from patchclamp.engine.deep_model import refuse_answers
from patchclamp.engine.model import ModelSource
from patchclamp.engine.positions import choose
from patchclamp.engine.problems import Problems
from patchclamp.engine.sets import SetPlan
from patchclamp.engine.source_checks import add_asked, check_room
from patchclamp.registry import ANALYSES
from patchclamp.registry.errors import AnalysisError
from patchclamp.registry.table import load
from patchclamp.specs.interventions import Add, Clamp
from patchclamp.specs.positions import Positions


def plan_readings(
    model: ModelSource, sets: dict[str, SetPlan], problems: Problems
) -> dict[str, Readings]:
    """Ask every analysis what it needs measured; sets that are scored by others' answers are made.

    The shape that an analysis is told knows the places of positions in every set.
    """

    def places(stimuli: str, positions: Positions) -> tuple[Place, ...]:
        chosen = choose(positions, sets[stimuli], (), problems)
        if chosen is None:
            return ()
        return tuple(zip(chosen.labels, chosen.names or ("",) * len(chosen.labels), strict=True))

    of_captures = {name: str(entry.of) for name, entry in problems.loaded.spec.captures.items()}
    doses = {
        name: entry.scale if isinstance(entry, Add) else entry.value
        for name, entry in problems.loaded.spec.interventions.items()
        if isinstance(entry, Add | Clamp)
    }
    shape = replace(
        model.shape,
        sets=of_captures,
        places=places,
        doses=doses,
        interventions=problems.loaded.spec.interventions,
        seed=problems.loaded.spec.seed,
    )
    readings: dict[str, Readings] = {}
    for name, entry in problems.loaded.spec.analyses.items():
        reference = ANALYSES[entry.kind].readings
        if reference is None:
            continue  # not implemented yet: no plan is made of it
        try:
            readings[name] = load(reference)(entry, shape)
        except AnalysisError as error:
            problems.add(("analyses", name), "P421", str(error))
            continue
        untrained = model.choice.weights == "random"
        if untrained and any(getattr(r, "twin", False) for r in readings[name].values()):
            problems.add(
                ("analyses", name, "controls"),
                "P208",
                "this model's weights are random, and so it is its own untrained twin: leave the "
                "control 'random_twin' out",
            )
        metrics = [r for r in readings[name].values() if isinstance(r, MetricReading)]
        for reading in metrics:
            add_asked(name, reading, sets, problems)
        check_room(name, readings[name].values(), (model, sets), problems)
        changing = any(isinstance(r, Changing) for r in readings[name].values())
        if changing:
            refuse_answers(("analyses", name), model, problems)
    return readings
