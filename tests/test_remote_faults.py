"""Whatever a server does: it is said, what may be tried again is, and no number is wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_remote import NDIF, SMALL, differences, written

import remote
from patchclamp.engine.cli import main
from patchclamp.engine.remote.doctor import server as look
from patchclamp.engine.remote.wire import Wire, shown
from patchclamp.engine.run import Result, run
from patchclamp.registry.errors import DetachedError, ModelError, RemoteError

KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"
WRONG = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

CAPTURE = SMALL.partition("interventions:")[0] + NDIF


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the spec gives here."""
    folder = tmp_path_factory.mktemp("here")
    text = CAPTURE.partition("run:")[0]
    return run(written(folder, text), out=folder, cache=folder / "cache")


class Study:
    """A spec with a cache of its own, and what a server said while it ran."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, [""]

    def run(self, text: str = CAPTURE, **given: Any) -> Result:
        def tell(what: str, done: int, total: int) -> None:
            self.said.append(what)

        how = {"out": self.folder, "cache": self.folder / "cache", "progress": tell}
        return run(written(self.folder, text), **how, **given)

    @property
    def heard(self) -> str:
        return "\n".join(self.said)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_a_queue_is_shown(server: remote.Served, study: Study) -> None:
    queue = ["Added to Queue at position 3.", "Moved to position 1 in Queue."]
    server.fails(queue=queue, delay=0.1)
    study.run()
    assert "QUEUED: Added to Queue at position 3." in study.heard
    assert "QUEUED: Moved to position 1 in Queue." in study.heard


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"submit": [500]}, "answered 500: Internal server error.; trying again in 0.01 s"),
        ({"submit": [429, 503]}, None),
        ({"submit": ["drop"]}, r"the connection to http://127.0.0.1:.* failed"),
        ({"look": ["drop", 502]}, "answered 502"),
        ({"result": ["half"]}, "failed .*trying again"),
        ({"result": ["garbage"]}, "a result that cannot be read came"),
        ({"result": [404]}, "does not know the job"),
        ({"lose": 1}, "does not know the job .*sending the request again"),
        ({"fail": ["Your job was cancelled or preempted by the server."]}, "preempted"),
        ({"fail": ["Your request payload could not be read (EOFError)."]}, "could not be read"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_passes_is_tried_again(
    server: remote.Served, study: Study, expected: Result, faults: dict[str, Any], said: str | None
) -> None:
    server.fails(**faults)
    text = CAPTURE.replace("attempts: 2", "attempts: 3")
    found = study.run(text)
    assert differences(found, expected) == {}
    if said is not None:
        assert any(re.search(said, line) for line in study.said), study.heard


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"submit": [500] * 2}, "answered 500: Internal server error.; tried 2 times; what was "),
        ({"submit": [413]}, r"refused the request \(413\): Internal server error"),
        ({"result": ["garbage"] * 2}, "a result that cannot be read came .*; tried 2 times"),
        ({"result": ["other"]}, r"sent something else than what was asked for: \['other'\]"),
        ({"fail": [""]}, r"failed in the block: it gave no reason \(outside our code\)"),
        ({"lose": 2}, r"does not know the job \(any more\); sent 2 times; what was measured"),
        (
            {"fail": ["Your job exceeded the execution timeout of 3600.0s."]},
            r"exceeded the execution timeout of 3600.0s. A smaller run.batch.tokens",
        ),
        (
            {"fail": ["Request cancelled by operator."]},
            r"http://127.0.0.1:\d+: Request cancelled by operator",
        ),
        (
            {"fail": ["Could not deploy this model. Repository Not Found"]},
            "does not hold the model: Could not deploy this model. Repository Not Found",
        ),
        (
            {"fail": ["The model architecture on this server doesn't match the one your code"]},
            "builds the model otherwise than it is built here, mostly because versions of",
        ),
        (
            {"break": 1},
            r"failed in the block: .*Error: .* \(body.py, line \d+, in \w+\)",
        ),
        (
            {"env": {"nnsight": "0.7.0", "torch": "2.1.0"}},
            r"other versions: nnsight 0.7.0 there, 0.8.\d+ here; torch 2.1.0 there, .* Install "
            "nnsight as it is there",
        ),
        (
            {"env": {"transformers": "4.51.0"}},
            r"transformers 4.51.0 there, 5.\S+ here. Install transformers as it is there",
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_does_not_pass_ends_the_run(
    server: remote.Served, study: Study, expected: Result, faults: dict[str, Any], said: str
) -> None:
    server.fails(**faults)
    text = CAPTURE if "break" not in faults else SMALL + NDIF
    with pytest.raises(RemoteError, match=said) as caught:
        study.run(text)
    assert caught.value.exit_code == 3
    server.fails()
    assert differences(study.run(), expected) == {}  # and the same command goes on


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"hang": 1}, "'RUNNING: .*' of a job for 0.2 s, .* the request will be sent again: what"),
        (
            {"queue": ["Added to Queue at position 9."], "delay": 1.0},
            "'QUEUED: Added to Queue at position 9.' of a job for 0.2 s, .* the job is remembered",
        ),
    ],
    ids=["running", "queued"],
)
def test_a_result_that_never_comes_is_given_up(
    server: remote.Served, study: Study, expected: Result, faults: dict[str, Any], said: str
) -> None:
    server.fails(**faults)
    with pytest.raises(RemoteError, match=said):
        study.run(CAPTURE.replace("patience: 20s", "patience: 0.2s"))
    remembered = list((study.folder / "cache" / "jobs").iterdir())
    assert len(remembered) == ("queue" in faults)
    server.fails()
    assert differences(study.run(), expected) == {}


def test_what_was_measured_before_a_failure_is_kept(server: remote.Served, study: Study) -> None:
    text = CAPTURE.replace("run: {", "run: {batch: {tokens: 4}, ")
    server.fails(fail=["boom"])
    with pytest.raises(RemoteError, match="failed in the block: boom"):
        study.run(text)
    before = server.events().count("request")
    study.run(text)
    other = Study(study.folder / "other")
    other.folder.mkdir()
    again = server.events().count("request")
    other.run(text)
    assert again - before < server.events().count("request") - again  # less than from the beginning


def test_batches_wait_beside_one_another(server: remote.Served, study: Study) -> None:
    before = len(server.events())
    study.run(CAPTURE.replace("run: {", "run: {batch: {tokens: 3}, "))
    events = server.events()[before:]
    assert events[:6] == ["env", "status", "request", "request", "request", "response"]


def test_a_server_that_restarts_is_sent_what_it_has_lost(
    server: remote.Served, study: Study, expected: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    with remote.serving() as first:
        monkeypatch.setenv("NDIF_HOST", first.url)
        first.fails(queue=["Added to Queue at position 2."], delay=60)
        with pytest.raises(DetachedError):
            study.run(detach=True)
    with pytest.raises(RemoteError, match=r"the connection to http://127\.0\.0\.1:\d+ failed"):
        study.run()
    with remote.serving(port=int(first.url.rpartition(":")[2])) as second:
        assert second.url == first.url
        assert differences(study.run(), expected) == {}
    assert "does not know the job (any more); sending the request again" in study.heard


def test_ctrl_c_ends_the_waiting_and_the_next_run_collects(
    server: remote.Served, study: Study, expected: Result
) -> None:
    server.fails(queue=["Added to Queue at position 2."] * 600, delay=0.1)
    path = written(study.folder, CAPTURE)
    command = [sys.executable, "-c", "from patchclamp.engine.cli import main; exit(main())"]
    command += ["run", str(path), "--out", str(study.folder)]
    cache = study.folder / "cache"
    environment = {**os.environ, "PATCHCLAMP_CACHE": str(cache)}
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, as these tests may be, would hand down that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(cache.glob("jobs/*.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert (process.returncode, "interrupted" in told) == (130, True), told
    sent = server.events().count("request")
    server.fails()
    assert differences(study.run(), expected) == {}
    clean, guards = 1, 2
    assert server.events().count("request") == sent + guards
    assert sent >= clean


def test_memory_that_runs_out_there_halves_the_batch(
    server: remote.Served, study: Study, expected: Result
) -> None:
    server.fails(fail=["Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate"])
    # Halves are batches of another shape, in which sums may round otherwise.
    assert all(value < 1e-5 for value in differences(study.run(), expected).values())


def test_another_precision_is_never_taken_for_the_one_asked_for(
    server: remote.Served, study: Study
) -> None:
    said = "in float32, and the spec asks for bfloat16: say 'dtype: float32' under 'model'"
    half = CAPTURE.replace("bundled:sequences\n", "{id: bundled:sequences, dtype: bfloat16}\n")
    with pytest.raises(ModelError, match=said):
        study.run(half)
    server.fails(status={})  # a server that does not say: its own embeddings do
    with pytest.raises(ModelError, match=said):
        study.run(half)


def test_a_model_that_is_not_hosted_is_named(server: remote.Served, study: Study) -> None:
    text = CAPTURE.replace("bundled:sequences\n", "bundled:sequences@step80\n")
    assert study.run(text).path.is_file()
    server.fails(status={"deployments": {}})
    made = study.run(CAPTURE)
    assert made.path.is_file()


def test_a_server_that_is_not_there(
    study: Study, monkeypatch: pytest.MonkeyPatch, server: remote.Served
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("NDIF_HOST", f"http://127.0.0.1:{port}")
    with pytest.raises(
        RemoteError, match=r"the connection to http://127.0.0.1:.* failed .*tried 2"
    ):
        study.run()
    monkeypatch.setenv("NDIF_HOST", "127.0.0.1")
    with pytest.raises(RemoteError, match="is no http:// or https:// address; it is taken from"):
        study.run()


@pytest.fixture(scope="module")
def guarded() -> Iterator[remote.Served]:
    """A server that wants a key."""
    with remote.serving(keys=[KEY]) as served:
        yield served


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "wants a key and there is none: put yours into NDIF_API_KEY"),
        (WRONG, r"does not take the key that it was given \(403\); look at NDIF_API_KEY"),
        ("not-a-key", r"does not take the key that it was given \(400\); look at NDIF_API_KEY"),
    ],
)
def test_keys_that_are_wrong_or_none(
    guarded: remote.Served,
    server: remote.Served,
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    said: str,
) -> None:
    monkeypatch.setenv("NDIF_HOST", guarded.url)
    monkeypatch.setenv("NDIF_API_KEY", key)
    with pytest.raises(RemoteError, match=said) as caught:
        study.run()
    assert not key or key not in str(caught.value)


def test_the_public_server_is_not_asked_without_a_key(
    server: remote.Served, monkeypatch: pytest.MonkeyPatch, study: Study
) -> None:
    monkeypatch.delenv("NDIF_HOST")
    monkeypatch.setattr("nnsight.CONFIG.API.HOST", "https://api.ndif.us")
    with pytest.raises(
        RemoteError, match=r"https://api.ndif.us wants a key and there is none: get"
    ):
        study.run()


def test_a_secret_is_written_nowhere(
    guarded: remote.Served, server: remote.Served, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = guarded.url.replace("http://", "http://user:hunter2@")
    monkeypatch.setenv("NDIF_HOST", secret)
    monkeypatch.setenv("NDIF_API_KEY", KEY)
    guarded.fails(fail=[f"a traceback\nValueError: {KEY} in {secret}/x?signature=abc"])
    with pytest.raises(RemoteError) as caught:
        study.run()
    guarded.fails(result=["garbage"], lose=1)
    study.run()
    told = "\n".join([str(caught.value), study.heard, repr(Wire(secret, KEY))])
    facts = "\n".join(map(str, look()))
    kept = [path.read_bytes() for path in study.folder.rglob("*") if path.is_file()]
    for word in (KEY, "hunter2", "signature=abc"):
        assert word not in told
        assert word not in facts
        assert not any(word.encode() in data for data in kept)
    assert shown(secret) == guarded.url


def test_the_doctor_says_what_there_is(
    server: remote.Served, guarded: remote.Served, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert main(["doctor", "--remote", "--format", "json"]) == 0
    told = capsys.readouterr().out
    assert "bundled:sequences@main" in told
    assert "as here" in told
    server.fails(env={"nnsight": "0.7.0"})
    assert main(["doctor", "--remote", "--format", "json"]) == 1
    assert "it must be the same" in capsys.readouterr().out
    monkeypatch.setenv("NDIF_HOST", guarded.url)
    monkeypatch.setenv("NDIF_API_KEY", KEY)
    assert any("known, ordinary: use ndif" in fact.value for fact in look())
    monkeypatch.setenv("NDIF_HOST", "ftp://nowhere")
    assert [fact.verdict for fact in look()] == ["WRONG"]
    assert main(["doctor", "--remote", "bundled:sequences"]) == 2
