"""A server gives what is given here: the same code, sent as source, over the same places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import remote
from patchclamp.engine.cli import main
from patchclamp.engine.plan import Plan, make_plan
from patchclamp.engine.plan_text import describe_plan
from patchclamp.engine.remote.backend import client_model, compact
from patchclamp.engine.remote.costs import check_remote
from patchclamp.engine.run import Result, run
from patchclamp.registry import MODELS
from patchclamp.registry.errors import DetachedError, SpecError, UsageError
from patchclamp.specs.load import load, loads

NDIF = "run: {backend: ndif, retry: {attempts: 2, backoff: 0.01s, patience: 20s}}\n"

SMALL = """\
patchclamp: 1
name: small
model: bundled:sequences
stimuli:
  words: {kind: items, text: "{text}", answer: {correct: " {next}", foil: " two"}, groups: none,
    items: [{text: one two three, next: four}, {text: two three, next: four},
      {text: six seven eight nine, next: ten}]}
captures: {resid: {of: words, site: resid_post}}
interventions: {none: {kind: ablate, value: zero}}
analyses:
  heads: {kind: ablation, stimuli: words, with: none, units: {site: z}, metric: logit_diff}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def differences(one: Result, other: Result) -> dict[str, float]:
    """Return what differs, and by how much at the most."""
    assert one.groups.keys() == other.groups.keys()
    found: dict[str, float] = {}
    for group, data in one.groups.items():
        assert data.sizes == other.groups[group].sizes
        for name, values in data.variables.items():
            a, b = values.to_numpy(), other.groups[group].variables[name].to_numpy()
            if a.dtype.kind == "f":
                assert (np.isnan(a) == np.isnan(b)).all()
                worst = float(np.nanmax(np.abs(a - b), initial=0.0))
            else:
                worst = float((a != b).any())
            if worst:
                found[f"{group}/{name}"] = worst
    return found


def test_the_quick_start_is_the_same_on_a_server(
    server: remote.Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(server.log())
    fewer = [f"analyses.{name}.test.n=99" for name in ("geometry", "discriminates", "coheres")]
    overrides = [*fewer, "run.backend=ndif"]
    there = run("quickstart", out=tmp_path, cache=tmp_path / "there", overrides=overrides)
    # Conditions run whole there; packed as there, nothing at all differs here.
    monkeypatch.setattr(Plan, "remote", True)
    same = run("quickstart", out=tmp_path, cache=tmp_path / "same", overrides=fewer)
    assert differences(there, same) == {}
    jobs = server.log()[before:]
    stimuli, conditions = 240, 12
    assert sum(job["down"] for job in jobs) / stimuli < 20_000
    assert sum(job["down"] for job in jobs[10:]) / (stimuli * conditions) < 1_000
    notes = [guard["on"] for guard in there.guards if guard["verdict"] == "not checked"]
    assert any("z W_O + b_O = attn_out" in note for note in notes)
    assert any("known by the name of their revision alone" in note for note in notes)


def test_savings_that_only_a_local_run_takes_change_no_number(
    server: remote.Served, tmp_path: Path
) -> None:
    path = written(tmp_path, SMALL)
    here = run(path, out=tmp_path / "here", cache=tmp_path / "c1")
    path.write_text(SMALL + NDIF)
    server.fails(env={"torch": "2.1.0"})
    said: list[str] = []
    there = run(path, out=tmp_path / "there", cache=tmp_path / "c2",
                progress=lambda what, *_: said.append(what))  # fmt: skip
    assert all(value < 1e-4 for value in differences(here, there).values())
    made = json.loads(open_attributes(there.path)["provenance"])
    assert any("runs other versions: torch 2.1.0 there, " in what for what in said)
    assert [one["package"] for one in made["server"]["differs"]] == ["torch"]
    assert {record["server"]["host"] for record in made["records"].values()} == {server.url}
    assert made["wire"]["requests"] == 5  # clean, conditions, and three of guards
    assert made["server"]["host"] == server.url
    assert made["device"] == "server"
    assert made["server"]["versions"]["nnsight"] == made["versions"]["nnsight"]
    assert made["model"]["weights_sha256"] == "served:bundled:sequences@main:main"


def open_attributes(path: Path) -> dict[str, Any]:
    import xarray as xr

    with xr.open_dataset(path, engine="netcdf4") as data:
        return dict(data.attrs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            SMALL.replace("resid_post}", "resid_post, gradient: {of: logit_diff}}"),
            "captures.resid.gradient: a gradient is recorded, and the backend 'ndif' has no "
            "gradients: none comes back through the sandbox",
        ),
        (
            SMALL.replace("bundled:sequences", "{id: bundled:sequences, weights: random}"),
            "model.weights: weights are random, and the backend 'ndif' has no weights drawn anew: "
            "a server holds trained ones",
        ),
        (
            SMALL.replace(
                "{kind: ablation, stimuli: words, with: none, ",
                "{kind: attribution, clean: words, corrupt: words, gradient_at: clean, "
                "direction: noising, ",
            ).replace("units: {site: z}", "units: [{site: z}]"),
            "analyses.heads: attribution is computed from gradients, and the backend 'ndif' has no",
        ),
    ],
)
def test_what_a_server_cannot_do_is_told_by_validate(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text + NDIF)
    assert said in str(caught.value)
    assert "P316" in str(caught.value)


def test_a_backend_that_is_trusted_gives_the_same_gradients(
    server: remote.Served, tmp_path: Path
) -> None:
    text = SMALL.replace("resid_post}", "resid_post, gradient: {of: logit_diff}}")
    path = written(tmp_path, text)
    here = run(path, out=tmp_path / "here", cache=tmp_path / "c1")
    path.write_text(text + NDIF.replace("ndif", "ndif_trusted"))
    there = run(path, out=tmp_path / "there", cache=tmp_path / "c2")
    a, b = (of.groups["/captures/resid"]["gradient"].to_numpy() for of in (here, there))
    assert np.array_equal(a, b)
    assert np.abs(a).max() > 0


def test_a_plan_says_what_crosses_the_wire(server: remote.Served, tmp_path: Path) -> None:
    plan = make_plan(load("quickstart", ["run.backend=ndif"]))
    check_remote(plan)
    text = describe_plan(plan)
    assert "requests and a few more that guards make; about" in text
    assert "captures.resid: 282 kB down" in text
    assert "interventions: 82.1 kB down" in text
    assert "answers of words: 300 kB down" in text


def test_whole_activations_are_refused_where_a_reduction_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = "captures.wide={site: resid_post, positions: all"
    whole = ["run.backend=ndif", f"{wide}}}"]
    monkeypatch.setattr("patchclamp.engine.remote.costs.WORTH", 1 << 20)
    with pytest.raises(SpecError) as caught:
        check_remote(make_plan(load("quickstart", whole)))
    told = str(caught.value)
    assert "P427" in told
    assert "captures.wide would bring" in told
    assert "'positions: last' brings 276 kB" in told
    assert "'reduce: norm' brings" in told
    check_remote(make_plan(load("quickstart", [*whole, "run.budget.download=1GiB"])))
    check_remote(make_plan(load("quickstart", ["run.backend=ndif", f"{wide}, reduce: norm}}"])))
    with pytest.raises(
        SpecError, match=r"the server would send .* and may send 10.2 kB; the most is"
    ):
        check_remote(make_plan(load("quickstart", [*whole, "run.budget.download=10KiB"])))


def test_a_folder_is_no_name_for_a_server(tmp_path: Path) -> None:
    folder = MODELS["bundled:sequences"].path("main")
    with pytest.raises(SpecError, match="is a folder here; a server knows models by their hub ids"):
        check_remote(make_plan(loads(SMALL.replace("bundled:sequences", str(folder)) + NDIF)))


def test_the_client_holds_no_weights() -> None:
    source = make_plan(loads(SMALL + NDIF)).model
    assert {p.device.type for p in client_model(source)._module.parameters()} == {"meta"}


def test_no_tensor_is_sent_with_what_it_is_a_part_of() -> None:
    large = torch.arange(1000)
    sent = compact({"a": large[:2], "b": [large[:2], large]}, {})
    assert sent["a"].untyped_storage().nbytes() == 16
    assert sent["b"][1] is large
    twice = large[:2]
    assert len({id(tensor) for tensor in compact([twice, twice], {})}) == 1


def test_detached_work_is_collected_by_the_next_run(
    server: remote.Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, SMALL + NDIF)
    how = {"out": tmp_path, "cache": tmp_path / "cache"}
    before = len(server.log())
    server.fails(queue=["Added to Queue at position 3."], delay=0.2)
    with pytest.raises(DetachedError, match=r"1 request is with http://127\.0\.0\.1.* not waited"):
        run(path, detach=True, **how)
    run(path, **how)
    sent = len(server.log()) - before
    other = {"out": tmp_path, "cache": tmp_path / "other"}
    run(path, **other)
    assert len(server.log()) - before == 2 * sent  # nothing was sent twice
    assert not list((tmp_path / "cache" / "jobs").iterdir())
    with pytest.raises(UsageError, match="--detach leaves work to a server; the backend 'nnsight'"):
        run(written(tmp_path, SMALL), detach=True, **how)


def test_detaching_is_no_failure(
    server: remote.Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATCHCLAMP_CACHE", str(tmp_path / "cache"))
    server.fails(queue=["Added to Queue at position 3."], delay=0.2)
    path = written(tmp_path, SMALL + NDIF)
    assert main(["run", str(path), "--out", str(tmp_path), "--detach"]) == 0
    assert "run the spec again, without --detach" in capsys.readouterr().err
    assert main(["run", str(path), "--out", str(tmp_path)]) == 0
    assert "guards passed, 4 not checked" in capsys.readouterr().out


EDGES = """\
patchclamp: 1
name: edges
model: bundled:sequences
stimuli:
  words: {kind: builtin, set: sequences, text: "{prompt}", groups: template,
    answer: {correct: " {next}", foil: " {last}"}, where: category == 'numerals', take: {n: 4}}
  scrambled: {kind: corrupt, of: words, slots: shuffle}
interventions: {other: {kind: patch, source: scrambled, allow_no_effect: true}}
analyses:
  slopes: {kind: attribution, of: edges, clean: words, corrupt: scrambled, metric: logit_diff,
    direction: noising, gradient_at: integrated, steps: 2}
  found:
    kind: circuit
    stimuli: words
    with: other
    units: {site: z}
    metric: logit_diff
    circuits: {both: {kind: given, nodes: [L0H0, L1H1]}}
    edges: {keep_above: 0.9}
    random: 2
"""


def test_gradients_and_edges_on_a_server_that_trusts_the_key(
    server: remote.Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, EDGES + NDIF.replace("ndif", "ndif_trusted"))
    there = run(path, out=tmp_path / "there", cache=tmp_path / "c1")
    path.write_text(EDGES)
    monkeypatch.setattr(Plan, "remote", True)
    here = run(path, out=tmp_path / "here", cache=tmp_path / "c2")
    # Here only the columns of answers are unembedded, and so summed in another order.
    assert all(value < 1e-4 for value in differences(there, here).values())


def test_what_only_a_plan_can_tell_is_refused_before_anything_is_sent(
    server: remote.Served, tmp_path: Path
) -> None:
    before = len(server.events())
    with pytest.raises(SpecError) as caught:
        loads(EDGES + NDIF)
    told = str(caught.value)
    assert "analyses.slopes: attribution is computed from gradients, and the backend 'ndif'" in told
    assert "analyses.found.edges: edges are cut by what norms and projections do, and the" in told
    heads = SMALL.rpartition("  heads:")[0]
    text = heads + "  texts: {kind: steering, with: [none], generate: {max_new_tokens: 2}}\n"
    with pytest.raises(SpecError, match=r"analyses.texts.generate: texts are continued, and the"):
        loads(text + NDIF)
    assert len(server.events()) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("metric: logit_diff", "metric: kl"),
        ("metric: logit_diff", "metric: cross_entropy"),
        ("units: {site: z}", "units: {site: attn_pattern, layers: 1, heads: 0}"),
        (
            "captures: {resid: {of: words, site: resid_post}}",
            "captures: {maps: {of: words, site: attn_pattern, positions: all}, logits: {of: words, "
            "site: logits}, sizes: {of: words, site: mlp_out, positions: all, reduce: [norm, topk]}"
            ", mean: {of: words, site: resid_post, reduce: {kind: mean, over: stimulus}}}",
        ),
    ],
    ids=["divergence", "text", "pattern", "captures"],
)
def test_other_questions_are_answered_the_same_on_a_server(
    server: remote.Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    assert SMALL.count(old) == 1
    path = written(tmp_path, SMALL.replace(old, new) + NDIF)
    there = run(path, out=tmp_path / "there", cache=tmp_path / "c1")
    monkeypatch.setattr(Plan, "remote", True)
    path.write_text(SMALL.replace(old, new))
    assert differences(there, run(path, out=tmp_path / "here", cache=tmp_path / "c2")) == {}
