"""Models and datasets by their names, from a hub on loopback: real requests, real faults."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hub_server
import pytest
import xarray as xr
from hub_server import Hub

from patchclamp.registry import MODELS

SPEC = """\
patchclamp: 1
name: fetched
model: MODEL
stimuli:
  words: {kind: items, text: "{a} two three", items: [{a: one}, {a: five}]}
captures: {resid: {of: words, site: resid_post}}
"""
DATA = """\
patchclamp: 1
name: fetched
model: bundled:sequences
stimuli:
  words: {kind: hub, dataset: DATASET, text: "{q} two", labels: [n]}
captures: {resid: {of: words, site: resid_post}}
"""
DRIVER = """\
import contextlib, io, json, sys
from patchclamp.engine.cli import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
"""Runs commands, one after the other: a hub's client reads its environment once in a process."""


@dataclass
class Client:
    """A process that has not the settings of the tests, and the folder that it works in."""

    process: subprocess.Popen[str]
    folder: Path

    def run(self, *command: str, spec: str | None = None) -> tuple[int, str]:
        """Return the exit code of a command, and what it says."""
        if spec is not None:
            path = self.folder / "spec.yaml"
            path.write_text(spec)
            command = (*command, str(path))
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        code, out, err = json.loads(self.process.stdout.readline())
        return code, out + err

    def result(self) -> dict[str, Any]:
        """Return what the newest result says of how it was made."""
        newest = max(self.folder.glob("runs/*/*/result.nc"), key=lambda path: path.stat().st_mtime)
        made: dict[str, Any] = json.loads(xr.open_datatree(newest).attrs["provenance"])
        return made


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    for revision in ("main", "step80"):
        shutil.copytree(MODELS["bundled:sequences"].path(revision), folder / revision)
        (folder / revision / "pytorch_model.bin").write_bytes(b"a pickle")
        (folder / revision / "modeling_sequences.py").write_text("raise SystemExit")
    shutil.copytree(folder / "main", folder / "copied")
    (folder / "copied" / "README.md").write_text("another commit of the same weights")
    with hub_server.serving() as hub:
        keys = {"sequences": "", "gated": "hf_reader", "closed": "hf_other", "failing": ""}
        for name, key in keys.items():
            revisions = {name: folder / name for name in ("main", "step80", "copied")}
            hub.add("models", f"lab/{name}", key, **revisions)
        yield hub


@pytest.fixture(autouse=True)
def sound(hub: Hub) -> None:
    hub.faults.clear()
    hub.log.clear()


def started(hub: Hub, folder: Path, **more: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_reader", **more}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env={**kept, "PATCHCLAMP_CACHE": str(folder / "cache"), **own},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def client(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("client")
    with started(hub, folder) as process:
        yield Client(process, folder)
        process.stdin.close()  # type: ignore[union-attr]


def test_a_check_fetches_no_weights_and_a_run_no_pickle_and_no_code(
    hub: Hub, client: Client
) -> None:
    spec = SPEC.replace("MODEL", "lab/sequences@step80")
    assert client.run("validate", "--deep", spec=spec)[0] == 0
    asked = [line for line in hub.log if "/resolve/" in line]
    assert asked
    assert not any(".safetensors" in line for line in asked)
    assert client.run("run", spec=spec)[0] == 0
    fetched = [line.rsplit("/", 1)[1] for line in hub.log if line.startswith("GET /lab/")]
    assert "model.safetensors" in fetched
    assert not any(name.endswith((".bin", ".py")) for name in fetched)
    made = client.result()["model"]
    assert made["id"] == "lab/sequences"
    (repository,) = [one for one in hub.repositories if one.name == "lab/sequences"]
    assert made["revision"] == repository.commit("step80")
    assert repository.commit("step80") != repository.commit("main")


def test_what_was_fetched_is_there_without_the_hub(hub: Hub, client: Client) -> None:
    spec = SPEC.replace("MODEL", "lab/sequences@step80")
    assert client.run("run", spec=spec)[0] == 0
    before = client.result()
    hub.log.clear()
    with started(hub, client.folder, HF_HUB_OFFLINE="1") as process:
        offline = Client(process, client.folder)
        again = spec.replace("site: resid_post", "site: z")  # measured anew
        assert offline.run("run", spec=again)[0] == 0
        assert client.result()["model"] == before["model"]
        code, said = offline.run("run", spec=SPEC.replace("MODEL", "lab/other"))
        assert code == 1
        assert "the local cache does not hold it, and HF_HUB_OFFLINE forbids to ask" in said
        process.stdin.close()  # type: ignore[union-attr]
    assert not hub.log


def test_two_revisions_of_the_same_weights_are_refused(hub: Hub, client: Client) -> None:
    grid = "matrix: {grid: {model.revision: [main, copied]}}\n"
    code, said = client.run("run", spec=SPEC.replace("MODEL", "lab/sequences") + grid)
    assert code == 1
    assert "error[P426]" in said
    different = grid.replace("copied", "step80")
    assert client.run("plan", spec=SPEC.replace("MODEL", "lab/sequences") + different)[0] == 0


def test_what_a_lock_pins_is_refused_once_the_hub_has_moved(hub: Hub, client: Client) -> None:
    spec = SPEC.replace("MODEL", "lab/sequences")
    assert client.run("lock", spec=spec)[0] == 0
    (repository,) = [one for one in hub.repositories if one.name == "lab/sequences"]
    pinned = repository.commit("main")
    assert pinned is not None
    assert pinned in next(client.folder.glob("*.lock*")).read_text()
    assert client.run("run", "--locked", spec=spec)[0] == 0
    before = dict(repository.revisions)
    repository.revisions["main"] = before["step80"]
    code, said = client.run("run", "--locked", spec=spec)
    moved = repository.commit("main")
    repository.revisions |= before
    assert code == 1
    assert moved is not None
    assert "error[P424]" in said
    assert f"changed since the lock was written: {pinned[:8]}" in said
    assert moved[:8] in said


def test_a_doctor_examines_a_model_of_the_hub(client: Client) -> None:
    code, said = client.run("doctor", "lab/gated")
    assert code == 0, said
    assert "resid_post" in said


CLOSED = (
    "its page asks for terms to be accepted: do that, and give your key with 'hf auth login' or "
    "HF_TOKEN"
)


@pytest.mark.parametrize(
    ("model", "faults", "message"),
    [
        ("lab/nowhere", {}, "P408.*the hub has nothing of that name, or it is private: check the"),
        ("lab/sequences@step81", {}, "P409.*'lab/sequences' has no revision 'step81' on the hub"),
        ("lab/closed", {}, f"P408.*{CLOSED}"),
        ("lab/failing", {"/api/models": 500}, "P408.*500 .*run the same command again"),
        ("lab/failing", {"/api/models": 403}, "refuses to give it .403.: give your key"),
        ("lab/failing", {"/api/models": 429}, "asks for fewer requests: wait for some"),
        (
            "lab/failing",
            {"model.safetensors": "cut"},
            r"P408.*received \d+ bytes.*kept: run the same command again",
        ),
    ],
)
def test_a_hub_that_fails_is_an_error_that_says_what_to_do(
    hub: Hub, client: Client, model: str, faults: dict[str, Any], message: str
) -> None:
    hub.faults |= faults
    code, said = client.run("run", spec=SPEC.replace("MODEL", model))
    assert code == 1
    assert re.search(message, said), said


def test_a_download_that_was_cut_off_goes_on(hub: Hub, client: Client) -> None:
    spec = SPEC.replace("MODEL", "lab/gated@step80")
    hub.faults["model.safetensors"] = "cut"
    assert client.run("run", spec=spec)[0] == 1
    hub.faults.clear()
    assert client.run("run", spec=spec)[0] == 0
    weights = client.result()["model"]["weights_sha256"]
    assert client.run("run", spec=SPEC.replace("MODEL", "bundled:sequences@step80"))[0] == 0
    assert client.result()["model"]["weights_sha256"] == weights


def test_a_download_whose_process_was_killed_goes_on(hub: Hub, client: Client) -> None:
    folder = MODELS["bundled:sequences"].path("main")
    made = hub.add("models", "lab/killed", "", main=folder)
    (client.folder / "spec.yaml").write_text(SPEC.replace("MODEL", "lab/killed"))
    hub.faults["model.safetensors"] = "stall"
    hub.stalled.clear()
    with started(hub, client.folder) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(["run", "spec.yaml"]) + "\n")
        process.stdin.flush()
        assert hub.stalled.wait(60)
        process.kill()
    hub.faults.clear()
    hub.log.clear()
    assert client.run("run", "spec.yaml")[0] == 0
    # Files come beside one another: what of the small ones the kill left out comes again, too.
    fetched = [line for line in hub.log if "/resolve/" in line and line.startswith("GET")]
    assert fetched.count(f"GET /lab/killed/resolve/{made.commit('main')}/model.safetensors") == 1
    same = client.result()["model"]["weights_sha256"]
    assert client.run("run", spec=SPEC.replace("MODEL", "bundled:sequences"))[0] == 0
    assert client.result()["model"]["weights_sha256"] == same


@pytest.fixture(scope="module")
def texts(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Give the commits of a dataset: an older one, and the newest."""
    datasets = pytest.importorskip("datasets", reason="the extra 'hub' is not installed")
    folder = tmp_path_factory.mktemp("texts")
    for number, revision in enumerate(("older", "main")):
        rows = {"q": [f"{('one', 'ten')[number]} {n}" for n in (1, 2, 3)], "n": [1, 2, 3]}
        (folder / revision / "data").mkdir(parents=True)
        for part in ("train", "test"):
            table = datasets.Dataset.from_dict(rows).select(range(3 if part == "train" else 2))
            table.to_parquet(folder / revision / "data" / f"{part}-00000-of-00001.parquet")
    held = {revision: folder / revision for revision in ("older", "main")}
    repository = hub.add("datasets", "lab/texts", "", **held)
    hub.add("datasets", "lab/cut", "", main=folder / "main")
    older, newest = (repository.commit(revision) for revision in ("older", "main"))
    assert older is not None
    assert newest is not None
    return older, newest


def test_a_dataset_is_read_at_its_revision_and_split(
    client: Client, texts: tuple[str, str]
) -> None:
    newest = DATA.replace("DATASET", "lab/texts, split_name: train")
    pinned = DATA.replace("DATASET", f"lab/texts, split_name: test, revision: {texts[0]}")
    found = []
    for spec in (newest, pinned):
        code, said = client.run("run", spec=spec)
        assert code == 0, said
        results = client.folder.glob("runs/*/*/result.nc")
        path = max(results, key=lambda path: path.stat().st_mtime)
        group = xr.open_dataset(path, group="/stimuli/words")
        found.append((group["text"].to_numpy().tolist(), group["n"].to_numpy().tolist()))
    assert found == [
        (["ten 1 two", "ten 2 two", "ten 3 two"], ["1", "2", "3"]),
        (["one 1 two", "one 2 two"], ["1", "2"]),
    ]


@pytest.mark.parametrize(
    ("dataset", "faults", "message"),
    [
        ("lab/nowhere", {}, "'lab/nowhere' doesn't exist .*: check the name, or give your"),
        ("lab/texts, split_name: dev", {}, "Unknown split"),
        (f"lab/texts, revision: {'a' * 40}", {}, f"Revision '{'a' * 40}' doesn't exist"),
        ("lab/cut", {"/api/datasets": 500}, "500 .*; what has been fetched is kept: run the same"),
        ("lab/cut", {"train-0": "cut"}, "received .*; what has been fetched is kept: run the same"),
    ],
)
def test_a_dataset_that_cannot_be_had_says_why(
    hub: Hub,
    client: Client,
    texts: tuple[str, str],
    dataset: str,
    faults: dict[str, Any],
    message: str,
) -> None:
    hub.faults |= faults
    code, said = client.run("run", spec=DATA.replace("DATASET", dataset))
    assert code == 1
    assert "error[P401]" in said
    assert re.search(message, said), said


def test_a_lock_pins_the_rows_of_a_dataset(
    hub: Hub, client: Client, texts: tuple[str, str]
) -> None:
    spec = DATA.replace("DATASET", "lab/texts")
    assert client.run("lock", spec=spec)[0] == 0
    assert client.run("validate", "--locked", spec=spec)[0] == 0
    (repository,) = [one for one in hub.repositories if one.name == "lab/texts"]
    before = dict(repository.revisions)
    repository.revisions["main"] = before["older"]
    code, said = client.run("run", "--locked", spec=spec)
    repository.revisions |= before
    assert code == 1
    assert "the stimulus set 'words' changed since the lock was written" in said
