"""Numbers move little with batch size, threads and backend, and that little is a tolerance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results import PROVENANCE, groups, write

from patchclamp.engine import cli, open_result
from patchclamp.engine.noise import measure_noise, variations_of
from patchclamp.registry.errors import UsageError
from patchclamp.specs.load import load

SPEC = """\
patchclamp: 1
name: cheap
model: bundled:sequences
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category]
    groups: template
    answer: {correct: " {next}", foil: " {last}"}
    take: {n: 64}
captures: {resid: {of: words, site: resid_post, layers: all, positions: last}}
interventions: {off: {kind: ablate, value: zero}}
analyses:
  geometry:
    kind: rsa
    of: resid
    contrast: {kind: discriminative, column: category}
    test: {permute: category, n: 199}
  decode: {kind: probe, of: resid, target: category, controls: [majority]}
  heads: {kind: ablation, stimuli: words, with: off, units: {site: z, layers: [1]},
          metric: {kind: logit_diff}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same spec as it is, one stimulus at a time, 64 at a time, on two threads, with hooks."""
    folder = tmp_path_factory.mktemp("noise")
    spec = folder / "cheap.yaml"
    spec.write_text(SPEC)
    settings = {
        "as it is": "run.batch.tokens=512",
        "batch of 1": "run.batch.tokens=1",
        "batch of 64": "run.batch.tokens=100000",
        "one thread": "run.threads=1",
        "two threads": "run.threads=2",
        "hooks": "run.backend=hooks",
    }
    made = {}
    from patchclamp.engine import run

    for name, setting in settings.items():
        place = folder / name.replace(" ", "-")
        result = run(spec, out=place / "runs", cache=place / "cache", overrides=[setting])
        made[name] = str(result.path)
    return made


@pytest.mark.parametrize(("a", "b"), [
    ("batch of 1", "batch of 64"),
    ("one thread", "two threads"),
    ("as it is", "hooks"),
    ("batch of 1", "two threads"),
])  # fmt: skip
def test_no_false_alarm_with_the_default_preset(
    a: str, b: str, runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", runs[a], runs[b]]) == 0
    assert "within tolerance, structure equal" in capsys.readouterr().out


def test_and_yet_batches_do_move_numbers(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the test above would test nothing."""
    command = ["compare", runs["batch of 1"], runs["batch of 64"], "--preset", "exact"]
    assert cli.main(command) == 1
    assert "≠  captures/resid/activation" in capsys.readouterr().out


def test_noise_is_measured_stored_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATCHCLAMP_CACHE", str(tmp_path / "cache"))
    Path("cheap.yaml").write_text(SPEC.replace("n: 64", "n: 30").replace("n: 199", "n: 99"))
    command = ["noise", "cheap.yaml", "--vary", "run.batch.tokens=1", "--vary", "run.backend=hooks"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "captures/resid/activation" in said
    assert "compare takes it as tolerance for this spec" in said
    (path,) = Path("runs/cheap").glob("*/noise.json")
    made = json.loads(path.read_text())
    assert made["variations"] == ["run.batch.tokens=1", "run.backend=hooks"]
    moved = made["variables"]["captures/resid/activation"]
    assert 0 < moved["relative"] < 1e-5
    assert made["variables"]["stimuli/words/text"]["relative"] == 0

    assert cli.main(["run", "cheap.yaml", "--report"]) == 0
    assert "report  runs/cheap/" in capsys.readouterr().out
    assert (path.parent / "report.html").exists()
    result = str(path.parent)
    assert cli.main(["compare", result, result]) == 0
    assert "(4 × noise over batch.tokens=1, backend=hooks)" in capsys.readouterr().out
    assert cli.main(["compare", result, result, "--preset", "fp32"]) == 0
    assert "noise over" not in capsys.readouterr().out
    bless = ["--only", "analyses", "--update", "--because", "first", "--by", "Ada"]
    assert cli.main(["compare", "base.nc", result, *bless]) == 0
    path.unlink()
    capsys.readouterr()
    assert cli.main(["compare", "base.nc", result]) == 0
    assert "noise over batch.tokens=1" in capsys.readouterr().out


def test_noise_of_another_spec_is_no_tolerance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = str(write(tmp_path / "a" / "result.nc", groups(), PROVENANCE))
    with open_result(result) as opened:
        assert "digest" not in opened.attrs
    noise = {"digest": "e" * 64, "variations": ["run.threads=2"], "variables": {
        "analyses/heads/effect": {"relative": 1.0}}}  # fmt: skip
    path = tmp_path / "a" / "noise.json"
    path.write_text(json.dumps(noise))
    assert cli.main(["compare", result, result]) == 0
    assert "noise over" not in capsys.readouterr().out
    path.write_text("{")
    assert cli.main(["compare", result, result]) == 3
    assert "cannot read noise.json" in capsys.readouterr().err


def test_what_is_varied(tmp_path: Path) -> None:
    spec = tmp_path / "cheap.yaml"
    spec.write_text(SPEC)
    assert variations_of(load(spec))[:3] == (
        "run.batch.tokens=1", "run.batch.tokens=32768", "run.threads=1")  # fmt: skip
    with pytest.raises(UsageError, match=r"'seed=1' changes the science"):
        measure_noise(spec, ["seed=1"])
