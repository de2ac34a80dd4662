"""Conditions in sessions: what they begin with stays on the server, and results keep in a limit."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_remote import NDIF, differences, open_attributes, written

import remote
from patchclamp.engine.efforts import all_passes, changed_effort
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.engine.plan_text import describe_plan
from patchclamp.engine.remote.backend import Ndif, Pass
from patchclamp.engine.remote.costs import check_remote
from patchclamp.engine.run import Result, run
from patchclamp.registry import BACKENDS
from patchclamp.registry.errors import RemoteError, SpecError
from patchclamp.specs.load import load, loads

STUDY = """\
patchclamp: 1
name: sessions
model: bundled:sequences
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", groups: template,
    answer: {correct: " {next}", foil: " {last}"}, where: category == 'numerals', take: {n: 12}}
captures: {resid: {of: words, site: resid_post}}
interventions:
  zero: {kind: ablate, value: zero}
  mean: {kind: ablate, value: {mean_over: words, per: position}, allow_no_effect: true}
analyses:
  heads: {kind: ablation, stimuli: words, with: zero, units: {site: z}, metric: METRIC}
  late: {kind: ablation, stimuli: words, with: mean, units: {site: z, positions: last},
    metric: METRIC}
"""


def study(metric: str = "logit_diff", more: str = "") -> str:
    """Return a spec that is measured on a server, with `more` under `run`."""
    return STUDY.replace("METRIC", metric) + NDIF.replace("{backend", f"{{{more}backend")


def here(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, backend: str) -> Result:
    """Run a spec here, in the passes that it takes on a server."""
    row = BACKENDS["nnsight"]._replace(past=BACKENDS[backend].past)
    monkeypatch.setitem(BACKENDS._entries, "nnsight", row)
    monkeypatch.setattr(Plan, "remote", True)
    path = written(folder, text.replace(f"backend: {backend},", "backend: nnsight,"))
    return run(path, out=folder / "here", cache=folder / "here-cache")


@pytest.mark.parametrize("backend", ["ndif", "ndif_trusted"])
@pytest.mark.parametrize("metric", ["logit_diff", "kl", "js"])
def test_a_session_gives_what_is_given_here(
    server: remote.Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    metric: str,
) -> None:
    text = study(metric).replace("ndif", backend)
    path = written(tmp_path, text)
    plan, before = make_plan(load(path)), len(server.log())
    there = run(path, out=tmp_path / "there", cache=tmp_path / "there-cache")
    jobs = server.log()[before:]
    wire = json.loads(open_attributes(there.path)["provenance"])["wire"]
    assert wire["requests"] == len(jobs)
    units, sessions = 12 * 2 * 12, changed_effort(plan).requests
    assert sessions < 24  # one request for each condition
    # A condition begins with what is left on the server, and its answers alone come back.
    assert sum(job["down"] for job in jobs[-sessions:]) / units < 1_000
    assert differences(there, here(tmp_path, text, monkeypatch, backend)) == {}


def test_without_savings_a_server_and_this_machine_do_the_very_same(
    server: remote.Served, tmp_path: Path
) -> None:
    """Nothing is packed or skipped on either side, and no number differs."""
    text = study("kl", "optimise: false, ")
    there = run(written(tmp_path, text), out=tmp_path / "there", cache=tmp_path / "c1")
    plain = written(tmp_path, text.replace("backend: ndif,", "backend: nnsight,"))
    assert differences(there, run(plain, out=tmp_path / "here", cache=tmp_path / "c2")) == {}


def test_sessions_change_no_number_beyond_rounding(server: remote.Served, tmp_path: Path) -> None:
    found = [
        run(written(tmp_path, study("kl", more)), out=tmp_path / str(n), cache=tmp_path / f"c{n}")
        for n, more in enumerate(["", "optimise: false, "])
    ]
    for name in ("heads", "late"):
        a, b = (of.analysis(name)["kl"].to_numpy() for of in found)
        assert np.abs(a).max() > 0.01
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())


def test_a_plan_says_what_sessions_save() -> None:
    plan = make_plan(loads(study().replace("ndif", "ndif_trusted")))
    effort = changed_effort(plan)
    assert effort.work < changed_effort(plan, optimise=False).work / 2
    said = describe_plan(plan)
    assert (
        f"24 conditions in {effort.requests} sessions of {effort.passes} passes, worth "
        f"{effort.work:.3g} whole ones; what they begin with stays there"
    ) in said


@pytest.mark.parametrize(
    ("old", "new", "limit"),
    [
        ("site: resid_post}", "site: resid_post, positions: all}", 160),
        ("where: category == 'numerals', take: {n: 12}", "take: {n: 60}", 100),
    ],
    ids=["captures", "answers"],
)
def test_results_keep_within_a_servers_limit(
    server: remote.Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    limit: int,
) -> None:
    server.fails(limit=limit << 10)
    assert old in STUDY
    text = study().replace(old, new)
    with pytest.raises(RemoteError, match=r"a result of \d+ bytes is too large"):
        run(written(tmp_path, text), out=tmp_path, cache=tmp_path / "c0")
    before = len(server.log())
    text = study(more=f"batch: {{result: {limit}KiB}}, ").replace(old, new)
    path = written(tmp_path, text)
    plan = make_plan(load(path))
    there = run(path, out=tmp_path / "there", cache=tmp_path / "c1")
    jobs = server.log()[before:]
    assert max(job["size"] for job in jobs) <= limit << 10
    whole = make_plan(loads(study().replace(old, new)))
    assert all_passes(plan) > all_passes(whole)
    told = re.search(r"at most (\S+) kB for one of them", describe_plan(plan))
    assert told is not None
    assert float(told[1]) * 1000 <= limit << 10
    assert differences(there, here(tmp_path, text, monkeypatch, "ndif")) == {}


def test_what_no_request_can_bring_is_refused_with_what_would_be_less() -> None:
    whole = "captures: {resid: {of: words, site: resid_post, positions: all}}"
    text = study(more="batch: {result: 8KiB}, ").replace(
        "captures: {resid: {of: words, site: resid_post}}", whole
    )
    text = text.replace("value: {mean_over: words, per: position}, ", "value: zero, ")
    with pytest.raises(SpecError) as caught:
        check_remote(make_plan(loads(text)))
    told = str(caught.value)
    assert "P427" in told
    assert "one stimulus brings " in told
    assert "in one request, and 'run.batch.result' allows 8.19 kB" in told
    assert "captures.resid: 'positions: last' brings" in told
    assert "'reduce: norm' brings" in told


def test_memory_that_runs_out_in_a_session_halves_it(
    server: remote.Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, sizes = Ndif.relay, []

    def small(self: Ndif, passes: Sequence[Pass]) -> Any:
        sizes.append(len(passes))
        if sum(len(one["inputs"]["input_ids"]) for one in passes) > 60:
            raise MemoryError
        return relay(self, passes)

    text = study("kl")
    expected = run(written(tmp_path, text), out=tmp_path, cache=tmp_path / "c1")
    monkeypatch.setattr(Ndif, "relay", small)
    found = run(written(tmp_path, text), out=tmp_path, cache=tmp_path / "c2")
    assert max(sizes) > 2
    assert all(value < 1e-4 for value in differences(found, expected).values())


def test_what_sessions_have_given_before_a_failure_is_kept(
    server: remote.Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, done = Ndif.relay, []

    def failing(self: Ndif, passes: Sequence[Pass]) -> Any:
        if len(passes) > 1:
            done.append(passes)
            if len(done) == 2:
                raise RemoteError("boom")
        return relay(self, passes)

    text = study("kl", "batch: {tokens: 200}, ")
    with monkeypatch.context() as patch:
        patch.setattr(Ndif, "relay", failing)
        patch.setattr(Ndif, "send", lambda *_: None)
        with pytest.raises(RemoteError, match="boom"):
            run(written(tmp_path, text), out=tmp_path, cache=tmp_path / "c1")
    before = len(server.log())
    run(written(tmp_path, text), out=tmp_path, cache=tmp_path / "c1")
    again = len(server.log())
    run(written(tmp_path, text), out=tmp_path, cache=tmp_path / "c2")
    assert changed_effort(make_plan(loads(text))).requests > 2
    assert again - before < len(server.log()) - again
