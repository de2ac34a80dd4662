"""docs/sites.md is what the tables say, and its example works."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "sites.md").read_text(encoding="utf-8")


def writer() -> Any:
    spec = spec_from_file_location("docs_sites", DOCS / "sites.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_registry() -> None:
    assert writer().written(PAGE) == PAGE, "run: python docs/sites.py"
    assert "`gpt_neox` (use_parallel_residual: true)" in PAGE
    assert "none: attention and MLP read the stream in parallel" in PAGE


def test_the_example_of_a_plugin_adds_a_row() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    given: dict[str, Any] = {}
    exec(example, given)
    (row,) = given["ARCHITECTURES"]
    assert (row.name, row.model_type, "z" in row.sites) == ("gemma", "", True)


def test_every_verdict_is_explained() -> None:
    from typing import get_args

    from patchclamp.engine.examination import Verdict

    for verdict in get_args(Verdict):
        assert re.search(rf"^\| {verdict} \|", PAGE, flags=re.MULTILINE)
