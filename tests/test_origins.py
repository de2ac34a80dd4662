"""Where each value of a resolved spec is said to come from."""

from pathlib import Path

from test_load import GOOD

from patchclamp.specs import load, loads
from patchclamp.specs.diagnostics import dotted
from patchclamp.specs.library import shipped
from patchclamp.specs.origins import origins


def test_every_value_has_its_origin(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD)
    text = """\
extends: base.yaml
model: {dtype: float16}
captures: {resid: {layers: null}}
matrix:
  grid:
    seed: [1, 2]
"""
    (tmp_path / "x.yaml").write_text(text)
    loaded = load(tmp_path / "x.yaml", ["analyses.decode.cv.folds=3", "run.device=cuda"])
    base, spec = tmp_path / "base.yaml", tmp_path / "x.yaml"
    found = {dotted(path): str(origin) for path, origin in origins(loaded.cells[1]).items()}
    expected = {
        "name": f"{base}:2",
        "description": "default",
        "seed": f"{spec}:6 (matrix)",
        "model.id": f"{spec}:2",
        "model.revision": "default",
        "model.dtype": f"{spec}:2",
        "stimuli.words.labels": f"{base}:9",
        "stimuli.words.answer.foil": f"{base}:11",
        "stimuli.scrambled.of": "default",
        "captures.resid.site": f"{base}:14",
        "captures.resid.layers": "default",
        "interventions.mean.value.per": f"{base}:16",
        "analyses.decode.cv.folds": "--set analyses.decode.cv.folds=3",
        "run.device": "--set run.device=cuda",
        "run.batch.tokens": "default",
    }
    assert {path: found[path] for path in expected} == expected


def test_a_short_form_says_what_it_holds_and_leaves_the_rest_open() -> None:
    text = GOOD.replace("bundled:sequences", "bundled:sequences@step0")
    found = {dotted(p): str(origin) for p, origin in origins(loads(text, "a").cells[0]).items()}
    assert (found["model.id"], found["model.revision"]) == ("a:3", "a:3")
    assert found["model.dtype"] == "default"
    assert found["captures.resid.layers"] == "a:14"


def test_every_shipped_spec_has_origins() -> None:
    for name in shipped():
        cell = load(name).cells[0]
        given = [path for path, origin in origins(cell).items() if origin.kind == "file"]
        assert len(given) > 5
        assert all(origin.line > 0 for origin in origins(cell).values() if origin.kind == "file")
