"""Datasets of the hub, from folders in its formats; and what is said where they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from patchclamp.engine import hub
from patchclamp.engine.deep import check_deep
from patchclamp.engine.problems import Problems
from patchclamp.engine.stimuli import StimulusTable, read_stimuli
from patchclamp.specs.load import loads

SPEC = """\
patchclamp: 1
name: t
model: bundled:sequences
stimuli:
  asked:
    kind: hub
    dataset: DATA
    text: "{question} {choices_text[1]}"
    labels: [n, right]
    groups: none
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets", reason="the extra 'hub' is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows: dict[str, list[Any]] = {
        "question": [f"q{n}" for n in range(25)],
        "choices": [{"text": [f"a{n}", f"b{n}"], "label": ["A", "B"]} for n in range(25)],
        "n": list(range(25)),
        "right": [n % 2 for n in range(25)],
        "made": [{"on": None}] * 25,
    }
    table = datasets.Dataset.from_dict(rows)
    table = table.cast_column("right", datasets.ClassLabel(names=["no", "yes"]))
    (tmp_path / "data").mkdir()
    table.to_parquet(tmp_path / "data" / "train.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "parts")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "train.csv").write_text("question,n\n1,2\n3,4,5\n")
    return tmp_path


def read(folder: Path, change: dict[str, str], **options: Any) -> tuple[StimulusTable | None, Any]:
    text = SPEC
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    problems = Problems(loads(text, "t.yaml", folder))
    tables = read_stimuli(problems, 0, **options)
    return tables.get("asked"), [(d.code, d.severity, d.message) for d in problems.found]


@pytest.mark.parametrize("data", ["data", "saved", "parts"])
def test_nested_columns_and_class_labels_are_columns_by_name(folder: Path, data: str) -> None:
    table, found = read(folder, {"DATA": data})
    assert not found
    assert table is not None
    assert table.texts[:2] == ("q0 b0", "q1 b1")
    assert table.labels["n"][-1] == "24"
    assert table.labels["right"][:3] == ("no", "yes", "no")
    assert (table.ids[0], table.ids[-1]) == ("00", "24")


def test_no_more_is_read_than_the_first_that_are_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "BLOCK", 4)
    frozen, seen = hub.frozen, []

    def watched(value: Any) -> Any:
        seen.append(value)
        return frozen(value)

    monkeypatch.setattr(hub, "frozen", watched)
    first = "groups: none\n    where: n > 2\n    take: {n: 3, draw: first}"
    table, found = read(folder, {"DATA": "data", "groups: none": first})
    assert not found
    assert table is not None
    assert table.ids == ("03", "04", "05")
    assert {value for value in seen if isinstance(value, int)} == set(range(8))
    # The same stimuli as where everything is read at once.
    monkeypatch.setattr(hub, "BLOCK", 100)
    assert read(folder, {"DATA": "data", "groups: none": first})[0] == table


def test_a_row_is_named_by_its_number_in_the_whole_dataset(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "BLOCK", 4)
    where = "groups: none\n    where: 1 // (n - 17) < 100"
    _, found = read(folder, {"DATA": "data", "groups: none": where})
    assert [(code, message[:7]) for code, _, message in found] == [("P416", "row 18:")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DATA": "data\n    split_name: test"}, 'Unknown split "test". Should be one of'),
        ({"DATA": "data\n    config: de"}, "BuilderConfig 'de' not found. Available: ['default']"),
        ({"DATA": "parts\n    split_name: test"}, "'test'"),
        ({"DATA": "owner/nowhere"}, "the local cache does not hold it, and HF_HUB_OFFLINE forbids"),
        ({"DATA": "torn"}, "Error tokenizing data. C error: Expected 2 fields in line 3, saw 3"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_reason(
    folder: Path, change: dict[str, str], message: str
) -> None:
    table, ((code, severity, told),) = read(folder, change)
    assert table is None
    assert (code, severity) == ("P401", "error")
    assert f"cannot read the dataset {change['DATA'].split()[0]!r}: {message}" in told


def test_a_folder_has_no_revisions(folder: Path) -> None:
    pinned = "data\n    revision: b08601e04326c79dfdd32d625aee71d232d685c3"
    _, found = read(folder, {"DATA": pinned})
    assert found == [("P401", "error", "the folder 'data' has no revisions")]


def test_a_path_that_is_no_folder_is_no_id_either(tmp_path: Path) -> None:
    _, ((code, _, told),) = read(tmp_path, {"DATA": "../nowhere"})
    assert code == "P401"
    assert told.startswith("'../nowhere' is neither a folder (")
    assert told.endswith("nowhere) nor an id, owner/name")


@pytest.mark.parametrize("name", ["csv", "json", "words"])
def test_no_reader_of_the_package_takes_what_lies_in_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder / "torn")
    _, ((code, _, told),) = read(folder, {"DATA": name})
    assert code == "P401"
    assert told.endswith("nor an id, owner/name")


def test_no_folder_of_the_working_directory_is_taken_for_a_dataset_of_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere" / "owner" / "texts").mkdir(parents=True)
    (folder / "elsewhere" / "owner" / "texts" / "train.csv").write_text("question,n\nq,1\n")
    monkeypatch.chdir(folder / "elsewhere")
    table, ((code, _, told),) = read(folder, {"DATA": "owner/texts"})
    assert table is None
    assert code == "P401"
    assert told.startswith("the working directory holds 'owner/texts', which would be read instead")


def test_without_the_extra_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    _, found = read(tmp_path, {"DATA": "owner/texts"})
    message = "stimuli of the hub need the package 'datasets': pip install 'patchclamp[hub]'"
    assert found == [("P401", "error", message)]


def test_checking_a_spec_fetches_no_dataset(tmp_path: Path) -> None:
    text = SPEC.replace("DATA", "owner/texts")
    (told,) = check_deep(loads(text, "t.yaml", tmp_path)).diagnostics
    assert (told.code, told.severity) == ("P419", "warning")
    message = "the dataset 'owner/texts' cannot be checked here: datasets of the hub are not"
    assert told.message.startswith(message)
