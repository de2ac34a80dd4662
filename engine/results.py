"""Stored results: found by a file or a run's folder, opened lazily, read by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xarray as xr

from patchclamp.engine.beside import DATA, with_data
from patchclamp.engine.store import ENGINE
from patchclamp.registry.errors import StoreError, hint

RESULT = "result.nc"
"""Name of the result in a run's folder."""


@dataclass(frozen=True)
class StoredResult:
    """A result file that is open: its datasets by group, read when their values are asked for.

    `groups` has paths such as `/analyses/decode`. Close it, or use it in a `with` statement.
    """

    path: Path
    attrs: Mapping[str, Any]
    groups: Mapping[str, xr.Dataset]
    _tree: xr.DataTree = field(repr=False)

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """How its numbers were made; empty where the file does not say."""
        found = json.loads(str(self.attrs.get("provenance", "{}")))
        return found if isinstance(found, dict) else {}

    @cached_property
    def made(self) -> Mapping[str, Any]:
        """The provenance; of a result of several runs, with what they share in its place."""
        cells = [cell["provenance"] for cell in self.cells if "provenance" in cell]
        parts = cells or self.provenance.get("merged", {}).get("runs", [])
        return {**(common(parts) if parts else {}), **self.provenance}

    @property
    def cells(self) -> Sequence[Mapping[str, Any]]:
        """The cells of a matrix, each with its `label`, and `failed` where it did."""
        return tuple(self.provenance.get("cells", ()))

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec with every default spelled out; empty where the file does not say."""
        return dict(self.provenance.get("resolved") or {})

    @property
    def analyses(self) -> Mapping[str, xr.Dataset]:
        """The results of all analyses, by name."""
        start = "/analyses/"
        return {
            path.removeprefix(start): data
            for path, data in self.groups.items()
            if path.startswith(start)
        }

    def analysis(self, name: str) -> xr.Dataset:
        """Return the result of an analysis."""
        return self._group("analyses", name)

    def capture(self, name: str) -> xr.Dataset:
        """Return a capture, which is read from the file where it is used.

        A large one lies in a file beside the result; raises `StoreError` where that is missing.
        """
        data = self._group("captures", name)
        if not data.data_vars and DATA in data.attrs:
            raise StoreError(
                f"the numbers of capture {name!r} are not in {str(self.path)!r} but in "
                f"{data.attrs[DATA]!r} beside it, which is not there: copy the whole folder"
            )
        return self._with_tokens(data)

    def _with_tokens(self, data: xr.Dataset) -> xr.Dataset:
        """Return a capture with the text of its tokens, `token_text`, by the table of its set."""
        known = self.groups.get(f"/stimuli/{data.attrs.get('stimuli')}")
        if "token_id" not in data.coords or known is None or "token_text" not in known:
            return data
        ids = data["token_id"].to_numpy()
        table = dict(zip(known["token"].to_numpy().tolist(), known["token_text"].to_numpy(),
                         strict=True))  # fmt: skip
        texts = np.array([table.get(int(one), "") for one in ids.ravel()], dtype=str)
        return data.assign_coords(token_text=(data["token_id"].dims, texts.reshape(ids.shape)))

    @property
    def captures(self) -> tuple[str, ...]:
        """The names of the captures that it holds."""
        start = "/captures/"
        return tuple(path.removeprefix(start) for path in self.groups if path.startswith(start))

    def stimuli(self, name: str) -> xr.Dataset:
        """Return a stimulus set: texts, labels and tokens."""
        return self._group("stimuli", name)

    def _group(self, sort: str, name: str) -> xr.Dataset:
        known = [path.split("/")[2] for path in self.groups if path.startswith(f"/{sort}/")]
        if name not in known:
            raise StoreError(f"{self.path} has no {sort}/{name}{hint(name, known)}")
        return self.groups[f"/{sort}/{name}"]

    def figures(self, name: str) -> tuple[Any, ...]:
        """Return the figures of an analysis, or of a capture if no analysis has the name.

        A notebook shows them, `save` writes them.
        """
        from patchclamp.engine.figures import sketches

        captured = name in self.captures and name not in self.analyses
        return tuple(sketches(self.capture(name) if captured else self.analysis(name)))

    def __str__(self) -> str:
        head = [str(self.attrs.get("title", self.path.name)), f"  {self.path}"]
        about = self._about()
        head += [f"  {about}"] if about else []
        return "\n".join([*head, *(f"  {path}: {text}" for path, text in self._contents())])

    def _about(self) -> str:
        return " · ".join(str(self.attrs[n]) for n in ("model", "created_at") if n in self.attrs)

    def _contents(self) -> list[tuple[str, str]]:
        """Return what each group holds: its variables with their dims."""
        return [
            (
                path.removeprefix("/"),
                ", ".join(f"{n}({', '.join(map(str, v.dims))})" for n, v in data.data_vars.items()),
            )
            for path, data in self.groups.items()
        ]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'><code>{escape(path)}</code></td>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for path, text in self._contents()
        )
        title = escape(str(self.attrs.get("title", self.path.name)))
        return f"<b>{title}</b><div>{escape(self._about())}</div><table>{rows}</table>"

    def close(self) -> None:
        """Close the file, and those of captures beside it."""
        for data in self.groups.values():
            data.close()
        self._tree.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_result(given: str | Path) -> StoredResult:
    """Open a result: its file, the folder of its run, or a folder that holds one run.

    Raises `StoreError` where there is none, or more than one.
    """
    path = find_result(given)
    try:
        tree = xr.open_datatree(path, engine=ENGINE)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"cannot read {str(path)!r} as a result: {reason}") from error
    groups = {
        node.path: node.to_dataset() for node in tree.subtree if node.data_vars or not node.children
    }
    groups = {
        name: with_data(data, path) if DATA in data.attrs else data for name, data in groups.items()
    }
    attrs = {str(name): value for name, value in tree.attrs.items()}
    return StoredResult(path, attrs, groups, tree)


def common(parts: Sequence[Any]) -> Any:
    """Return the part of nested data that all parts share.

    >>> common([{"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}}])
    {'a': 1, 'b': {'c': 2}}
    """
    first, *others = parts
    if not isinstance(first, Mapping):
        return first
    shared = {}
    for key, value in first.items():
        values = [other.get(key) for other in others]
        if all(other == value for other in values):
            shared[key] = value
        elif isinstance(value, Mapping) and all(isinstance(other, Mapping) for other in values):
            shared[key] = common([value, *values])
    return shared


def find_result(given: str | Path) -> Path:
    """Return the result file that a path means."""
    path = Path(given)
    if not path.is_dir():
        if not path.exists():
            raise StoreError(f"there is no result {str(given)!r}: no such file or folder")
        return path
    if (path / RESULT).exists():
        return path / RESULT
    found = sorted(path.glob(f"*/{RESULT}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise StoreError(f"there is no {RESULT} in the folder {str(given)!r}")
    runs = ", ".join(run.parent.name for run in found)
    raise StoreError(f"{str(given)!r} holds {len(found)} runs; name one of them: {runs}")
