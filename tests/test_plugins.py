"""Plugins: what a file or a package adds is known everywhere; what is broken names itself."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from patchclamp.engine import cli
from patchclamp.registry import ANALYSES, METRICS, plugins
from patchclamp.registry.errors import PluginError
from patchclamp.registry.plugins import origin, use_file, use_packages
from patchclamp.specs.json_schema import json_schema
from patchclamp.specs.load import load
from patchclamp.specs.spec import Spec, spec_model

PLUGIN = '''
"""Adds a kind of analysis."""

from typing import Literal

from patchclamp.registry.analyses import Analysis
from patchclamp.specs.fields import CaptureRef, Model


class Drift(Model):
    """How far activations move between two layers."""

    kind: Literal["drift"]
    of: CaptureRef | None = None
    """The capture; may be left out where there is one."""
    step: int = 1
    """Layers between the two."""


ANALYSES = [Analysis("drift", "how far activations move", f"{__name__}:Drift")]
'''

METRIC = """
from patchclamp.registry.metrics import Metric

METRICS = [Metric("surprise", "how little was expected", None, "nat", "surprise/1",
                  needs="answer", ratio=False)]
"""

SPEC = """
patchclamp: 1
name: drifting
model: bundled:sequences
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", groups: template,
          answer: {correct: " {next}", foil: " {last}"}}
captures: {resid: {site: resid_post}}
analyses: {moves: {kind: drift, step: 2}}
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the tables as they were: what a test adds, only it knows."""
    monkeypatch.setattr(plugins, "_used", plugins._Used())
    before = [(table, dict(table)) for table, _ in plugins.GROWING.values()]
    yield
    for table, entries in before:
        table._entries = entries


def plugin(folder: Path, text: str = PLUGIN, name: str = "my_analysis.py") -> str:
    path = folder / name
    path.write_text(dedent(text))
    return str(path)


def spec(folder: Path, text: str = SPEC) -> str:
    path = folder / "drifting.yaml"
    path.write_text(text)
    return str(path)


def package(folder: Path, text: str = PLUGIN, name: str = "drifting") -> Path:
    """An installed package, as an installer leaves it: a module and what says that it is there."""
    site = folder / "site"
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(dedent(text))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {name}\n")
    return site


def patchclamp(*argv: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with one more folder of packages."""
    path = os.pathsep.join(filter(None, [str(site or ""), os.environ.get("PYTHONPATH", "")]))
    program = "import sys; from patchclamp.engine.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *argv],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


def known_everywhere(arguments: list[str], site: Path | None, folder: Path) -> None:
    """A kind that a plugin adds is listed, explained, in the schema, valid, and refused plainly."""
    listed = patchclamp(*arguments, "list", "analyses", site=site)
    assert "drift " in listed.stdout
    assert "how far activations move (not implemented yet)" in listed.stdout
    told = patchclamp(*arguments, "explain", "drift", site=site).stdout
    assert "How far activations move between two layers." in told
    assert "Layers between the two." in told
    schema = json.loads(patchclamp(*arguments, "schema", site=site).stdout)
    assert schema["$defs"]["Drift"]["properties"]["kind"]["const"] == "drift"
    members = schema["$defs"]["Spec"]["properties"]["analyses"]["patternProperties"].values()
    assert {"$ref": "#/$defs/Drift"} in next(iter(members))["oneOf"]
    path = spec(folder)
    valid = patchclamp(*arguments, "validate", path, site=site)
    assert (valid.returncode, valid.stdout) == (0, "1 spec, 1 valid, 0 errors\n")
    wrong = spec(folder, SPEC.replace("step", "stp"))
    found = patchclamp(*arguments, "validate", wrong, site=site)
    assert "unknown key 'stp' (kind: drift)" in found.stdout
    assert "did you mean 'step'?" in found.stdout
    refused = patchclamp(*arguments, "run", spec(folder), "--out", str(folder), site=site)
    assert refused.returncode == 1
    assert "error[P415]: analyses.moves: not implemented yet: kind 'drift'" in refused.stderr


def test_what_a_file_adds_is_known_everywhere(tmp_path: Path) -> None:
    known_everywhere(["--plugin", plugin(tmp_path)], None, tmp_path)


def test_what_a_package_adds_is_known_everywhere(tmp_path: Path) -> None:
    known_everywhere([], package(tmp_path), tmp_path)


def test_without_the_plugin_nothing_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["validate", spec(tmp_path)]) == 1
    assert "unknown kind 'drift'" in capsys.readouterr().out


@pytest.mark.parametrize("after", [False, True])
def test_a_plugin_stands_before_or_after_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], after: bool
) -> None:
    option, command = ["--plugin", plugin(tmp_path)], ["validate", spec(tmp_path)]
    assert cli.main([*command, *option] if after else [*option, *command]) == 0
    assert capsys.readouterr().out == "1 spec, 1 valid, 0 errors\n"


def test_the_models_grow_and_the_old_one_stays(tmp_path: Path) -> None:
    own = spec_model()
    use_file(plugin(tmp_path))
    use_file(plugin(tmp_path))  # the same file again adds nothing
    assert origin("analysis", "drift") == f"the plugin {str(tmp_path / 'my_analysis.py')!r}"
    assert origin("analysis", "probe") == "patchclamp itself"
    loaded = load(spec(tmp_path))
    assert type(loaded.spec) is Spec
    assert type(loaded.spec.analyses["moves"]).__name__ == "Drift"
    assert loaded.spec.analyses["moves"].of == "resid"  # references are spelled out in it, too
    assert "Drift" in str(spec_model().model_fields["analyses"])
    assert "Drift" not in str(own.model_fields["analyses"])


def test_a_metric_of_a_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use_file(plugin(tmp_path, METRIC))
    told = json_schema()["$defs"]["MetricChoice"]["properties"]["kind"]
    assert told["enum"] == list(METRICS)
    assert told["enum"][-1] == "surprise"
    ablation = "{kind: ablation, units: {site: z}, metric: surprise}"
    text = SPEC.replace("{kind: drift, step: 2}", ablation)
    text += "interventions: {zeroed: {kind: ablate, value: zero}}\n"
    assert cli.main(["validate", spec(tmp_path, text)]) == 0
    assert cli.main(["explain", "surprise"]) == 0
    assert "how little was expected" in capsys.readouterr().out


def test_a_spec_names_no_plugin_and_runs_no_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harmful = plugin(tmp_path, "import pathlib\npathlib.Path(__file__ + '.ran').touch()\n")
    text = SPEC + f"plugins: [{harmful}]\n"
    assert cli.main(["validate", spec(tmp_path, text)]) == 1
    assert "unknown key 'plugins'" in capsys.readouterr().out
    text = SPEC.replace("drift", "my_analysis:Drift")
    assert cli.main(["validate", spec(tmp_path, text)]) == 1
    assert not Path(harmful + ".ran").exists()


BROKEN = {
    "is not a Python file that is there": None,
    "my_analysis.py:3: NameError: name 'x' is not defined": "\nimport json\ny = x\n",
    # Pydantic raises it, far inside; the line is that of the plugin.
    "my_analysis.py:10: PydanticUserError": PLUGIN.replace("step: int = 1", "step = 1"),
    "SyntaxError: '(' was never closed (my_analysis.py, line 1)": "y = (",
    "ModuleNotFoundError: No module named 'torchvisionary'": "import torchvisionary",
    "SystemExit: 3": "import sys\nsys.exit(3)",
    "adds nothing: it has neither ANALYSES nor METRICS nor ARCHITECTURES": "x = 1",
    "ANALYSES holds 'drift', which is no Analysis": "ANALYSES = ['drift']",
    "the analysis 'probe' is there already, from patchclamp itself": PLUGIN.replace(
        '"drift"', '"probe"'
    ),
    "'Drift' is no name for an analysis; a name has lower-case letters": PLUGIN.replace(
        '"drift"', '"Drift"'
    ),
    "AttributeError: module 'patchclamp_plugin_0_my_analysis' has no attribute 'Drft'": (
        PLUGIN.replace(":Drift", ":Drft")
    ),
    "needs the field  kind: Literal['drift']": PLUGIN.replace('Literal["drift"]', "str"),
    "is no pydantic model": PLUGIN.replace(":Drift", ":Literal"),
    "would let unknown keys pass; derive it from patchclamp.specs.fields.Model": PLUGIN.replace(
        "(Model)", "(__import__('pydantic').BaseModel)"
    ),
    "has no docstring": PLUGIN.replace('"""How far activations move between two layers."""', "")
    .replace("import CaptureRef, Model", "import CaptureRef, Model as Model_")
    .replace("(Model)", "(Model_)"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_file_names_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    text = BROKEN[message]
    path = plugin(tmp_path, text) if text is not None else str(tmp_path / "absent.py")
    before = list(ANALYSES)
    assert cli.main(["--plugin", path, "list", "sites"]) == 3
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith(f"the plugin {path!r}")
    assert list(ANALYSES) == before


def test_two_plugins_with_one_name_are_both_named(tmp_path: Path) -> None:
    use_file(plugin(tmp_path))
    with pytest.raises(PluginError) as caught:
        use_file(plugin(tmp_path, name="other.py"))
    assert str(caught.value) == (
        f"the plugin {str(tmp_path / 'other.py')!r}: the analysis 'drift' is there already, "
        f"from the plugin {str(tmp_path / 'my_analysis.py')!r}"
    )


def test_a_broken_package_stops_only_what_needs_it(tmp_path: Path) -> None:
    site = package(tmp_path, PLUGIN)
    package(tmp_path / "bad", "1 / 0\n", "zero")
    for item in (tmp_path / "bad" / "site").iterdir():
        item.rename(site / item.name)
    said = "the plugin 'zero' of the package 'zero' (zero) fails: "
    for argv in (["validate", "quickstart"], ["list", "sites"], ["explain", "probe"]):
        assert patchclamp(*argv, site=site).returncode == 0, argv
    # The other package's kind is there all the same.
    assert patchclamp("validate", spec(tmp_path), site=site).returncode == 0
    for argv in (["list", "analyses"], ["schema"], ["explain", "unheard_of"]):
        done = patchclamp(*argv, site=site)
        assert (done.returncode, done.stdout) == (3, ""), argv
        assert done.stderr.startswith(said + f"{site / 'zero.py'}:1: ZeroDivisionError")
    unknown = spec(tmp_path, SPEC.replace("kind: drift", "kind: zeroes"))
    done = patchclamp("validate", unknown, site=site)
    assert done.returncode == 3
    assert "unknown kind 'zeroes'" in done.stdout
    assert said in done.stdout
    assert "a name that is unknown above may be its" in done.stdout


def test_packages_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: asked.append(group) or [])
    assert use_packages() == use_packages() == ()
    assert asked == ["patchclamp.plugins"]


def test_what_a_package_adds_is_known_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package(tmp_path))
    assert plugins.added() == ()
    assert use_packages() == ()
    assert plugins.added() == (
        {
            "package": "drifting",
            "version": "1.0",
            "module": "drifting",
            "adds": ("analysis drift",),
        },
    )


RUNS = (
    PLUGIN.replace("from typing", "import xarray as xr\nfrom typing").replace(
        'f"{__name__}:Drift")',
        'f"{__name__}:Drift", f"{__name__}:readings", f"{__name__}:analyse", ("drift",))',
    )
    + '''

def readings(entry, shape):
    """What is measured: the capture."""
    from patchclamp.analyses.readings import CaptureReading

    return {"of": CaptureReading(entry.of)}


def analyse(entry: Drift, data: object, context: object) -> xr.Dataset:
    """Mean absolute difference of a layer and the one `step` before it."""
    drift = abs(data["of"]["activation"].diff("layer", n=entry.step)).mean(("stimulus", "unit"))
    return drift.assign_attrs(units="1", long_name="drift").to_dataset(name="drift")
'''
)


@pytest.mark.parametrize("headline", ['("drift",)', "()"])
def test_an_analysis_of_a_plugin_runs(tmp_path: Path, headline: str) -> None:
    import xarray as xr

    option = ["--plugin", plugin(tmp_path, RUNS.replace('("drift",)', headline))]
    over = ["--set", "model.revision=step80"]
    done = patchclamp(*option, "run", spec(tmp_path), *over, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "out").rglob("result.nc")
    drift = xr.open_dataset(result, group="analyses/moves", engine="netcdf4")["drift"]
    assert drift.dims == ("layer", "position")
    assert (drift > 0).all()
    made = json.loads(xr.open_dataset(result, engine="netcdf4").attrs["provenance"])
    assert made["overrides"] == ["model.revision=step80"]
    assert made["model"]["revision"] == "step80"
    assert made["plugins"] == [{
        "file": option[1],
        "sha256": hashlib.sha256(Path(option[1]).read_bytes()).hexdigest(),
        "adds": ["analysis drift"],
    }]  # fmt: skip
