"""The wheel holds what the folders hold, imports go one way, doors are all that is public."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest

import patchclamp.analyses
import patchclamp.engine
import patchclamp.registry
import patchclamp.specs

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("registry", "specs", "analyses", "engine")
"""In the order in which they may import: each only those before it, and itself."""

HEAVY = {"torch", "transformers", "nnsight", "safetensors", "tokenizers", "huggingface_hub"}
ARRAYS = {"numpy", "xarray", "scipy", "sklearn", "netCDF4", "rich", "matplotlib"}


def modules(folder: str) -> list[str]:
    package = importlib.import_module(f"patchclamp.{folder}")
    inside = pkgutil.walk_packages(package.__path__, f"patchclamp.{folder}.")
    return [f"patchclamp.{folder}", *(info.name for info in inside)]


ALL_MODULES = [name for folder in FOLDERS for name in modules(folder)]


def imported(path: Path) -> set[str]:
    """Every absolute module name that a file imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_go_one_way(folder: str) -> None:
    may = FOLDERS[: FOLDERS.index(folder) + 1]
    for path in sorted((ROOT / folder).rglob("*.py")):
        names = imported(path)
        ours = {name.split(".")[1] for name in names if name.startswith("patchclamp.")}
        assert ours <= set(may), f"{path} imports {ours - set(may)}"
        top = {name.split(".")[0] for name in names}
        if folder != "engine":
            assert not top & HEAVY, f"{path} imports {top & HEAVY}"
        if folder in ("registry", "specs"):
            assert not top & ARRAYS, f"{path} imports {top & ARRAYS}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_door_is_all_that_is_public(folder: str) -> None:
    package = importlib.import_module(f"patchclamp.{folder}")
    assert package.__doc__
    assert len(package.__all__) <= 10
    submodules = {name.split(".")[2] for name in modules(folder)[1:]}
    # What doors that open late need for it, and nobody else.
    late = {"TYPE_CHECKING", "Any", "ModuleType", "load", "sys"}
    late = late if folder in ("engine", "registry") else set()
    public = {name for name in vars(package) if not name.startswith("_")}
    assert public - submodules - late <= set(package.__all__)
    for name in package.__all__:
        assert not isinstance(getattr(package, name), ModuleType)


def test_the_engine_door_gives_functions_whatever_was_imported_first() -> None:
    script = (
        "import patchclamp.engine.run, patchclamp.engine.plan; "
        "from patchclamp.engine import plan, run; print(run.__name__, plan.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["run", "make_plan"]


@pytest.mark.parametrize("name", ALL_MODULES)
def test_examples_in_docstrings_run_by_installed_name(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    assert doctest.testmod(module).failed == 0


def test_a_module_stays_readable() -> None:
    """300 lines are the limit, 400 need a reason, and none has one."""
    long = {
        str(path.relative_to(ROOT)): count
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_every_reference_in_the_tables_can_be_loaded() -> None:
    from patchclamp.registry.table import load

    for analysis in patchclamp.registry.ANALYSES.values():
        functions = (analysis.readings, analysis.analyse) if analysis.implemented else ()
        for reference in (analysis.spec, *functions):
            assert load(str(reference)).__doc__
    for metric in patchclamp.registry.METRICS.values():
        assert metric.function is None or load(metric.function).__doc__
    for backend in patchclamp.registry.BACKENDS.values():
        assert backend.factory is None or load(backend.factory).__doc__


def test_the_wheel_holds_what_the_folders_hold(tmp_path: Path) -> None:
    """A folder that setuptools is not told of is silently missing from a wheel."""
    copy = tmp_path / "source"
    ignored = shutil.ignore_patterns(
        ".git", "runs", ".venv", "*.egg-info", "build", "__pycache__", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {n for n in archive.namelist() if ".dist-info/" not in n}
    expected = {
        f"patchclamp/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == expected


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *chain.from_iterable(project["optional-dependencies"].values()),
    ]
    names = {_bare(requirement) for requirement in wanted}
    pins = (ROOT / "tests" / "constraints.txt").read_text().splitlines()
    pinned = {_bare(line) for line in pins if line and not line.startswith("#")}
    assert names <= pinned
    assert all("==" in line for line in pins if line and not line.startswith("#"))


def _bare(requirement: str) -> str:
    for mark in "<>=![; ":
        requirement = requirement.split(mark)[0]
    return requirement.strip().lower().replace("_", "-")
