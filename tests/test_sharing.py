"""Entries validated one by one give what the whole grammar gives."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from test_planted import BASE, MISTAKES, planted

from patchclamp.specs import resolved
from patchclamp.specs.document import parse
from patchclamp.specs.library import shipped
from patchclamp.specs.sharing import Shared
from patchclamp.specs.spec import Spec, spec_model

PROJECTS = sorted((Path(__file__).parents[1] / "specs" / "projects").glob("*.yaml"))


def plain(text: str) -> dict[str, Any]:
    document, _ = parse(text)
    assert document is not None
    return {k: v for k, v in document.value.items() if k not in ("extends", "matrix")}


@pytest.mark.parametrize("path", [*shipped().values(), *PROJECTS], ids=lambda path: path.stem)
def test_a_spec_is_what_the_whole_grammar_makes_of_it(path: Path) -> None:
    value = plain(path.read_text(encoding="utf-8"))
    try:
        whole = spec_model().model_validate(value)
    except ValidationError:  # half a spec, which extends another
        assert Shared().cell(value) is None
        return
    found = Shared().cell(value)
    assert found is not None
    spec, _ = found
    assert type(spec) is Spec
    assert resolved(spec) == resolved(whole)


def test_a_mistake_in_an_entry_is_one_either_way() -> None:
    found = {True: 0, False: 0}
    for mistake in MISTAKES:
        if mistake["says"].partition("[")[2][:2] in ("P1", "P3", "P5"):
            continue  # of the text, between entries, or of what it is put together from
        value = plain(planted(mistake))
        try:
            spec_model().model_validate(value)
        except ValidationError:
            valid = False
        else:
            valid = True
        assert (Shared().cell(value) is not None) == valid, mistake["says"]
        found[valid] += 1
    assert min(found.values()) > 20


def test_an_entry_that_stays_is_validated_once() -> None:
    shared, value = Shared(), plain(BASE)
    first, second = shared.cell(value), shared.cell({**value, "seed": 7})
    assert first is not None
    assert second is not None
    assert second[0].seed == 7
    for section in ("stimuli", "captures", "interventions", "analyses"):
        for name, entry in getattr(first[0], section).items():
            assert getattr(second[0], section)[name] is entry
