"""Every spec of these tests gives on a server what it gives here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_remote import differences

import remote
from patchclamp.engine.plan import Plan
from patchclamp.engine.run import run
from patchclamp.registry import BACKENDS

SPECS, SHARED = Path(__file__).with_name("specs"), Path(__file__).resolve().parents[2] / "shared"
COMMIT = "c0ffee" + "0" * 34
STORIES = SHARED / "models" / "stories260k"

pytestmark = pytest.mark.skipif(
    not STORIES.is_dir(), reason="the material beside the project is not here"
)


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that holds the story model too, by the name that it has in a hub's cache."""
    hub = tmp_path_factory.mktemp("hub")
    snapshot = hub / "models--tiny--stories" / "snapshots" / COMMIT
    shutil.copytree(STORIES, snapshot)
    models = {**remote.BUNDLED, f"tiny/stories@{COMMIT}": str(snapshot)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
        with remote.serving(models=models) as served:
            yield served.url


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("choice_sequences", "ndif"),
        ("choice_stories", "ndif"),
        ("sequence_prompts", "ndif"),
        ("story_pronouns", "ndif"),
        ("story_pronouns", "ndif_trusted"),
        ("story_words", "ndif"),
    ],
)
def test_a_spec_gives_the_same_on_a_server(
    hosting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, backend: str
) -> None:
    monkeypatch.setenv("NDIF_HOST", hosting)
    path = SPECS / f"{name}.yaml"
    how = [f"model={{id: tiny/stories, revision: {COMMIT}}}"] if "stor" in name else []
    server = [*how, f"run.backend={backend}"]
    there = run(path, out=tmp_path, cache=tmp_path / "c1", overrides=server)
    # In the passes that it takes on a server.
    row = BACKENDS["nnsight"]._replace(past=BACKENDS[backend].past)
    monkeypatch.setitem(BACKENDS._entries, "nnsight", row)
    monkeypatch.setattr(Plan, "remote", True)
    here = run(path, out=tmp_path, cache=tmp_path / "c2", overrides=how)
    assert differences(there, here) == {}
