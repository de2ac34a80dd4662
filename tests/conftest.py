"""Shared fixtures: the real material beside the project, where it is present."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes says something of the machine, not of what is tested.
hypothesis.settings.register_profile("patchclamp", deadline=None)
hypothesis.settings.load_profile("patchclamp")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: a pool of threads in each would only wait for the others.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# The suite is offline; the hub client reads this when it is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests measure anew: the user's own records are neither read nor written."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["PATCHCLAMP_CACHE"] = str(folder)
    return folder


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real models and stimuli kept beside the project; tests that need them skip without."""
    if not (SHARED / "models" / "stories260k").is_dir():
        pytest.skip("the material beside the project is not here")
    return SHARED


@pytest.fixture(scope="session")
def _server() -> Iterator[Any]:
    import remote

    with remote.serving() as served:
        yield served


@pytest.fixture
def server(_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that holds the bundled model, wants no key and does not fail."""
    from nnsight import CONFIG

    _server.fails()
    monkeypatch.setenv("NDIF_HOST", _server.url)
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    return _server


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Give a tiny random-weight model by its name in `tiny.TWINS`, made once."""
    import tiny

    made: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in made:
            made[name] = tiny.twin(name, tmp_path_factory.mktemp("twins") / name)
        return made[name]

    return of
