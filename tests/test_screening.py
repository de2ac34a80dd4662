"""The pass that screens: what it gives of what stays, and what is measured after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from patchclamp.engine import Result, run
from patchclamp.engine.cli import main
from patchclamp.engine.plan import make_plan
from patchclamp.engine.plan_text import describe_plan
from patchclamp.engine.recording import taken_along
from patchclamp.engine.records import Cache
from patchclamp.engine.shards import open_shards
from patchclamp.specs.load import load

SPEC = """\
patchclamp: 1
name: screening
model: bundled:sequences@step80
stimuli:
  words:
    kind: builtin
    set: sequences
    text: "{prompt}"
    labels: [category]
    groups: template
    spans: {end: "{last}"}
    answer: {correct: " {next}", foil: " {last}"}
    where: category == 'months' or category == 'weekdays'
    keep_if: correct and p > 20 * p_foil
captures:
  all: {of: words, site: resid_post, positions: all}
  last: {of: words, site: z, heads: [L0H1, L2H3]}
  maps: {of: words, site: attn_pattern, layers: 1, positions: all}
  around:
    of: words
    site: mlp_out
    layers: 2
    positions: {align: end, before: 2, after: 1, short: drop}
  seen:
    of: words
    site: attn_pattern
    layers: 2
    keys: {align: end, before: 2, after: 0, short: drop}
  largest: {of: words, site: attn_out, positions: all, reduce: [{kind: topk, k: 3}, {kind: mean}]}
analyses:
  asked: {kind: choice, stimuli: words}
run: {batch: {tokens: 256}}
"""
CAPTURES = ("all", "last", "maps", "around", "seen", "largest")
GATHERED = "captures:\n  mean: {of: words, site: z, reduce: {kind: mean, over: stimulus}}\n"


def run_in(folder: Path, text: str = SPEC, **options: Any) -> tuple[Result, int]:
    """Return a result, and how many passes were made for it beside those of guards."""
    folder.mkdir(exist_ok=True)
    (folder / "t.yaml").write_text(text)
    passes = [0]

    def tell(what: str, done: int, total: int) -> None:
        passes.append(done)
        assert done <= total

    found = run(
        folder / "t.yaml",
        **{"out": folder / "runs", "cache": folder / "cache", "progress": tell, **options},
    )
    return found, passes[-1]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, int]:
    text = SPEC.replace("tokens: 256}", "tokens: 256}, optimise: false")
    return run_in(tmp_path_factory.mktemp("oracle"), text)


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, int, Path]:
    folder = tmp_path_factory.mktemp("screened")
    return (*run_in(folder), folder)


def assert_same(found: Result, expected: Result) -> None:
    assert found.groups.keys() == expected.groups.keys()
    for name, data in found.groups.items():
        xr.testing.assert_allclose(data, expected.groups[name], rtol=1e-4, atol=2e-5)
        assert data.attrs == expected.groups[name].attrs


def test_what_stays_goes_through_the_model_once(
    screened: tuple[Result, int, Path], oracle: tuple[Result, int]
) -> None:
    asked = screened[0].groups["/stimuli/words"].attrs
    assert 20 < asked["n_kept"] < asked["n_asked"] - 20  # both are many batches
    assert oracle[1] > screened[1]
    plan = make_plan(load(screened[2] / "t.yaml"))
    assert screened[1] == plan.batches("words")


def test_it_gives_the_numbers_that_a_pass_of_its_own_gives(
    screened: tuple[Result, int, Path], oracle: tuple[Result, int]
) -> None:
    assert_same(screened[0], oracle[0])
    # Windows that do not fit, of stimuli that stay, are dropped here as there.
    around = screened[0].groups["/captures/around"].sizes["stimulus"]
    assert around <= screened[0].groups["/captures/all"].sizes["stimulus"]


def test_guards_look_at_what_it_gives(screened: tuple[Result, int, Path]) -> None:
    seen = {guard["on"] for guard in screened[0].guards}
    assert {f"captures/{name}" for name in CAPTURES} <= seen


def test_nothing_is_left_of_stimuli_that_go(screened: tuple[Result, int, Path]) -> None:
    assert not list((screened[2] / "cache").glob("screened/*/**"))
    assert not list((screened[2] / "cache").rglob("shards"))


def test_another_condition_asks_the_model_nothing_again(
    screened: tuple[Result, int, Path], tmp_path: Path
) -> None:
    text = SPEC.replace("20 * p_foil", "40 * p_foil").split("captures:")[0]
    text += "analyses:\n  asked: {kind: choice, stimuli: words}\n"
    found, passes = run_in(tmp_path, text, cache=screened[2] / "cache")
    assert passes == 0
    kept = found.groups["/stimuli/words"]["stimulus"].to_numpy()
    assert set(kept) < set(screened[0].groups["/stimuli/words"]["stimulus"].to_numpy())


def stop_after(count: int) -> Callable[[str, int, int], None]:
    def tell(what: str, done: int, total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return tell


def test_a_run_that_was_stopped_while_it_screened_goes_on(
    tmp_path: Path, oracle: tuple[Result, int], screened: tuple[Result, int, Path]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_in(tmp_path, progress=stop_after(3))
    # What does not meet the condition is not on the disk.
    (folder, *_) = (tmp_path / "cache").glob("screened/*/shards")
    held = open_shards(folder).done
    (asked,) = (tmp_path / "cache").glob("answers/*/shards")
    assert 0 < len(held) < len(open_shards(asked).done)
    found, passes = run_in(tmp_path)
    assert passes == screened[1] - 3
    assert_same(found, oracle[0])


def test_a_run_that_was_stopped_as_it_handed_on_goes_on(
    tmp_path: Path,
    oracle: tuple[Result, int],
    screened: tuple[Result, int, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from patchclamp.engine import screening

    write, count = screening.write_shard, 0

    def stopped(*of: Any) -> Path:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return write(*of)

    monkeypatch.setattr(screening, "write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_in(tmp_path)
    monkeypatch.undo()
    found, passes = run_in(tmp_path)
    assert passes == 0
    assert_same(found, oracle[0])


def test_a_shard_that_is_damaged_before_it_is_handed_on_is_measured_again(
    tmp_path: Path, oracle: tuple[Result, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from patchclamp.engine import screening

    hand_on = screening._hand_on

    def damaged(*of: Any) -> None:
        file = sorted((tmp_path / "cache").glob("screened/*/shards/*.safetensors"))[0]
        file.write_bytes(file.read_bytes()[:-9])
        hand_on(*of)

    monkeypatch.setattr(screening, "_hand_on", damaged)
    found, _ = run_in(tmp_path)
    assert_same(found, oracle[0])


def test_what_a_pass_gathers_over_stimuli_is_measured_of_what_stays(tmp_path: Path) -> None:
    text = SPEC.replace("captures:\n", GATHERED)
    plan = make_plan(load_text(tmp_path, text))
    said = describe_plan(plan, Cache(tmp_path / "cache"))
    assert "'keep_if' decides first what stays of words: the rest is at most this" in said
    assert "    the same pass does not give mean: measured after that" in said
    assert f"  {2 * plan.batches('words')} forward passes: 1 set clean" in said
    found, passes = run_in(tmp_path, text)
    assert plan.batches("words") < passes < 2 * plan.batches("words")
    whole = found.groups["/captures/last"]["activation"].mean("stimulus")
    mean = found.groups["/captures/mean"]["mean_over_stimulus"]
    expected = whole.isel(head=0).to_numpy()
    assert mean.isel(layer=0, head=1).to_numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("part", "along"),
    [("n: 47", False), ("n: 48", True), ("n: 24, by: category", True), ("n: 23, by: form", False)],
)
def test_of_a_set_of_which_little_is_taken_little_is_captured(
    tmp_path: Path, part: str, along: bool
) -> None:
    text = SPEC.replace("captures:\n", f"    take: {{{part}, fewer: true}}\ncaptures:\n")
    plan = make_plan(load_text(tmp_path, text.replace("labels: [", "labels: [form, ")))
    assert bool(taken_along(plan, "words")) == along


def load_text(folder: Path, text: str) -> Any:
    (folder / "t.yaml").write_text(text)
    return load(folder / "t.yaml")


def test_where_the_disk_has_no_room_for_all_it_is_measured_of_what_stays(
    tmp_path: Path, oracle: tuple[Result, int]
) -> None:
    text = SPEC.replace("tokens: 256}", "tokens: 256}, budget: {disk: 10MiB}")
    found, passes = run_in(tmp_path, text)
    assert passes == oracle[1]
    assert_same(found, oracle[0])


def test_a_plan_knows_what_has_been_kept(
    screened: tuple[Result, int, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATCHCLAMP_CACHE", str(screened[2] / "cache"))
    assert main(["plan", str(screened[2] / "t.yaml"), "--why"]) == 0
    told = capsys.readouterr().out
    asked = screened[0].groups["/stimuli/words"].attrs
    counts = f"{asked['n_kept']} of {asked['n_asked']}"
    assert f"'keep_if' has kept {counts} stimuli of words" in told
    assert "decides first" not in told
    assert "0 due, the rest is recorded already" in told
    assert "recompute" not in told


def test_a_server_is_asked_for_captures_of_what_stays_only(server: Any, tmp_path: Path) -> None:
    remote = SPEC.replace("tokens: 256", "tokens: 2048").replace("run: {", "run: {backend: ndif, ")
    before = len(server.log())
    found, passes = run_in(tmp_path, remote)
    screening = [job["down"] for job in server.log()[before : before + passes // 2]]
    assert max(screening) < 10_000
    assert sum(job["down"] for job in server.log()[before:]) > 1_000_000
    here, _ = run_in(tmp_path, remote.replace("backend: ndif, ", ""), cache=tmp_path / "here")
    assert_same(found, here)


def test_the_time_of_screening_alone_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCHCLAMP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "t.yaml").write_text(SPEC.split("captures:")[0])
    assert main(["plan", str(tmp_path / "t.yaml"), "--time"]) == 0
    told = capsys.readouterr().out
    assert " 1 forward pass: 1 set clean" in told
    assert "  time: about " in told


def test_cells_that_keep_other_stimuli_say_how_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPEC.replace("@step80", "").split("captures:")[0]
    text += "analyses:\n  asked: {kind: choice, stimuli: words}\n"
    text += "matrix: {grid: {model.revision: [step80, main]}}\n"
    (tmp_path / "t.yaml").write_text(text)
    assert main(["run", str(tmp_path / "t.yaml"), "--out", str(tmp_path / "runs")]) == 0
    (path,) = tmp_path.glob("runs/*/*/result.nc")
    with xr.open_dataset(path, group="/stimuli/words") as data:
        counts = data["n_kept"].to_series().to_dict()
        assert data["n_asked"].item() == 96
    assert counts["step80"] == 65
    assert counts["main"] > 65
    told = f"words  65 to {counts['main']} of 96 stimuli kept by what the model says"
    assert told in capsys.readouterr().out
    with xr.open_dataset(path, group="/analyses/asked") as data:
        each = data["p_right"].notnull().sum("stimulus").to_series().to_dict()
    assert each == counts
