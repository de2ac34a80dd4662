"""A whole run on a tiny model: what is written, what is not, and what changes no number."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
import xarray as xr
from transformers import AutoModelForCausalLM

import tiny
from patchclamp.engine import run
from patchclamp.engine.terminal import next_steps
from patchclamp.registry.errors import AnalysisError, GuardError, ModelError, SpecError

SPEC = """\
patchclamp: 1
name: tiny
model: models/{architecture}
stimuli:
  words:
    kind: csv
    path: words.csv
    text: "{{text}}"
    labels: [kind_of]
    groups: pair
    answer: {{correct: " {{right}}", foil: " {{wrong}}"}}
captures:
  last: {{site: resid_post}}
  heads: {{site: z, layers: [2, 0], positions: all}}
  first: {{site: mlp_out, layers: last, positions: first}}
interventions:
  mean: {{kind: ablate, value: {{mean_over: words, per: position}}}}
analyses:
  effect: {{kind: ablation, units: {{site: z, layers: 1}}, metric: {{kind: logit_diff}}}}
run: {{backend: {backend}, device: cpu, batch: {{tokens: {tokens}}}}}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for architecture in tiny.CONFIGS:
        tiny.make(architecture, folder / architecture)
    return folder


@pytest.fixture
def folder(tmp_path: Path, models: Path) -> Path:
    (tmp_path / "models").symlink_to(models)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        text = " ".join(f"w{i}" for i in rng.integers(0, 60, size=3 + number % 5))
        right, wrong = rng.choice(60, size=2, replace=False)
        rows.append(f"s{number},{text},{'xy'[number % 2]},p{number // 2},w{right},w{wrong}")
    header = "id,text,kind_of,pair,right,wrong"
    (tmp_path / "words.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


def run_spec(
    folder: Path, architecture: str = "llama", *, backend: str = "nnsight", tokens: int = 8192
) -> xr.DataTree:
    text = SPEC.format(architecture=architecture, backend=backend, tokens=tokens)
    (folder / "t.yaml").write_text(text)
    # A cache of its own, or the second of two runs would read what the first has measured.
    result = run(folder / "t.yaml", out=folder / "runs", cache=mkdtemp(dir=folder))
    return xr.open_datatree(result.path, engine="netcdf4").load()


def assert_same(a: xr.DataTree, b: xr.DataTree, tolerance: float) -> None:
    """Every variable is equal, up to a tolerance relative to its largest value."""
    assert [node.path for node in a.subtree] == [node.path for node in b.subtree]
    for node in a.subtree:
        ours, other = node.to_dataset(), b[node.path].to_dataset()
        assert set(ours.variables) == set(other.variables)
        for name in ours.variables:
            if ours[name].dtype.kind == "f":
                scale = float(np.nanmax(np.abs(ours[name])))
                np.testing.assert_allclose(ours[name], other[name], rtol=0, atol=tolerance * scale)
            else:
                assert ours[name].identical(other[name]), name


@pytest.mark.parametrize("architecture", list(tiny.CONFIGS))
def test_batches_and_backends_change_no_number(folder: Path, architecture: str) -> None:
    whole = run_spec(folder, architecture)
    assert_same(whole, run_spec(folder, architecture, tokens=1), 1e-5)
    assert_same(whole, run_spec(folder, architecture, tokens=20), 1e-5)
    assert_same(whole, run_spec(folder, architecture, backend="hooks"), 1e-6)


def test_captures_equal_a_plain_forward_of_each_stimulus_alone(folder: Path) -> None:
    tree = run_spec(folder)
    module = AutoModelForCausalLM.from_pretrained(folder / "models" / "llama").eval()
    stimuli, last = tree["stimuli/words"], tree["captures/last"]
    for number, stimulus in enumerate(stimuli["stimulus"].to_numpy()):
        ids = stimuli["token_id"].sel(stimulus=stimulus).to_numpy()
        with torch.no_grad():
            states = module(
                torch.from_numpy(ids[ids >= 0]).long()[None], output_hidden_states=True
            ).hidden_states
        # hidden_states[-1] is after the final norm, so the last layer is not compared here
        for layer in (0, 1):
            ours = last["activation"].sel(stimulus=stimulus, layer=layer, position=0)
            expected = states[layer + 1][0, -1].numpy()
            np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
        assert int(last["token_id"].sel(stimulus=stimulus, position=0)) == ids[ids >= 0][-1]
        assert stimuli["n_tokens"].to_numpy()[number] == (ids >= 0).sum()


def test_layers_are_labels_and_padding_is_masked(folder: Path) -> None:
    heads = run_spec(folder)["captures/heads"].to_dataset()
    assert heads["activation"].dims == ("stimulus", "layer", "head", "position", "channel")
    assert heads["layer"].to_numpy().tolist() == [2, 0]
    real = heads["mask"].broadcast_like(heads["activation"])
    assert bool((heads["activation"].isnull() == ~real).all())
    assert heads["mask"].dtype == bool
    assert set(heads["activation"].coords) >= {"kind_of", "group", "token_id"}


def test_the_result_says_how_it_was_made(folder: Path) -> None:
    tree = run_spec(folder)
    made = json.loads(tree.attrs["provenance"])
    assert made["spec"] == (folder / "t.yaml").read_text()
    assert made["resolved"]["captures"]["last"]["of"] == "words"
    assert made["digest"] == tree.attrs["digest"]
    assert len(made["model"]["weights_sha256"]) == 64
    assert made["versions"]["nnsight"].startswith("0.8")
    assert {g["guard"] for g in made["guards"]} == {
        "finite",
        "intervention had effect",
        "batched = alone",
        "site identity",
        "precision",
        "truncation",
        "double BOS",
    }
    assert all(g["verdict"] == "ok" and g["value"] <= g["limit"] for g in made["guards"])
    (run_folder,) = (folder / "runs" / "tiny").iterdir()
    assert run_folder.name == tree.attrs["digest"][:8]
    names = sorted(path.name for path in run_folder.iterdir())
    assert names == ["resolved.yaml", "result.nc", "spec.yaml"]


def test_a_resolved_spec_runs_to_the_same_digest(folder: Path) -> None:
    tree = run_spec(folder)
    (run_folder,) = (folder / "runs" / "tiny").iterdir()
    again = folder / "again.yaml"
    again.write_text((run_folder / "resolved.yaml").read_text())
    result = run(again, out=folder / "runs")
    assert result.path == run_folder / "result.nc"
    assert_same(tree, xr.open_datatree(result.path, engine="netcdf4").load(), 0)


@pytest.mark.parametrize(
    ("overrides", "copied"), [((), "spec.yaml"), (("seed=7",), "resolved.yaml")]
)
def test_the_file_to_go_on_from_holds_the_overrides(
    folder: Path, overrides: tuple[str, ...], copied: str
) -> None:
    text = SPEC.format(architecture="llama", backend="hooks", tokens=8192)
    (folder / "t.yaml").write_text(text)
    result = run(folder / "t.yaml", overrides=overrides, out=folder / "runs")
    told = next_steps(result)[-1]
    copy = result.path.with_name(copied)
    assert told == f"make it yours  cp {copy} mine.yaml, change it, patchclamp validate mine.yaml"
    (folder / "mine.yaml").write_text(copy.read_text())
    assert run(folder / "mine.yaml", out=folder / "runs").path == result.path


def test_mean_ablation_equals_the_mean_put_in_by_hand(folder: Path) -> None:
    tree = run_spec(folder)
    z = tree["captures/heads"]["activation"]
    assert 1 not in z["layer"]  # so compute layer 1's mean here, with plain hooks
    module = AutoModelForCausalLM.from_pretrained(folder / "models" / "llama").eval()
    stimuli = tree["stimuli/words"]
    rows = [ids[ids >= 0] for ids in stimuli["token_id"].to_numpy()]
    seen: list[torch.Tensor] = []
    projection = module.model.layers[1].self_attn.o_proj
    hook = projection.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    with torch.no_grad():
        for ids in rows:
            module(torch.from_numpy(ids).long()[None])
    hook.remove()
    head, size = 2, 12
    mean = [
        torch.stack([z[p] for z in seen if len(z) > p]).mean(0) for p in range(max(map(len, rows)))
    ]

    def ablate(_: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        changed = args[0].clone()
        for position in range(changed.shape[1]):
            part = slice(head * size, (head + 1) * size)
            changed[0, position, part] = mean[position][part]
        return (changed,)

    projection.register_forward_pre_hook(ablate)
    expected = []
    for row, ids in enumerate(rows):
        with torch.no_grad():
            logits = module(torch.from_numpy(ids).long()[None]).logits[0, -1]
        correct, foil = (int(stimuli[f"{part}_id"][row]) for part in ("correct", "foil"))
        expected.append(float(logits[correct] - logits[foil]))
    ours = tree["analyses/effect"]["logit_diff"].sel(layer=1, head=head)
    np.testing.assert_allclose(ours.to_numpy(), expected, atol=1e-4)
    clean = tree["analyses/effect"]["logit_diff_clean"]
    assert float(np.abs(ours - clean).max()) > 1e-3


def test_nothing_is_written_for_a_refused_spec(folder: Path) -> None:
    (folder / "t.yaml").write_text(
        SPEC.format(architecture="llama", backend="nnsight", tokens=9).replace("[2, 0]", "[2, 9]")
    )
    with pytest.raises(SpecError, match="there is no layer 9"):
        run(folder / "t.yaml", out=folder / "runs")
    assert not (folder / "runs").exists()


def test_an_analysis_without_an_answer_writes_nothing(folder: Path) -> None:
    text = SPEC.format(architecture="llama", backend="nnsight", tokens=999)
    (folder / "t.yaml").write_text(
        text.replace("{kind: logit_diff}", "{kind: logit_diff}, share: true")
    )
    with pytest.raises(AnalysisError, match=r"analyses\.effect: a share of the clean baseline"):
        run(folder / "t.yaml", out=folder / "runs")
    assert not (folder / "runs").exists()


def test_an_untrained_twin_is_seeded_and_another_model(folder: Path) -> None:
    text = SPEC.format(architecture="llama", backend="nnsight", tokens=999).replace(
        "model: models/llama", "model: {id: models/llama, weights: random}"
    )
    results = []
    for seed in (0, 0, 1):
        (folder / "t.yaml").write_text(text.replace("name: tiny", f"name: tiny\nseed: {seed}"))
        made = run(folder / "t.yaml", out=folder / "runs")
        results.append(made.groups["/captures/last"]["activation"])
    assert results[0].identical(results[1])
    assert not np.allclose(results[0], results[2])


def test_weights_that_do_not_fit_the_config_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    broken = tiny.make("llama", tmp_path / "own" / "llama")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    text = SPEC.format(architecture="llama", backend="nnsight", tokens=99)
    (folder / "t.yaml").write_text(text.replace("models/llama", "own/llama"))
    with pytest.raises(ModelError, match=r"do not fit the config: \{'missing_keys'"):
        run(folder / "t.yaml", out=folder / "runs")


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    model = tiny.make("llama", tmp_path / "own" / "llama")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    text = SPEC.format(architecture="llama", backend="nnsight", tokens=99)
    (folder / "t.yaml").write_text(text.replace("models/llama", "own/llama"))
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors weights"):
        run(folder / "t.yaml", out=folder / "runs")


def test_a_model_that_yields_nan_is_caught_and_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    model = tiny.make("llama", tmp_path / "own" / "llama")
    module = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    module.save_pretrained(model)
    text = SPEC.format(architecture="llama", backend="nnsight", tokens=99)
    (folder / "t.yaml").write_text(text.replace("models/llama", "own/llama"))
    with pytest.raises(GuardError, match="capture 'last': stimulus 's4' at layer 1 holds NaN"):
        run(folder / "t.yaml", out=folder / "runs")
    assert not (folder / "runs").exists()


def test_a_device_that_is_not_there_is_an_error(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    text = SPEC.format(architecture="llama", backend="nnsight", tokens=99)
    (folder / "t.yaml").write_text(text.replace("device: cpu", "device: cuda"))
    with pytest.raises(ModelError, match="device 'cuda' is not available here"):
        run(folder / "t.yaml", out=folder / "runs")


def test_a_label_that_a_result_would_overwrite_is_refused(tmp_path: Path) -> None:
    items = "[{t: one two, accuracy: high}, {t: two three, accuracy: low}]"
    (tmp_path / "t.yaml").write_text(
        "patchclamp: 1\nname: t\nmodel: bundled:sequences\nstimuli:\n"
        f"  words: {{kind: items, text: '{{t}}', labels: [accuracy], items: {items},\n"
        "    answer: {correct: ' four', foil: ' five'}}\n"
        "analyses: {solved: {kind: choice, stimuli: words}}\n"
    )
    message = "analyses.solved: the label 'accuracy' is also the name of a number that this"
    with pytest.raises(AnalysisError, match=message):
        run(tmp_path / "t.yaml", out=tmp_path / "runs")
