"""Locks: what a spec read is written down, and a change of any of it is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tiny
from patchclamp.engine import cli
from patchclamp.engine.lock import check_locked, lock_path, make_lock, refuse_unlocked
from patchclamp.registry.errors import SpecError, StoreError
from patchclamp.specs.document import parse
from patchclamp.specs.load import load

SPEC = """\
patchclamp: 1
name: t
model: {id: llama}
stimuli:
  words: {kind: csv, path: words.csv, text: "{text}", groups: none}
captures:
  resid: {site: resid_post}
"""
MATRIX = SPEC + "matrix: {grid: {model.id: [llama, gpt2], captures.resid.layers: [0, 1]}}\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for architecture in ("llama", "gpt2"):
        tiny.make(architecture, folder / architecture)
    return folder


@pytest.fixture
def spec(tmp_path: Path, models: Path) -> Path:
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    (tmp_path / "words.csv").write_text("id,text\na,w1 w2\nb,w3 w4\n")
    path = tmp_path / "t.yaml"
    path.write_text(SPEC)
    return path


def lock(spec: Path) -> Path:
    assert cli.main(["lock", str(spec)]) == 0
    return lock_path(load(spec))


def said(spec: Path) -> list[tuple[str, str, int, int, str]]:
    return [(d.code, d.severity, d.line, d.column, d.message) for d in check_locked(load(spec))]


def test_a_lock_is_written_beside_the_spec_and_holds(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lock(spec)
    assert path == spec.with_name("t.lock.yaml")
    assert capsys.readouterr().out == (
        f"wrote {path}; check against it with: patchclamp validate --locked {spec}\n"
    )
    assert said(spec) == []
    refuse_unlocked(str(spec))
    text = path.read_text()
    lock(spec)
    assert path.read_text() == text
    assert str(spec.parent) not in text
    assert cli.main(["validate", "--locked", str(spec)]) == 0


def test_a_lock_says_what_was_read(spec: Path) -> None:
    made = make_lock(load(spec))
    assert list(made) == ["patchclamp_lock", "spec", "overrides", "versions", "cells"]
    (cell,) = made["cells"]
    assert cell["set"] == {}
    assert cell["digest"] == load(spec).cells[0].digest
    assert list(cell["model"]) == [
        "id",
        "revision",
        "weights_sha256",
        "config_sha256",
        "tokenizer_sha256",
    ]
    assert cell["model"]["revision"] == "local"
    assert all(len(h) == 64 for key, h in cell["model"].items() if key.endswith("sha256"))
    assert list(cell["stimuli_sha256"]) == ["words"]
    document, wrong = parse(lock(spec).read_text())
    assert not wrong
    assert document is not None
    assert document.value["cells"][0]["model"] == cell["model"]


def test_a_matrix_has_an_entry_for_each_cell(spec: Path) -> None:
    spec.write_text(MATRIX)
    cells = make_lock(load(spec))["cells"]
    assert [cell["set"] for cell in cells] == [
        {"model.id": m, "captures.resid.layers": n} for m in ("llama", "gpt2") for n in (0, 1)
    ]
    assert len({cell["model"]["weights_sha256"] for cell in cells}) == 2
    lock(spec)
    assert said(spec) == []
    spec.write_text(MATRIX.replace("[0, 1]", "[0, 2]"))
    first = "the cell model.id=llama, captures.resid.layers=2"
    assert [d[0] for d in said(spec)] == ["P423"] * 2
    assert f"{first} is not pinned in t.lock.yaml; lock it again" in {d[4] for d in said(spec)}


def test_a_lock_holds_for_the_overrides_it_was_written_with(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = ["--set", "model.id=gpt2", "--set", "description=two words"]
    assert cli.main(["lock", str(spec), *over]) == 0
    path = lock_path(load(spec))
    assert capsys.readouterr().out == (
        f"wrote {path}; check against it with: patchclamp validate --locked {spec} "
        "--set model.id=gpt2 --set 'description=two words'\n"
    )
    assert cli.main(["validate", "--locked", str(spec), *over]) == 0
    (cell,) = make_lock(load(spec, over[1::2]))["cells"]
    assert cell["model"]["id"] == "gpt2"
    [(code, severity, _, _, message)] = said(spec)
    assert (code, severity) == ("P424", "error")
    assert message == (
        "locked with other overrides (--set): model.id=gpt2 'description=two words'; here: none; "
        "give the same, or lock it again"
    )
    refuse_unlocked(str(spec), over[1::2])
    with pytest.raises(SpecError, match="locked with other overrides"):
        refuse_unlocked(str(spec), ["model.id=llama"])


def test_without_a_lock_nothing_is_pinned(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec.with_name("t.lock.yaml")
    message = f"nothing is pinned: there is no {path}; write it with: patchclamp lock {spec}"
    assert said(spec) == [("P423", "error", 1, 1, message)]
    assert cli.main(["validate", "--locked", str(spec)]) == 1
    assert message in capsys.readouterr().out
    with pytest.raises(SpecError, match="nothing is pinned"):
        refuse_unlocked(str(spec))
    assert cli.main(["run", "--locked", str(spec), "--out", str(spec.parent / "runs")]) == 1
    assert "nothing is pinned" in capsys.readouterr().err
    assert not (spec.parent / "runs").exists()


@pytest.mark.parametrize(
    "text", ["", "a: [", "patchclamp_lock: 2\n", "patchclamp_lock: 1\nversions: {}\ncells: [1]\n"]
)
def test_a_file_that_is_no_lock(spec: Path, text: str) -> None:
    path = spec.with_name("t.lock.yaml")
    path.write_text(text)
    ((code, _, line, _, message),) = said(spec)
    assert (code, line) == ("P423", 1)
    assert message == (
        f"{path} is no lock that this patchclamp reads; write it with: patchclamp lock {spec}"
    )


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "line", "column", "what"),
    [
        ("words.csv", "w3", "w5", 5, 3, "the stimulus set 'words'"),
        ("llama/tokenizer.json", '"w59": 61', '"w59x": 61', 3, 13, "the model's tokenizer"),
        ("llama/config.json", '"vocab_size"', ' "vocab_size"', 3, 13, "the model's config"),
        ("t.yaml", "resid_post", "resid_pre", 1, 1, "the spec's digest"),
    ],
)
def test_what_changed_is_named_old_and_new(
    spec: Path, file: str, old: str, new: str, line: int, column: int, what: str
) -> None:
    before = make_lock(load(spec))["cells"][0]
    lock(spec)
    change(spec.parent / file, old, new)
    ((code, severity, at, _, message),) = said(spec)
    after = make_lock(load(spec))["cells"][0]
    hashes = {
        "the stimulus set 'words'": lambda cell: cell["stimuli_sha256"]["words"],
        "the model's tokenizer": lambda cell: cell["model"]["tokenizer_sha256"],
        "the model's config": lambda cell: cell["model"]["config_sha256"],
        "the spec's digest": lambda cell: cell["digest"],
    }[what]
    assert (code, severity, at) == ("P424", "error", line)
    assert message == (
        f"{what} changed since the lock was written: {hashes(before)[:12]} -> {hashes(after)[:12]}"
    )


def test_other_weights_are_told(spec: Path) -> None:
    lock(spec)
    shutil.copy(
        spec.parent / "gpt2" / "model.safetensors", spec.parent / "llama" / "model.safetensors"
    )
    ((code, _, line, column, message),) = said(spec)
    assert (code, line, column) == ("P424", 3, 13)
    assert message.startswith("the model's weights changed since the lock was written: ")


def test_a_file_that_an_analysis_names_is_pinned(spec: Path) -> None:
    change(spec, "groups: none}", "groups: none, labels: [id]}")
    ratings = spec.parent / "ratings.csv"
    ratings.write_text("a,b,dissimilarity\na,b,1\n")
    spec.write_text(
        spec.read_text() + "analyses:\n  g:\n    kind: rsa\n    test: {permute: id}\n"
        "    against: {m: {kind: continuous, column: id, ratings: ratings.csv}}\n"
    )
    lock(spec)
    assert said(spec) == []
    change(ratings, "b,1", "b,2")
    ((code, _, line, _, message),) = said(spec)
    assert (code, line) == ("P424", 12)
    assert message.startswith("the file 'ratings.csv' changed since the lock was written: ")


def test_another_model_is_told_once(spec: Path) -> None:
    lock(spec)
    change(spec, "id: llama", "id: gpt2")
    assert [(d[0], d[2], d[4]) for d in said(spec)][1:] == [
        ("P424", 3, "the model's id changed since the lock was written: llama -> gpt2")
    ]


def test_a_set_that_was_added_is_not_pinned(spec: Path) -> None:
    lock(spec)
    change(spec, "captures:", "  more: {kind: items, text: '{t}', items: [{t: w1}]}\ncaptures:")
    change(spec, "{site:", "{of: words, site:")
    assert [(d[0], d[2]) for d in said(spec)] == [("P424", 1), ("P423", 6)]
    assert said(spec)[1][4] == "the stimulus set 'more' is not pinned"


def test_another_version_of_a_package_is_a_warning(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(lock(spec), "torch: ", "torch: 1.0+")
    ((code, severity, _, _, message),) = said(spec)
    assert (code, severity) == ("P424", "warning")
    assert message.startswith("the version of torch changed since the lock was written: 1.0+")
    assert [warning.message for warning in refuse_unlocked(str(spec))] == [message]
    assert cli.main(["validate", "--locked", str(spec)]) == 0
    assert "1 spec, 1 valid, 0 errors, 1 warning" in capsys.readouterr().out
    cli.main(["run", "--locked", "--out", str(spec.parent / "runs"), str(spec)])
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: llama", "id: owner/nowhere",
         "'owner/nowhere' cannot be read, so it cannot be pinned"),
        ("words.csv", "gone.csv", "cannot read gone.csv: No such file or directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_cannot_be_pinned(
    spec: Path, old: str, new: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(spec.parent / "hub"))
    change(spec, old, new)
    with pytest.raises(SpecError) as caught:
        make_lock(load(spec))
    assert message in str(caught.value)
    assert not lock_path(load(spec)).exists()


def test_an_untrained_twin_has_no_weights_to_pin(spec: Path) -> None:
    change(spec, "id: llama", "id: llama, weights: random")
    assert make_lock(load(spec))["cells"][0]["model"]["weights_sha256"] is None


def test_the_lock_of_a_shipped_spec_is_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lock", "quickstart"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["quickstart.lock.yaml"]
    assert cli.main(["validate", "--locked", "quickstart"]) == 0


def test_a_lock_in_a_folder_is_no_spec(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock(spec)
    shutil.rmtree(spec.parent / "llama")
    capsys.readouterr()
    assert cli.main(["validate", str(spec.parent)]) == 0
    assert capsys.readouterr().out == "1 spec, 1 valid, 0 errors\n"


def test_a_lock_that_cannot_be_written(spec: Path) -> None:
    from patchclamp.engine.whole import write_whole

    with pytest.raises(StoreError, match=r"cannot write '.*gone/t.lock.yaml': No such file"):
        write_whole(spec.parent / "gone" / "t.lock.yaml", b"")
